//! The hosts that belong together, and how others join them.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::Secret;

/// `GET /api/v1/cluster`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Cluster {
    /// The host that answers.
    pub this_host: String,
    /// The host of the vDC role, if one has it.
    pub leader: Option<String>,
    /// How often the role has been given anew.
    pub term: u64,
    /// The last change this host has heard of.
    pub last_index: u64,
    /// The last change that is in this host's data.
    pub applied_index: u64,
    /// The step of the schema.
    pub schema: u32,
    /// Whether anything can be changed now.
    pub writable: bool,
    /// How many hosts shall vote; nothing means as many as fit the number of hosts.
    pub wanted_voters: Option<u32>,
    /// SHA-256 of the cluster's own certificate.
    pub fingerprint: String,
    /// All hosts.
    pub hosts: Vec<ClusterHost>,
    /// What is wrong, in sentences.
    pub trouble: Vec<String>,
}

impl Cluster {
    /// The name of the host that answers.
    pub fn this_name(&self) -> &str {
        let this = self.hosts.iter().find(|host| host.id == self.this_host);
        this.map_or(&self.this_host, |host| &host.name)
    }
}

/// A host of the cluster.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ClusterHost {
    /// Its id, which it never shares with another.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Where the other hosts reach it.
    pub address: String,
    /// Its part.
    pub role: HostRole,
    /// How many changes it is behind the leader, if that is known here.
    pub lag: Option<u64>,
    /// How long ago it was heard by the host that answers, in milliseconds.
    pub last_contact_ms: Option<u64>,
    /// When it joined.
    pub joined_at: Option<Timestamp>,
}

/// A host's part in the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum HostRole {
    /// It has the vDC role.
    Leader,
    /// It votes on who has the role.
    Voter,
    /// It has all data and votes when a voter is lost.
    Learner,
    /// It has a certificate and has not come yet.
    Joining,
}

/// `POST /api/v1/cluster/tokens`
#[derive(Clone, Debug, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewJoinToken {
    /// What it is for, in the words of who makes it.
    pub purpose: String,
    /// For how many hours it can be used.
    #[serde(default = "a_day")]
    pub hours: u32,
    /// For how many hosts.
    #[serde(default = "one")]
    pub uses: u32,
}

fn a_day() -> u32 {
    24
}

fn one() -> u32 {
    1
}

/// A token that was just made. It is shown this once.
#[derive(Clone, Debug, Serialize, Deserialize, utoipa::ToSchema)]
pub struct MadeJoinToken {
    /// What to type on the new host.
    pub token: Secret,
    /// SHA-256 of the cluster's own certificate, to compare on the new host.
    pub fingerprint: String,
    /// An address of this cluster to type on the new host.
    pub address: String,
    /// The token as it is kept.
    pub kept: JoinToken,
}

/// A join token as it is kept.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct JoinToken {
    /// By this it is named; it is no part of the token.
    pub id: String,
    /// What it is for.
    pub purpose: String,
    /// Who made it.
    pub made_by: String,
    /// When.
    pub made_at: Timestamp,
    /// Until when it can be used.
    pub expires_at: Timestamp,
    /// For how many more hosts.
    pub uses_left: u32,
    /// Whether it was taken back.
    pub revoked: bool,
    /// The hosts that joined with it.
    pub used_by: Vec<String>,
}

/// `POST /api/v1/cluster/join`: this host joins the cluster of another.
#[derive(Clone, Debug, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct JoinCluster {
    /// An address of a member; the port is the usual one unless it is named.
    pub address: String,
    /// The token.
    pub token: Secret,
}

/// `DELETE /api/v1/cluster/hosts/{id}`, and `POST /api/v1/cluster/recover`
#[derive(Clone, Debug, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RemoveHost {
    /// The host's name, typed once more.
    pub name: String,
}

/// `PUT /api/v1/cluster/leader`
#[derive(Clone, Debug, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct MoveLead {
    /// The host that shall have the vDC role.
    pub host: String,
}

/// `PUT /api/v1/cluster/voters`
#[derive(Clone, Debug, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SetVoters {
    /// One, three or five; nothing means as many as fit the number of hosts.
    pub wanted: Option<u32>,
}

/// `POST /api/v1/cluster/backup`: answered with the file itself.
#[derive(Clone, Debug, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct MakeBackup {
    /// What opens the file.
    pub passphrase: Secret,
}
