//! What the guests of virtual machines are told when they start for the first time.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use quantix_api::{CloudInit, FetchSshKeys, calls};

use crate::{
    Failure, Session, ask_secret,
    cluster::done,
    shown::{self, Output},
    vms,
};

/// What can be said; what is not said stays.
#[derive(Debug, Args)]
pub(crate) struct Told {
    /// Who gets in; without a name whom the image is made for.
    #[arg(long)]
    user: Option<String>,
    /// Ask for a password.
    #[arg(long)]
    password: bool,
    /// A file with keys that let somebody in, as ~/.ssh/id_ed25519.pub; once for each.
    #[arg(long, value_name = "FILE")]
    ssh_key: Vec<PathBuf>,
    /// An https address at which such keys are, as services for code have them; once for each.
    #[arg(long, value_name = "URL")]
    ssh_keys_from: Vec<String>,
    /// Such an address may be in a private network.
    #[arg(long, requires = "ssh_keys_from")]
    ssh_keys_private: bool,
    /// What it calls itself; without it, by its name.
    #[arg(long)]
    hostname: Option<String>,
    /// The domain it is in.
    #[arg(long)]
    domain: Option<String>,
    /// A file with user-data of your own.
    #[arg(long, value_name = "FILE")]
    user_data: Option<PathBuf>,
    /// Let that replace all else, and not be merged with it.
    #[arg(long, requires = "user_data")]
    replace: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Show what the guest of one is told.
    Show {
        /// Name or id.
        vm: String,
    },
    /// Have the guest of one told something; it does so when the machine starts the next time.
    Set {
        /// Name or id.
        vm: String,
        #[command(flatten)]
        told: Told,
    },
    /// Have the guest of one told nothing any more.
    Remove {
        /// Name or id.
        vm: String,
    },
}

impl Told {
    /// What is said, laid over what is told already; nothing if nothing is said.
    pub(crate) async fn over(
        self,
        session: &Session,
        before: Option<CloudInit>,
    ) -> Result<Option<CloudInit>, Failure> {
        let read = |path: &PathBuf| {
            let failed = |error| Failure::Said(format!("{} cannot be read: {error}", path.display()));
            std::fs::read_to_string(path).map_err(failed)
        };
        let is_said = self.password
            || !self.ssh_key.is_empty()
            || !self.ssh_keys_from.is_empty()
            || self.user.is_some()
            || self.hostname.is_some()
            || self.domain.is_some()
            || self.user_data.is_some();
        if !is_said {
            return Ok(before);
        }
        let mut told = before.unwrap_or_default();
        for (slot, said) in [
            (&mut told.user, self.user),
            (&mut told.hostname, self.hostname),
            (&mut told.domain, self.domain),
        ] {
            if let Some(said) = said {
                *slot = said;
            }
        }
        if !self.ssh_key.is_empty() || !self.ssh_keys_from.is_empty() {
            told.ssh_keys.clear();
            for url in self.ssh_keys_from {
                let body = FetchSshKeys { url, allow_private: self.ssh_keys_private, ..Default::default() };
                told.ssh_keys.extend(session.call(calls::fetch_ssh_keys(&body)).await?.keys);
            }
            for path in &self.ssh_key {
                told.ssh_keys.extend(read(path)?.lines().map(str::to_owned));
            }
        }
        if let Some(path) = &self.user_data {
            told.user_data = read(path)?;
            told.user_data_replaces = self.replace;
        }
        if self.password {
            told.password = Some(ask_secret("Password for the guest: ")?);
        }
        Ok(Some(told))
    }
}

pub(crate) async fn run(session: &Session, command: Command, output: Output) -> Result<(), Failure> {
    match command {
        Command::Show { vm } => {
            let vm = vms::find(session, &vm).await?;
            let told = session.call(calls::cloud_init(&vm.id)).await?;
            show(&told, output)
        }
        Command::Set { vm, told } => {
            let vm = vms::find(session, &vm).await?;
            let before =
                if vm.has_cloud_init { Some(session.call(calls::cloud_init(&vm.id)).await?) } else { None };
            let nothing =
                || Failure::Said("say what it is to be told, for example with --user and --ssh-key".into());
            let told = told.over(session, before).await?.ok_or_else(nothing)?;
            session.call(calls::set_cloud_init(&vm.id, &told).if_version(vm.version)).await?;
            done(output, "Saved. The guest does so when the machine starts the next time.")
        }
        Command::Remove { vm } => {
            let vm = vms::find(session, &vm).await?;
            session.call(calls::remove_cloud_init(&vm.id).if_version(vm.version)).await?;
            done(output, "Its guest is told nothing any more.")
        }
    }
}

fn show(told: &CloudInit, output: Output) -> Result<(), Failure> {
    if output == Output::Json {
        return Ok(shown::json(told)?);
    }
    let mut rows = vec![
        ["user", told.user.as_str()],
        ["password", if told.keep_password { "set" } else { "none" }],
        ["host name", if told.hostname.is_empty() { "the machine's name" } else { &told.hostname }],
    ];
    if !told.domain.is_empty() {
        rows.push(["domain", &told.domain]);
    }
    rows.extend(told.ssh_keys.iter().map(|key| ["SSH key", key.as_str()]));
    for card in &told.network {
        rows.extend(card.addresses.iter().map(|address| ["address", address.as_str()]));
    }
    if !told.user_data.is_empty() {
        rows.push(["user-data", if told.user_data_replaces { "replaces ours" } else { "merged with ours" }]);
    }
    let rows: Vec<_> = rows.into_iter().map(|row| row.map(str::to_owned).to_vec()).collect();
    Ok(shown::table(&["WHAT", "IS"], &rows)?)
}
