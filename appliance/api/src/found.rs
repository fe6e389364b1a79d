//! Virtual machines that a host's libvirt has and that are not among the machines: somebody made them there, or they are of
//! after the backup that was restored.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{VmSpec, VmState};

/// `GET /api/v1/cluster/hosts/{host}/found-vms`
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FoundVms {
    /// The machines, by what libvirt calls them.
    pub items: Vec<FoundVm>,
}

/// A virtual machine that is not among the machines.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FoundVm {
    /// Its id, which it keeps.
    pub id: String,
    /// What libvirt calls it, which it keeps, too.
    pub called: String,
    /// How it is.
    pub state: VmState,
    /// What it becomes when it is imported, with its disks by their paths; nothing if it cannot be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spec: Option<VmSpec>,
    /// Its disks, in the same order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub disks: Vec<FoundDisk>,
    /// What does not come along, in sentences.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub left_out: Vec<String>,
    /// Why it cannot be imported; empty if it can.
    pub why_not: String,
}

/// A disk of such a machine: a file of its host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FoundDisk {
    /// The file.
    pub path: String,
    /// Whether it is kept sector by sector, and not as a qcow2.
    pub is_raw: bool,
    /// How big it is for the guest, in bytes; 0 if that cannot be read.
    pub bytes: u64,
    /// What it takes, in bytes.
    pub used: u64,
    /// The volume that it becomes without being copied, if it lies in a pool of Quantix already.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volume: Option<String>,
}

/// `POST /api/v1/vms/import`
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ImportVm {
    /// The host it is on.
    pub host: String,
    /// Its id.
    pub vm: String,
    /// Its name among the machines; nothing for the one it has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The folder it goes into.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub folder: Option<i64>,
}
