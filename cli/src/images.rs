//! Images.

use std::{
    fs::File,
    io::{self, Write},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use clap::Subcommand;
use quantix_api::{
    Catalogue, ChangeImage, FetchImage, Image, MAX_PIECE_BYTES, NewImage, RemoveImage, SetCatalogue, calls,
};

use crate::{
    Failure, Session, answered,
    cluster::{confirmed, find as find_host},
    connection::CallError,
    sent::Sent,
    shown::{self, Output},
    storage::{find_pool, in_units},
    waiting,
};

#[derive(Debug, Subcommand)]
pub(crate) enum ImageCommand {
    /// Show the images.
    List,
    /// Show one.
    Show {
        /// Name or id.
        image: String,
    },
    /// Bring one from a file: qcow2, raw, vmdk, vhdx or vhd, packed or not. Begun again, it goes on where it was.
    Upload {
        /// The file.
        file: PathBuf,
        /// Its name; that of the file, if none is said.
        #[arg(long)]
        name: Option<String>,
        /// The pool it goes into, on the host that is asked.
        #[arg(long, default_value = "local")]
        pool: String,
        /// The SHA-256 that the file shall have.
        #[arg(long)]
        sha256: Option<String>,
        /// Do not wait until it is ready.
        #[arg(long)]
        no_wait: bool,
    },
    /// Show what is offered: by distributions, or by a catalogue of your own.
    Catalogue,
    /// Offer what is at an address instead, in the form in which the catalogue is told as JSON.
    SetCatalogue {
        /// The https address.
        url: String,
        /// It, and what it offers, may be in a private network.
        #[arg(long)]
        allow_private: bool,
        /// A file with the certificate of an authority that vouches for whoever has it.
        #[arg(long, value_name = "FILE")]
        authority: Option<PathBuf>,
    },
    /// Offer what distributions offer again.
    ResetCatalogue,
    /// Fetch one from an address, or one that a distribution offers.
    Fetch {
        /// An https address, or a name from the catalogue, as in debian-13.
        from: String,
        /// Its name; that of the file, if none is said.
        #[arg(long)]
        name: Option<String>,
        /// The pool it goes into.
        #[arg(long, default_value = "local")]
        pool: String,
        /// The host that fetches it.
        #[arg(long)]
        host: Option<String>,
        /// The SHA-256 or SHA-512 that the file shall have.
        #[arg(long)]
        checksum: Option<String>,
        /// The address of a list of checksums in which that of the file is.
        #[arg(long, conflicts_with = "checksum")]
        checksums: Option<String>,
        /// Also from a private network.
        #[arg(long)]
        allow_private: bool,
        /// A file with the certificate of an authority that vouches for whoever has it.
        #[arg(long, value_name = "FILE")]
        authority: Option<PathBuf>,
        /// Do not wait until it is ready.
        #[arg(long)]
        no_wait: bool,
    },
    /// Give one another name, or say what is on it.
    Change {
        /// Name or id.
        image: String,
        /// Its new name.
        #[arg(long)]
        name: Option<String>,
        /// The distribution, as in debian; nothing for one that is not known.
        #[arg(long)]
        os: Option<String>,
        /// The version of that.
        #[arg(long)]
        os_version: Option<String>,
    },
    /// Remove one. Disks that began as copies of it stay.
    Remove {
        /// Name or id.
        image: String,
        /// Its name, instead of being asked for it.
        #[arg(long)]
        confirm: Option<String>,
        /// Do not wait until it is gone.
        #[arg(long)]
        no_wait: bool,
    },
}

/// An image by its name or its id.
pub(crate) async fn find(session: &Session, image: &str) -> Result<Image, Failure> {
    let all = session.call(calls::images()).await?.items;
    let found =
        all.into_iter().find(|one| one.id == image || one.name.to_lowercase() == image.to_lowercase());
    found.ok_or_else(|| Failure::Said(format!("there is no image {image}; qx image list shows them")))
}

pub(crate) async fn run(command: ImageCommand, output: Output) -> Result<(), Failure> {
    let session = Session::open()?;
    match command {
        ImageCommand::List => {
            let images = session.call(calls::images()).await?.items;
            let head = ["NAME", "STATE", "SYSTEM", "DISK", "POOL", "HOST", "ID"];
            shown::list(output, &head, &images, |image| {
                vec![
                    image.name.clone(),
                    image.state.name().to_owned(),
                    system(image),
                    image.bytes.map(in_units).unwrap_or_default(),
                    image.pool_name.clone(),
                    image.host_name.clone(),
                    image.id.clone(),
                ]
            })
        }
        ImageCommand::Show { image } => {
            let id = find(&session, &image).await?.id;
            show(&session.call(calls::image(&id)).await?, output)
        }
        ImageCommand::Upload { file, name, pool, sha256, no_wait } => {
            let pool = find_pool(&session, &pool).await?.id;
            let image = begin(&session, &file, name, pool, sha256).await?;
            bring(&session, &image, &file).await?;
            let task = session.call(calls::finish_image(&image.id)).await?;
            waiting::shown_to_its_end(&session, task, no_wait, output).await
        }
        ImageCommand::Change { image, name, os, os_version } => {
            let image = find(&session, &image).await?;
            let change = ChangeImage { name, os, os_version };
            let call = calls::change_image(&image.id, &change).if_version(image.version);
            show(&session.call(call).await?, output)
        }
        ImageCommand::Catalogue => show_catalogue(&session.call(calls::catalogue()).await?, output),
        ImageCommand::SetCatalogue { url, allow_private, authority } => {
            let authority = match authority {
                Some(file) => std::fs::read_to_string(&file).map_err(|error| unread(&file, &error))?,
                None => String::new(),
            };
            let body = SetCatalogue { url, allow_private, authority };
            show_catalogue(&session.call(calls::set_catalogue(&body)).await?, output)
        }
        ImageCommand::ResetCatalogue => {
            session.call(calls::reset_catalogue()).await?;
            show_catalogue(&session.call(calls::catalogue()).await?, output)
        }
        ImageCommand::Fetch {
            from,
            name,
            pool,
            host,
            checksum,
            checksums,
            allow_private,
            authority,
            no_wait,
        } => {
            let mut wanted = FetchImage {
                name: name.unwrap_or_default(),
                pool: find_pool(&session, &pool).await?.id,
                checksum: checksum.unwrap_or_default(),
                checksums: checksums.unwrap_or_default(),
                allow_private,
                ..FetchImage::default()
            };
            if let Some(file) = authority {
                wanted.authority = std::fs::read_to_string(&file).map_err(|error| unread(&file, &error))?;
            }
            if let Some(host) = host {
                wanted.host = Some(find_host(&session.call(calls::cluster()).await?, &host)?.id.clone());
            }
            let catalogue = session.call(calls::catalogue()).await?;
            match catalogue.items.into_iter().find(|offer| offer.id == from) {
                Some(offer) => {
                    if let Some(source) = catalogue.from {
                        wanted.allow_private |= source.allow_private;
                        if wanted.authority.is_empty() {
                            wanted.authority = source.authority;
                        }
                    }
                    wanted.url = offer.url;
                    if wanted.checksum.is_empty() && wanted.checksums.is_empty() {
                        wanted.checksums = offer.checksums;
                    }
                    if wanted.name.is_empty() {
                        wanted.name = offer.name;
                    }
                }
                None => wanted.url = from,
            }
            let task = session.call(calls::fetch_image(&wanted)).await?;
            waiting::shown_to_its_end(&session, task, no_wait, output).await
        }
        ImageCommand::Remove { image, confirm, no_wait } => {
            let image = find(&session, &image).await?;
            confirmed(
                &image.name,
                confirm,
                "It cannot be brought back. Disks that began as copies of it stay.",
            )?;
            let body = RemoveImage { name: image.name };
            let task = session.call(calls::remove_image(&image.id, &body)).await?;
            waiting::shown_to_its_end(&session, task, no_wait, output).await
        }
    }
}

fn show_catalogue(catalogue: &Catalogue, output: Output) -> Result<(), Failure> {
    if output == Output::Json {
        return Ok(shown::json(catalogue)?);
    }
    shown::list(output, &["ID", "NAME", "USER", "FILE"], &catalogue.items, |offer| {
        vec![offer.id.clone(), offer.name.clone(), offer.user.clone(), offer.url.clone()]
    })
}

fn system(image: &Image) -> String {
    format!("{} {}", image.os, image.os_version).trim().to_owned()
}

fn unread(file: &Path, error: &io::Error) -> Failure {
    Failure::Said(format!("{} cannot be read: {error}", file.display()))
}

/// The image that the file becomes: one that was begun before, or a new one.
async fn begin(
    session: &Session,
    file: &Path,
    name: Option<String>,
    pool: String,
    sha256: Option<String>,
) -> Result<Image, Failure> {
    let length = std::fs::metadata(file).map_err(|error| unread(file, &error))?.len();
    let file = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let name = name.unwrap_or_else(|| file.clone());
    session.call(calls::make_image(&NewImage { name, file, pool, length, sha256 })).await
}

/// How long pieces are, by how long the last one took.
const FIRST_PIECE: u64 = 4 << 20;
const LEAST_PIECE: u64 = 256 << 10;
const SHORT: Duration = Duration::from_millis(500);
const LONG: Duration = Duration::from_secs(5);

/// Brings what has not come yet.
async fn bring(session: &Session, image: &Image, path: &Path) -> Result<(), Failure> {
    let file = File::open(path).map_err(|error| unread(path, &error))?;
    let mut arrived = session.call(calls::image_arrived(&image.id)).await?;
    let (mut size, mut line) = (FIRST_PIECE, None);
    while arrived.bytes < arrived.length {
        let there = file.metadata().map_err(|error| unread(path, &error))?.len();
        let next = size.min(there.saturating_sub(arrived.bytes)).min(arrived.length - arrived.bytes);
        if next == 0 {
            return Err(Failure::Said(format!("{} has become shorter", path.display())));
        }
        let piece = file.try_clone().and_then(|file| Sent::part(file, arrived.bytes, next));
        let piece = piece.map_err(|error| unread(path, &error))?;
        let begin = Instant::now();
        let call = calls::bring_image(&image.id, arrived.bytes, Vec::new()).as_session(&session.token);
        let (mut open, was_used) = match line.take() {
            Some(open) => (open, true),
            None => (session.host.line().await?, false),
        };
        arrived = match open.call(&call, |_| piece).await {
            // A line that ended, or became slow: what has come of the piece has come.
            Err(broken @ CallError::Unreachable { .. }) => {
                let now = session.call(calls::image_arrived(&image.id)).await?;
                if !was_used && now.bytes == arrived.bytes {
                    return Err(broken.into());
                }
                now
            }
            done => {
                line = Some(open);
                answered(done)?
            }
        };
        // What a line brings at once, and how long whoever watches waits for the next word.
        size = match begin.elapsed() {
            took if took < SHORT => (size * 2).min(MAX_PIECE_BYTES as u64),
            took if took > LONG => (size / 2).max(LEAST_PIECE),
            _ => size,
        };
        let percent = arrived.bytes.saturating_mul(100) / arrived.length.max(1);
        // Whoever does not watch misses nothing.
        drop(write!(io::stderr(), "\r{percent:3} % of {}", in_units(arrived.length)));
    }
    drop(writeln!(io::stderr()));
    Ok(())
}

fn show(image: &Image, output: Output) -> Result<(), Failure> {
    if output == Output::Json {
        return Ok(shown::json(image)?);
    }
    let rows = [
        ["name".to_owned(), image.name.clone()],
        ["id".to_owned(), image.id.clone()],
        ["state".to_owned(), image.state.name().to_owned()],
        ["system".to_owned(), system(image)],
        ["disk".to_owned(), image.bytes.map(in_units).unwrap_or_default()],
        ["file".to_owned(), format!("{} ({})", image.file, in_units(image.length))],
        ["format".to_owned(), image.format.clone().unwrap_or_default()],
        ["sha256".to_owned(), image.sha256.clone().unwrap_or_default()],
        ["pool".to_owned(), format!("{} on {}", image.pool_name, image.host_name)],
        ["also on".to_owned(), image.also_on.join(", ")],
    ];
    let rows: Vec<_> = rows.into_iter().map(Vec::from).collect();
    Ok(shown::table(&["WHAT", "IS"], &rows)?)
}
