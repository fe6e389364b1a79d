use http::Method;

use super::{asking, part};
use crate::{
    Call, Cluster, HostFacts, JoinCluster, JoinToken, MadeJoinToken, MakeBackup, Metrics, MetricsQuery,
    MoveLead, NewJoinToken, Page, RemoveHost, SetVoters, Task,
};

/// The cluster.
pub const CLUSTER_PATH: &str = "/api/v1/cluster";
/// Where this host joins another's cluster.
pub const JOIN_PATH: &str = "/api/v1/cluster/join";
/// Where this host leaves its cluster.
pub const LEAVE_PATH: &str = "/api/v1/cluster/leave";
/// Where this host goes on without the others.
pub const RECOVER_PATH: &str = "/api/v1/cluster/recover";
/// Where this host gives the data as a file.
pub const BACKUP_PATH: &str = "/api/v1/cluster/backup";
/// Where this host begins again from such a file: a form with the host's `name`, the `passphrase`, and last the
/// `backup`.
pub const RESTORE_PATH: &str = "/api/v1/cluster/restore";
/// Join tokens.
pub const JOIN_TOKENS_PATH: &str = "/api/v1/cluster/tokens";
/// The host of the vDC role.
pub const LEADER_PATH: &str = "/api/v1/cluster/leader";
/// How many hosts vote.
pub const VOTERS_PATH: &str = "/api/v1/cluster/voters";
/// The hosts of the cluster.
pub const HOSTS_PATH: &str = "/api/v1/cluster/hosts";

/// The cluster as the host that answers sees it.
pub fn cluster() -> Call<Cluster> {
    Call::new(Method::GET, CLUSTER_PATH)
}

/// Joins the cluster of another host.
pub fn join(body: &JoinCluster) -> Call<()> {
    Call::new(Method::POST, JOIN_PATH).json(body)
}

/// Lets this host leave its cluster.
pub fn leave() -> Call<()> {
    Call::new(Method::POST, LEAVE_PATH)
}

/// Makes this host go on without hosts that are lost for good.
pub fn recover(body: &RemoveHost) -> Call<()> {
    Call::new(Method::POST, RECOVER_PATH).json(body)
}

/// The data as a file; its bytes are the answer.
pub fn backup(body: &MakeBackup) -> Call<()> {
    Call::new(Method::POST, BACKUP_PATH).json(body)
}

/// The join tokens.
pub fn join_tokens() -> Call<Page<JoinToken>> {
    Call::new(Method::GET, JOIN_TOKENS_PATH)
}

/// Makes a join token.
pub fn make_join_token(body: &NewJoinToken) -> Call<MadeJoinToken> {
    Call::new(Method::POST, JOIN_TOKENS_PATH).json(body)
}

/// Takes a join token back.
pub fn revoke_join_token(id: &str) -> Call<()> {
    Call::new(Method::DELETE, format!("{JOIN_TOKENS_PATH}/{}", part(id)))
}

/// Gives the vDC role to a host.
pub fn move_lead(body: &MoveLead) -> Call<Task> {
    Call::new(Method::PUT, LEADER_PATH).json(body)
}

/// Says how many hosts shall vote.
pub fn set_voters(body: &SetVoters) -> Call<()> {
    Call::new(Method::PUT, VOTERS_PATH).json(body)
}

/// What a host of the cluster is made of.
pub fn host_facts(id: &str) -> Call<HostFacts> {
    Call::new(Method::GET, format!("{HOSTS_PATH}/{}/facts", part(id)))
}

/// What a host of the cluster used.
pub fn host_metrics(id: &str, query: &MetricsQuery) -> Call<Metrics> {
    Call::new(Method::GET, asking(format!("{HOSTS_PATH}/{}/metrics", part(id)), query))
}

/// Takes a host out of the cluster.
pub fn remove_host(id: &str, body: &RemoveHost) -> Call<Task> {
    Call::new(Method::DELETE, format!("{HOSTS_PATH}/{}", part(id))).json(body)
}
