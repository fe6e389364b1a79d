//! What a host asks of whoever leads, about its own machines.

use quantix_api::{Problem, TaskKind, VmAction};
use quantix_compute::{VmId, allowed};
use quantix_store::HostId;
use rusqlite::Connection;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{
    disks::Making,
    holding::{Dropping, Told},
    kept,
    sighting::{self, Sighting},
    snapshots,
};
use crate::{
    cluster::{self, Cluster, Refused},
    sessions::now_ms,
    tasks::{self, NewTask},
};

/// What is asked.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) enum Asked {
    /// That it is seen so.
    Sees(Box<Sighting>),
    /// That it has its place among the machines.
    Add { vm: String, making: Box<Making>, by: String },
    /// That it is forgotten.
    Forget { vm: String },
    /// That it is started.
    Start { vm: String, why: String },
    /// Something about its snapshots.
    Snapshot { vm: String, told: Box<Told> },
    /// That a snapshot goes which was made for a clone.
    DropSnapshot { vm: String, snapshot: String },
}

impl Cluster {
    pub(crate) async fn tell_sighting(&self, sighting: Sighting) -> Result<(), Problem> {
        self.ask_about_vm(Asked::Sees(Box::new(sighting))).await
    }

    pub(crate) async fn add_vm(&self, id: VmId, making: Making, by: &str) -> Result<(), Problem> {
        let asked = Asked::Add { vm: id.to_string(), making: Box::new(making), by: by.to_owned() };
        self.ask_about_vm(asked).await
    }

    pub(crate) async fn forget_vm(&self, id: VmId) -> Result<(), Problem> {
        self.ask_about_vm(Asked::Forget { vm: id.to_string() }).await
    }

    pub(crate) async fn tell_of_snapshot(&self, id: VmId, told: Told) -> Result<(), Problem> {
        self.ask_about_vm(Asked::Snapshot { vm: id.to_string(), told: Box::new(told) }).await
    }

    pub(crate) async fn drop_snapshot(&self, vm: String, snapshot: String) -> Result<(), Problem> {
        self.ask_about_vm(Asked::DropSnapshot { vm, snapshot }).await
    }

    pub(crate) async fn ask_for_start(&self, id: VmId, why: &str) -> Result<(), Problem> {
        self.ask_about_vm(Asked::Start { vm: id.to_string(), why: why.to_owned() }).await
    }

    /// Takes in what a host asks.
    pub(crate) async fn take_asked(&self, host: HostId, asked: Asked) -> Result<(), Problem> {
        self.write(move |connection| take(connection, host, &asked, now_ms())).await
    }
}

fn take(connection: &Connection, host: HostId, asked: &Asked, now_ms: i64) -> Result<(), Refused> {
    match asked {
        Asked::Sees(sighting) => sighting::take(connection, host, sighting, now_ms),
        Asked::Add { vm, making, by } => {
            let id = vm.parse().map_err(|_| kept::not_there())?;
            kept::add(connection, id, making, host, by, now_ms).map(drop)
        }
        Asked::Forget { vm } => match kept::find(connection, vm)? {
            // One whose host is gone for good is forgotten by whoever leads.
            Some(kept) if kept.host == host || kept::has_lost_its_host(connection, &kept)? => {
                kept::forget(connection, vm, now_ms)
            }
            _ => Ok(()),
        },
        Asked::Start { vm, why } => {
            let kept = kept::one(connection, vm)?;
            allowed(VmAction::Start, kept.state)
                .map_err(|refused| tasks::kept::conflict(refused.to_string()))?;
            begin(connection, host, kept, TaskKind::StartVm, json!({ "why": why }), now_ms)?;
            Ok(kept::want(connection, vm, true)?)
        }
        Asked::Snapshot { vm, told } => {
            let id = vm.parse().map_err(|_| kept::not_there())?;
            snapshots::take(connection, host, id, told)
        }
        Asked::DropSnapshot { vm, snapshot } => {
            let Some(there) = snapshots::find(connection, vm, snapshot)? else { return Ok(()) };
            let dropping = Dropping { name: there.shown.name, snapshots: vec![snapshot.clone()] };
            let params = serde_json::to_value(dropping).unwrap_or_default();
            begin(connection, host, kept::one(connection, vm)?, TaskKind::DeleteSnapshot, params, now_ms)
        }
    }
}

/// Makes a task that a host does with one of its machines by itself.
fn begin(
    connection: &Connection,
    host: HostId,
    vm: kept::Kept,
    kind: TaskKind,
    params: serde_json::Value,
    now_ms: i64,
) -> Result<(), Refused> {
    if vm.host != host {
        return Err(kept::not_there().into());
    }
    let hosts = cluster::kept::hosts(connection)?;
    let name = hosts.into_iter().find(|known| known.id == host).map(|known| known.name);
    let new = NewTask {
        kind,
        object: vm.scope(),
        object_name: vm.spec.name,
        host: Some(host),
        params,
        actor: name.unwrap_or_else(|| host.to_string()),
        address: String::new(),
    };
    tasks::kept::add(connection, &new, now_ms).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vms::kept::tests::{HOST, machine};

    #[test]
    fn a_host_asks_about_its_own_machines_only() {
        let (connection, id) = machine("web-01");
        let other = HostId(99);
        let start = Asked::Start { vm: id.clone(), why: "of a test".into() };
        assert!(take(&connection, other, &start, 1000).is_err());
        take(&connection, other, &Asked::Forget { vm: id.clone() }, 1000).unwrap();
        take(&connection, HOST, &start, 1000).unwrap();
        let kept = kept::one(&connection, &id).unwrap();
        assert!(kept.is_wanted_on);
        assert_eq!(kept.state, quantix_api::VmState::Starting);
        // It is being started already.
        assert!(take(&connection, HOST, &start, 1000).is_err());
        take(&connection, HOST, &Asked::Forget { vm: id.clone() }, 1000).unwrap();
        assert!(kept::find(&connection, &id).unwrap().is_none());
    }
}
