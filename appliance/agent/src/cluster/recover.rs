//! Going on without hosts that are lost for good, when too few are left to agree on anything.
//!
//! A note beside the store says so, and the host starts again: only a store that nothing has open can be changed so. The
//! note stays until the lost hosts' keys are gone as well, so a power cut in between changes nothing.

use std::{fs, io, path::Path};

use quantix_api::{Problem, ProblemCode};
use quantix_store::Address;

use super::{Cluster, kept};
use crate::{
    audit::{self, Line},
    durable,
};

const NOTE: &str = "go-on-alone";

impl Cluster {
    /// Makes this host a cluster of its own with all it has, and starts again. What only the lost hosts had is lost.
    pub(crate) async fn go_on_alone(&self, line: &Line) -> Result<(), Problem> {
        let _only = self.only_change()?;
        let status = self.store()?.status();
        if status.writable {
            let sentence =
                "Enough hosts answer: there is nothing to recover from. Remove hosts that are lost for good.";
            return Err(Problem::new(ProblemCode::Invalid, sentence));
        }
        let me = status.members.iter().find(|member| member.id == status.id);
        let address = me.map(|member| member.address.0.clone()).unwrap_or_default();
        let note = serde_json::to_vec(&(address, line)).map_err(|error| not_written(&error))?;
        durable::write(&self.folder.join(NOTE), &note).map_err(|error| not_written(&error))?;
        log::warn!("This host goes on alone; {} told it to", line.actor);
        self.start_again.notify_one();
        Ok(())
    }

    /// Does what the note says to the store, before it is opened.
    pub(super) fn recover_if_told(&self) -> Result<(), String> {
        if self.alone_from_now_on()?.is_some() {
            return Ok(());
        }
        let Some((address, _)) = read(&self.folder)? else { return Ok(()) };
        let store = self.folder.join("store");
        quantix_store::recover(&store, Address(address)).map_err(|error| error.to_string())?;
        fs::rename(self.folder.join(NOTE), self.folder.join(DONE)).map_err(|error| error.to_string())
    }

    fn alone_from_now_on(&self) -> Result<Option<Line>, String> {
        Ok(read_from(&self.folder.join(DONE))?.map(|(_, line)| line))
    }

    /// Takes the lost hosts' keys away, once this host leads.
    pub(crate) async fn forget_lost_hosts(&self, term: u64) -> Result<(), Problem> {
        let Ok(Some(line)) = self.alone_from_now_on() else { return Ok(()) };
        let me = self.store()?.id();
        self.write_in(term, move |connection| {
            for host in kept::hosts(connection)?.into_iter().filter(|host| host.id != me) {
                kept::remove_host(connection, host.id)?;
            }
            audit::note(connection, &line)
        })
        .await?;
        fs::remove_file(self.folder.join(DONE)).map_err(|error| not_written(&error))
    }
}

/// Says of a store that was restored that only this host belongs to it.
pub(super) fn note_that_it_is_alone(folder: &Path, line: &Line) -> io::Result<()> {
    durable::write(&folder.join(DONE), &serde_json::to_vec(&(String::new(), line))?)
}

/// The store has been changed; the hosts' keys are still to go.
const DONE: &str = "alone";

fn read(folder: &Path) -> Result<Option<(String, Line)>, String> {
    read_from(&folder.join(NOTE))
}

fn read_from(path: &Path) -> Result<Option<(String, Line)>, String> {
    match fs::read(path) {
        Ok(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(|error| error.to_string()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error.to_string()),
    }
}

fn not_written(error: &dyn std::fmt::Display) -> Problem {
    Problem::new(ProblemCode::StorageUnavailable, format!("This could not be written down: {error}."))
}
