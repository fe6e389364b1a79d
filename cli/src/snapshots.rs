//! Snapshots of virtual machines, and machines that are cloned.

use clap::{Args, Subcommand};
use quantix_api::{
    ChangeSnapshot, CloneVm, NewSnapshot, RemoveSnapshot, RevertVm, Scope, Snapshot, Vm, calls,
};

use crate::{
    Failure, Session,
    cluster::{confirmed, done},
    folders,
    shown::{self, Output},
    storage::in_units,
    vms::find,
    waiting,
};

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Show those of one, the oldest first.
    List {
        /// Name or id.
        vm: String,
    },
    /// Make one. A machine that is on goes on running.
    Make {
        /// Name or id.
        vm: String,
        /// What it is called.
        name: String,
        /// What it is for.
        #[arg(long, default_value = "")]
        description: String,
        /// Keep the memory of a machine that is on, too.
        #[arg(long)]
        memory: bool,
        /// Ask the guest to hold its file systems meanwhile; its agent must answer.
        #[arg(long)]
        freeze: bool,
        /// Do not wait until it is made.
        #[arg(long)]
        no_wait: bool,
    },
    /// Give one another name, or other words.
    Change {
        /// Name or id of the machine.
        vm: String,
        /// Name or id of the snapshot.
        snapshot: String,
        /// Another name.
        #[arg(long)]
        name: Option<String>,
        /// What it is for.
        #[arg(long)]
        description: Option<String>,
    },
    /// Take a machine back to one. What it is now is lost.
    Revert {
        /// Name or id of the machine.
        vm: String,
        /// Name or id of the snapshot.
        snapshot: String,
        /// Start it then; one whose memory was kept goes on in any case.
        #[arg(long)]
        start: bool,
        /// The machine's name, instead of being asked for it.
        #[arg(long)]
        confirm: Option<String>,
        /// Do not wait until it is done.
        #[arg(long)]
        no_wait: bool,
    },
    /// Remove one. The machine stays as it is.
    Remove {
        /// Name or id of the machine.
        vm: String,
        /// Name or id of the snapshot.
        snapshot: String,
        /// Remove those with it that came after it, too.
        #[arg(long)]
        children: bool,
        /// Do not wait until it is done.
        #[arg(long)]
        no_wait: bool,
    },
}

/// A machine that is cloned.
#[derive(Debug, Args)]
pub(crate) struct Clone {
    /// Name or id.
    vm: String,
    /// What the new machine is called.
    name: String,
    /// The snapshot it begins as; without one, the machine as it is now.
    #[arg(long)]
    snapshot: Option<String>,
    /// Let its disks share what they have in common with the first machine's, instead of being copied whole.
    #[arg(long)]
    linked: bool,
    /// The folder it goes into, as in Production/Web; / for none. Without it, the first machine's.
    #[arg(long)]
    folder: Option<String>,
    /// Start it at once.
    #[arg(long)]
    start: bool,
    /// Do not wait until it is made.
    #[arg(long)]
    no_wait: bool,
}

/// A snapshot by its name or its id.
async fn find_snapshot(session: &Session, vm: &Vm, named: &str) -> Result<Snapshot, Failure> {
    let all = session.call(calls::snapshots(&vm.id)).await?.items;
    let is_id = format!("vm/{named}").parse::<Scope>().is_ok();
    let is_it = |snapshot: &Snapshot| {
        if is_id { snapshot.id == named } else { snapshot.name.to_lowercase() == named.to_lowercase() }
    };
    let nothing = || Failure::Said(format!("{} has no snapshot {named}", vm.spec.name));
    all.into_iter().find(is_it).ok_or_else(nothing)
}

pub(crate) async fn run(session: &Session, command: Command, output: Output) -> Result<(), Failure> {
    match command {
        Command::List { vm } => list(session, &vm, output).await,
        Command::Make { vm, name, description, memory, freeze, no_wait } => {
            let vm = find(session, &vm).await?;
            let new = NewSnapshot { name, description, memory, freeze };
            let task = session.call(calls::make_snapshot(&vm.id, &new)).await?;
            waiting::shown_to_its_end(session, task, no_wait, output).await
        }
        Command::Change { vm, snapshot, name, description } => {
            let vm = find(session, &vm).await?;
            let snapshot = find_snapshot(session, &vm, &snapshot).await?;
            let change = ChangeSnapshot { name, description };
            let call = calls::change_snapshot(&vm.id, &snapshot.id, &change).if_version(snapshot.version);
            let changed = session.call(call).await?;
            if output == Output::Json { Ok(shown::json(&changed)?) } else { done(output, "Saved.") }
        }
        Command::Revert { vm, snapshot, start, confirm, no_wait } => {
            let vm = find(session, &vm).await?;
            let snapshot = find_snapshot(session, &vm, &snapshot).await?;
            let warning = format!("It is taken back to {}. What it is now is lost.", snapshot.name);
            confirmed(&vm.spec.name, confirm, &warning)?;
            let call = calls::revert_vm(&vm.id, &snapshot.id, &RevertVm { start });
            let task = session.call(call).await?;
            waiting::shown_to_its_end(session, task, no_wait, output).await
        }
        Command::Remove { vm, snapshot, children, no_wait } => {
            let vm = find(session, &vm).await?;
            let snapshot = find_snapshot(session, &vm, &snapshot).await?;
            let call = calls::remove_snapshot(&vm.id, &snapshot.id, &RemoveSnapshot { children });
            let task = session.call(call).await?;
            waiting::shown_to_its_end(session, task, no_wait, output).await
        }
    }
}

async fn list(session: &Session, vm: &str, output: Output) -> Result<(), Failure> {
    let vm = find(session, vm).await?;
    let all = session.call(calls::snapshots(&vm.id)).await?.items;
    let named = |id: &Option<String>| {
        let parent = all.iter().find(|other| Some(&other.id) == id.as_ref());
        parent.map(|parent| parent.name.clone()).unwrap_or_default()
    };
    shown::list(output, &["NAME", "AFTER", "MADE", "MEMORY", "TAKES", "NOW", "ID"], &all, |one| {
        vec![
            one.name.clone(),
            named(&one.parent),
            one.made_at.strftime("%Y-%m-%d %H:%M UTC").to_string(),
            if one.has_memory { "kept" } else { "" }.to_owned(),
            one.bytes.map(in_units).unwrap_or_default(),
            if one.is_current { "here" } else { "" }.to_owned(),
            one.id.clone(),
        ]
    })
}

/// Clones a machine.
pub(crate) async fn clone(session: &Session, asked: Clone, output: Output) -> Result<(), Failure> {
    let vm = find(session, &asked.vm).await?;
    let snapshot = match &asked.snapshot {
        Some(named) => Some(find_snapshot(session, &vm, named).await?.id),
        None => None,
    };
    let folder = match &asked.folder {
        Some(path) => folders::find(session, path).await?.map(|folder| folder.id),
        None => vm.folder,
    };
    let body = CloneVm { name: asked.name, folder, snapshot, linked: asked.linked, start: asked.start };
    let task = session.call(calls::clone_vm(&vm.id, &body)).await?;
    waiting::shown_to_its_end(session, task, asked.no_wait, output).await
}
