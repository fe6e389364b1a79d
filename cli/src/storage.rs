//! Pools and volumes.

use clap::Subcommand;
use quantix_api::{
    AddDisks, AdoptFile, ChangePool, ChangeVolume, FileBecomes, GrowVolume, HostDisk, HostDisks, MoveVolume,
    NewPool, NewVolume, Pool, PoolFile, PoolOnHost, PoolState, RemoveFile, RemovePool, RemoveVolume, Scope,
    Volume, VolumeQuery, calls,
};

use crate::{
    Failure, Session,
    cluster::{confirmed, done, find as find_host},
    shown::{self, Output},
    waiting,
};

#[derive(Debug, Subcommand)]
pub(crate) enum PoolCommand {
    /// Show the pools, and how each is on its hosts.
    List,
    /// Show one, and how it is on its hosts.
    Show {
        /// Name or id.
        pool: String,
    },
    /// Make one of whole disks of a host; qx host disks shows them.
    Make {
        /// Its name.
        name: String,
        /// The disks, by their ids.
        #[arg(required = true)]
        disks: Vec<String>,
        /// The host whose disks they are; this one, if none is named and there is no other.
        #[arg(long)]
        host: Option<String>,
        /// What is on the disks is lost. Without this, disks on which there is something are refused.
        #[arg(long)]
        erase: bool,
        /// Do not wait until it is made.
        #[arg(long)]
        no_wait: bool,
    },
    /// Make one bigger by whole disks of its host; qx host disks shows them.
    AddDisks {
        /// Name or id.
        pool: String,
        /// The disks, by their ids.
        #[arg(required = true)]
        disks: Vec<String>,
        /// What is on the disks is lost. Without this, disks on which there is something are refused.
        #[arg(long)]
        erase: bool,
        /// Do not wait until it is bigger.
        #[arg(long)]
        no_wait: bool,
    },
    /// Remove one in which nothing is. Its disks are empty then.
    Remove {
        /// Name or id.
        pool: String,
        /// Its name, instead of being asked for it.
        #[arg(long)]
        confirm: Option<String>,
        /// Do not wait until it is gone.
        #[arg(long)]
        no_wait: bool,
    },
    /// Show the files of one that is a directory, and to what each belongs.
    Files {
        /// Name or id.
        pool: String,
        /// The host; this one, if none is named and there is no other.
        #[arg(long)]
        host: Option<String>,
        /// Only those that nobody knows.
        #[arg(long)]
        unknown: bool,
    },
    /// Make a volume, or an image, of a file that nobody knows.
    Adopt {
        /// Name or id of the pool.
        pool: String,
        /// The file, as qx pool files shows it.
        path: String,
        /// The name of what it becomes.
        name: String,
        /// Make an image of it, and not a volume.
        #[arg(long)]
        image: bool,
        /// The host; this one, if none is named and there is no other.
        #[arg(long)]
        host: Option<String>,
        /// Do not wait until it is done.
        #[arg(long)]
        no_wait: bool,
    },
    /// Remove a file that nobody knows.
    RemoveFile {
        /// Name or id of the pool.
        pool: String,
        /// The file, as qx pool files shows it.
        path: String,
        /// The same, instead of being asked for it.
        #[arg(long)]
        confirm: Option<String>,
        /// The host; this one, if none is named and there is no other.
        #[arg(long)]
        host: Option<String>,
        /// Do not wait until it is gone.
        #[arg(long)]
        no_wait: bool,
    },
    /// Give a pool another name, or another limit.
    Change {
        /// Name or id.
        pool: String,
        /// Another name.
        #[arg(long)]
        name: Option<String>,
        /// From this share of its room on, in per cent, nothing new is put into it.
        #[arg(long)]
        limit: Option<u8>,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum VolumeCommand {
    /// Show the volumes.
    List {
        /// Only those in this pool.
        #[arg(long)]
        pool: Option<String>,
        /// Only those on this host.
        #[arg(long)]
        host: Option<String>,
        /// Only those that no virtual machine has.
        #[arg(long)]
        unused: bool,
        /// Only those in which this occurs.
        #[arg(long)]
        text: Option<String>,
    },
    /// Show one.
    Show {
        /// Name or id.
        volume: String,
    },
    /// Make one.
    Make {
        /// Its name.
        name: String,
        /// How big it is, as in 20G.
        #[arg(value_parser = size)]
        size: u64,
        /// The pool it goes into.
        #[arg(long, default_value = "local")]
        pool: String,
        /// The host it goes to; the one where the pool has most room, if none is named.
        #[arg(long)]
        host: Option<String>,
        /// Do not wait until it is made.
        #[arg(long)]
        no_wait: bool,
    },
    /// Give one another name.
    Rename {
        /// Name or id.
        volume: String,
        /// Its new name.
        name: String,
    },
    /// Make one bigger, also while a virtual machine uses it.
    Grow {
        /// Name or id.
        volume: String,
        /// How big it shall be, as in 40G.
        #[arg(value_parser = size)]
        size: u64,
        /// Do not wait until it is done.
        #[arg(long)]
        no_wait: bool,
    },
    /// Move one into another pool of its host, also while its machine is on.
    Move {
        /// Name or id.
        volume: String,
        /// The pool: name or id.
        pool: String,
        /// Do not wait until it is done.
        #[arg(long)]
        no_wait: bool,
    },
    /// Remove one, with all that is on it.
    Remove {
        /// Name or id.
        volume: String,
        /// Its name, instead of being asked for it.
        #[arg(long)]
        confirm: Option<String>,
        /// Do not wait until it is gone.
        #[arg(long)]
        no_wait: bool,
    },
}

/// A size in bytes, or with a unit behind it: K, M, G or T, each 1024 times the one before.
pub(crate) fn size(text: &str) -> Result<u64, String> {
    let wrong = || format!("{text} is no size; write it as in 20G");
    let unit = text.trim_end_matches(['i', 'B']).chars().last().ok_or_else(wrong)?;
    let power = match unit.to_ascii_uppercase() {
        'K' => 10,
        'M' => 20,
        'G' => 30,
        'T' => 40,
        _ => 0,
    };
    let number = text.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
    if power == 0 && number != text {
        return Err(wrong());
    }
    let number: u64 = number.parse().map_err(|_| wrong())?;
    number.checked_mul(1 << power).ok_or_else(wrong)
}

/// Bytes with the largest unit in which they are whole.
pub(crate) fn in_units(bytes: u64) -> String {
    let units = [(40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")];
    let whole = units.into_iter().find(|(power, _)| bytes > 0 && bytes.is_multiple_of(1 << power));
    whole.map_or_else(|| format!("{bytes} B"), |(power, unit)| format!("{} {unit}", bytes >> power))
}

/// Bytes in GiB, roughly.
fn roughly(bytes: u64) -> String {
    let tenths = bytes.saturating_mul(10) >> 30;
    format!("{}.{} GiB", tenths / 10, tenths % 10)
}

/// A pool by its name or its id.
pub(crate) async fn find_pool(session: &Session, pool: &str) -> Result<Pool, Failure> {
    let pools = session.call(calls::pools()).await?.items;
    let found =
        pools.into_iter().find(|one| one.id == pool || one.name.to_lowercase() == pool.to_lowercase());
    found.ok_or_else(|| Failure::Said(format!("there is no pool {pool}; qx pool list shows them")))
}

/// A volume by its name or its id.
pub(crate) async fn find_volume(session: &Session, volume: &str) -> Result<Volume, Failure> {
    if format!("volume/{volume}").parse::<Scope>().is_ok() {
        return session.call(calls::volume(volume)).await;
    }
    let query = VolumeQuery { text: Some(volume.to_owned()), limit: Some(1000), ..VolumeQuery::default() };
    let mut found = session.call(calls::volumes(&query)).await?.items;
    found.retain(|found| found.name.to_lowercase() == volume.to_lowercase());
    match found.len() {
        1 => Ok(found.remove(0)),
        0 => Err(Failure::Said(format!("there is no volume {volume}"))),
        _ => {
            let ids: Vec<_> = found.into_iter().map(|volume| volume.id).collect();
            Err(Failure::Said(format!(
                "several are named {volume}; take one of these ids: {}",
                ids.join(" ")
            )))
        }
    }
}

/// Pools in a table: a line for each host that has one.
fn show_pools(pools: &[Pool]) -> Result<(), Failure> {
    let row = |pool: &Pool, there: &PoolOnHost| {
        vec![
            pool.name.clone(),
            there.host_name.clone(),
            match there.state {
                PoolState::Missing => format!("missing since {}", there.since.strftime("%Y-%m-%d %H:%M UTC")),
                state => state.name().to_owned(),
            },
            roughly(there.used),
            roughly(there.capacity),
            roughly(there.promised),
            there.volumes.to_string(),
            format!("{} %", pool.limit),
        ]
    };
    let rows: Vec<_> =
        pools.iter().flat_map(|pool| pool.hosts.iter().map(move |there| row(pool, there))).collect();
    let head = ["POOL", "HOST", "STATE", "USED", "OF", "PROMISED", "VOLUMES", "LIMIT"];
    Ok(shown::table(&head, &rows)?)
}

fn show_files(files: &[PoolFile], output: Output) -> Result<(), Failure> {
    shown::list(output, &["FILE", "TAKES", "WRITTEN", "BELONGS TO"], files, |file| {
        vec![
            file.path.clone(),
            roughly(file.used),
            file.changed_at.strftime("%Y-%m-%d %H:%M UTC").to_string(),
            file.belongs_to.clone().unwrap_or_else(|| "nobody".to_owned()),
        ]
    })
}

/// The id of a host that is named, or of the only one.
async fn one_host(session: &Session, host: Option<&str>) -> Result<String, Failure> {
    let cluster = session.call(calls::cluster()).await?;
    match (host, cluster.hosts.as_slice()) {
        (Some(host), _) => Ok(find_host(&cluster, host)?.id.clone()),
        (None, [only]) => Ok(only.id.clone()),
        (None, _) => Err(Failure::Said("there are several hosts: name one with --host".to_owned())),
    }
}

/// Shows the disks of a host.
pub(crate) fn show_disks(disks: &HostDisks, output: Output) -> Result<(), Failure> {
    if output == Output::Json {
        return Ok(shown::json(disks)?);
    }
    let row = |disk: &HostDisk| {
        let kind = if disk.is_rotating { "hard disk" } else { "flash" };
        let cells = [
            &disk.id,
            &disk.path,
            &in_units(disk.bytes),
            kind,
            disk.usage.name(),
            &disk.holds,
            &disk.model,
            &disk.serial,
        ];
        cells.map(str::to_owned).to_vec()
    };
    let rows: Vec<_> = disks.items.iter().map(row).collect();
    Ok(shown::table(&["ID", "PATH", "SIZE", "KIND", "USE", "WHAT", "MODEL", "SERIAL"], &rows)?)
}

pub(crate) async fn pools(command: PoolCommand, output: Output) -> Result<(), Failure> {
    let session = Session::open()?;
    match command {
        PoolCommand::List => {
            let pools = session.call(calls::pools()).await?;
            match output {
                Output::Json => Ok(shown::json(&pools)?),
                Output::Table => show_pools(&pools.items),
            }
        }
        PoolCommand::Show { pool } => {
            let id = find_pool(&session, &pool).await?.id;
            let pool = session.call(calls::pool(&id)).await?;
            match output {
                Output::Json => Ok(shown::json(&pool)?),
                Output::Table => show_pools(&[pool]),
            }
        }
        PoolCommand::Make { name, disks, host, erase, no_wait } => {
            let host = one_host(&session, host.as_deref()).await?;
            let task = session.call(calls::make_pool(&NewPool { name, host, disks, erase })).await?;
            waiting::shown_to_its_end(&session, task, no_wait, output).await
        }
        PoolCommand::AddDisks { pool, disks, erase, no_wait } => {
            let pool = find_pool(&session, &pool).await?.id;
            let task = session.call(calls::add_disks(&pool, &AddDisks { disks, erase })).await?;
            waiting::shown_to_its_end(&session, task, no_wait, output).await
        }
        PoolCommand::Remove { pool, confirm, no_wait } => {
            let pool = find_pool(&session, &pool).await?;
            confirmed(&pool.name, confirm, "Its disks are empty then. This cannot be undone.")?;
            let task = session.call(calls::remove_pool(&pool.id, &RemovePool { name: pool.name })).await?;
            waiting::shown_to_its_end(&session, task, no_wait, output).await
        }
        PoolCommand::Files { pool, host, unknown } => {
            let pool = find_pool(&session, &pool).await?.id;
            let host = one_host(&session, host.as_deref()).await?;
            let mut files = session.call(calls::pool_files(&host, &pool)).await?;
            files.items.retain(|file| !unknown || file.belongs_to.is_none());
            show_files(&files.items, output)
        }
        PoolCommand::Adopt { pool, path, name, image, host, no_wait } => {
            let pool = find_pool(&session, &pool).await?.id;
            let host = one_host(&session, host.as_deref()).await?;
            let becomes = if image { FileBecomes::Image } else { FileBecomes::Volume };
            let body = AdoptFile { path, name, becomes };
            let task = session.call(calls::adopt_file(&host, &pool, &body)).await?;
            waiting::shown_to_its_end(&session, task, no_wait, output).await
        }
        PoolCommand::RemoveFile { pool, path, confirm, host, no_wait } => {
            let pool = find_pool(&session, &pool).await?.id;
            let host = one_host(&session, host.as_deref()).await?;
            confirmed(&path, confirm, "The file is removed, and cannot be brought back.")?;
            let task = session.call(calls::remove_file(&host, &pool, &RemoveFile { path })).await?;
            waiting::shown_to_its_end(&session, task, no_wait, output).await
        }
        PoolCommand::Change { pool, name, limit } => {
            let pool = find_pool(&session, &pool).await?;
            let body = ChangePool { name, limit };
            let pool = session.call(calls::change_pool(&pool.id, &body).if_version(pool.version)).await?;
            match output {
                Output::Json => Ok(shown::json(&pool)?),
                Output::Table => Ok(shown::line("Saved.")?),
            }
        }
    }
}

pub(crate) async fn volumes(command: VolumeCommand, output: Output) -> Result<(), Failure> {
    let session = Session::open()?;
    match command {
        VolumeCommand::List { pool, host, unused, text } => {
            let mut query = VolumeQuery {
                text,
                used: unused.then_some(false),
                limit: Some(1000),
                ..VolumeQuery::default()
            };
            if let Some(pool) = pool {
                query.pool = Some(find_pool(&session, &pool).await?.id);
            }
            if let Some(host) = host {
                query.host = Some(find_host(&session.call(calls::cluster()).await?, &host)?.id.clone());
            }
            list(&session, query, output).await
        }
        VolumeCommand::Show { volume } => show(&find_volume(&session, &volume).await?, output),
        VolumeCommand::Make { name, size, pool, host, no_wait } => {
            let pool = find_pool(&session, &pool).await?.id;
            let host = match &host {
                Some(host) => Some(find_host(&session.call(calls::cluster()).await?, host)?.id.clone()),
                None => None,
            };
            let task = session.call(calls::make_volume(&NewVolume { name, pool, host, bytes: size })).await?;
            waiting::shown_to_its_end(&session, task, no_wait, output).await
        }
        VolumeCommand::Rename { volume, name } => {
            let volume = find_volume(&session, &volume).await?;
            let call = calls::change_volume(&volume.id, &ChangeVolume { name: Some(name) });
            let changed = session.call(call.if_version(volume.version)).await?;
            done(output, &format!("The volume is named {}.", changed.name))
        }
        VolumeCommand::Grow { volume, size, no_wait } => {
            let volume = find_volume(&session, &volume).await?;
            let task = session.call(calls::grow_volume(&volume.id, &GrowVolume { bytes: size })).await?;
            waiting::shown_to_its_end(&session, task, no_wait, output).await
        }
        VolumeCommand::Move { volume, pool, no_wait } => {
            let volume = find_volume(&session, &volume).await?;
            let pool = find_pool(&session, &pool).await?.id;
            let task = session.call(calls::move_volume(&volume.id, &MoveVolume { pool })).await?;
            waiting::shown_to_its_end(&session, task, no_wait, output).await
        }
        VolumeCommand::Remove { volume, confirm, no_wait } => {
            let volume = find_volume(&session, &volume).await?;
            confirmed(
                &volume.name,
                confirm,
                "It is removed with all that is on it, and cannot be brought back.",
            )?;
            let body = RemoveVolume { name: volume.name };
            let task = session.call(calls::remove_volume(&volume.id, &body)).await?;
            waiting::shown_to_its_end(&session, task, no_wait, output).await
        }
    }
}

async fn list(session: &Session, mut query: VolumeQuery, output: Output) -> Result<(), Failure> {
    let mut volumes = Vec::new();
    loop {
        let page = session.call(calls::volumes(&query)).await?;
        volumes.extend(page.items);
        match page.next {
            Some(next) => query.after = Some(next),
            None => break,
        }
    }
    shown::list(
        output,
        &["NAME", "SIZE", "TAKES", "STATE", "POOL", "HOST", "MACHINE", "ID"],
        &volumes,
        |volume| {
            vec![
                volume.name.clone(),
                in_units(volume.bytes),
                volume.used.map(roughly).unwrap_or_default(),
                volume.state.name().to_owned(),
                volume.pool_name.clone(),
                volume.host_name.clone(),
                volume.vm_name.clone().unwrap_or_default(),
                volume.id.clone(),
            ]
        },
    )
}

fn show(volume: &Volume, output: Output) -> Result<(), Failure> {
    if output == Output::Json {
        return Ok(shown::json(volume)?);
    }
    let rows = [
        ["name".to_owned(), volume.name.clone()],
        ["id".to_owned(), volume.id.clone()],
        ["size".to_owned(), in_units(volume.bytes)],
        ["takes".to_owned(), volume.used.map_or_else(|| "not known yet".to_owned(), roughly)],
        ["state".to_owned(), volume.state.name().to_owned()],
        ["pool".to_owned(), format!("{} on {}", volume.pool_name, volume.host_name)],
        ["machine".to_owned(), volume.vm_name.clone().unwrap_or_else(|| "none has it".to_owned())],
        [
            "made".to_owned(),
            format!("{} by {}", volume.made_at.strftime("%Y-%m-%d %H:%M UTC"), volume.made_by),
        ],
    ];
    let rows: Vec<_> = rows.into_iter().map(Vec::from).collect();
    Ok(shown::table(&["WHAT", "IS"], &rows)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_with_their_units() {
        for (text, bytes) in
            [("20G", 20 << 30), ("20GiB", 20 << 30), ("512m", 512 << 20), ("4096", 4096), ("1T", 1 << 40)]
        {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        for wrong in ["", "G", "20X", "-1G", "1.5G", "99999999999T"] {
            assert!(size(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn sizes_are_shown_whole() {
        assert_eq!(in_units(20 << 30), "20 GiB");
        assert_eq!(in_units((20 << 30) + (1 << 20)), "20481 MiB");
        assert_eq!(in_units(513), "513 B");
        assert_eq!(in_units(0), "0 B");
    }
}
