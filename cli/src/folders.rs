//! The folders that virtual machines are in.

use clap::Subcommand;
use quantix_api::{ChangeFolder, Folder, NewFolder, calls};

use crate::{
    Failure, Session,
    cluster::done,
    shown::{self, Output},
};

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Show all folders.
    List,
    /// Make a folder.
    Make {
        /// Where, as in Production/Web: the folder around it is there already.
        path: String,
    },
    /// Give a folder another name.
    Rename {
        /// Which.
        path: String,
        /// Its new name.
        name: String,
    },
    /// Put a folder into another, with all that is in it.
    Move {
        /// Which.
        path: String,
        /// Into which; / for none.
        to: String,
    },
    /// Remove a folder that is empty.
    Remove {
        /// Which.
        path: String,
    },
}

/// The folder of a path; nothing for `/`.
pub(crate) async fn find(session: &Session, path: &str) -> Result<Option<Folder>, Failure> {
    let folders = session.call(calls::folders()).await?.items;
    let mut found: Option<Folder> = None;
    for name in path.split('/').map(str::trim).filter(|name| !name.is_empty()) {
        let parent = found.as_ref().map(|folder| folder.id);
        let inner = folders
            .iter()
            .find(|folder| folder.parent == parent && folder.name.to_lowercase() == name.to_lowercase());
        found = Some(inner.cloned().ok_or_else(|| Failure::Said(format!("there is no folder {path}")))?);
    }
    Ok(found)
}

async fn this_folder(session: &Session, path: &str) -> Result<Folder, Failure> {
    find(session, path).await?.ok_or_else(|| Failure::Said("name a folder, as in Production/Web".into()))
}

pub(crate) async fn run(command: Command, output: Output) -> Result<(), Failure> {
    let session = Session::open()?;
    match command {
        Command::List => {
            let folders = session.call(calls::folders()).await?.items;
            shown::list(output, &["NUMBER", "NAME", "IN", "MACHINES"], &folders, |folder| {
                vec![
                    folder.id.to_string(),
                    folder.name.clone(),
                    folder.parent.map(|parent| parent.to_string()).unwrap_or_default(),
                    folder.vms.to_string(),
                ]
            })
        }
        Command::Make { path } => {
            let path = path.trim_matches('/');
            let (around, name) = path.rsplit_once('/').unwrap_or(("", path));
            let parent = find(&session, around).await?.map(|folder| folder.id);
            let made = session.call(calls::make_folder(&NewFolder { name: name.to_owned(), parent })).await?;
            done(output, &format!("The folder {} is made.", made.name))
        }
        Command::Rename { path, name } => {
            let folder = this_folder(&session, &path).await?;
            let body = ChangeFolder { name: Some(name), parent: None };
            let changed =
                session.call(calls::change_folder(folder.id, &body).if_version(folder.version)).await?;
            done(output, &format!("The folder is named {}.", changed.name))
        }
        Command::Move { path, to } => {
            let moved = this_folder(&session, &path).await?;
            let parent = find(&session, &to).await?.map(|folder| folder.id);
            let body = ChangeFolder { name: None, parent: Some(parent) };
            session.call(calls::change_folder(moved.id, &body).if_version(moved.version)).await?;
            done(output, &format!("{} is somewhere else now, with all that is in it.", moved.name))
        }
        Command::Remove { path } => {
            let folder = this_folder(&session, &path).await?;
            session.call(calls::remove_folder(folder.id).if_version(folder.version)).await?;
            done(output, &format!("The folder {} is removed.", folder.name))
        }
    }
}
