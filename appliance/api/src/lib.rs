//! The words that pages, command line, hosts and agent exchange.
//!
//! What they mean is decided by the agent; how they travel is here.

mod audit;
mod call;
mod client;
mod cluster;
pub mod connection;
mod host;
mod problem;
mod readiness;
mod secret;
mod session;
mod users;

pub use audit::{AuditLine, AuditLines, AuditQuery};
pub use call::{Answer, Call, calls};
pub use client::{AgentClient, CallError};
pub use cluster::{
    Cluster, ClusterHost, HostRole, JoinCluster, JoinToken, JoinTokens, MadeJoinToken, MakeBackup, MoveLead,
    NewJoinToken, RemoveHost, SetVoters,
};
pub use host::{
    Address, Clock, ConsoleCluster, ConsoleView, Cpu, Disk, Filesystem, HostFacts, Memory, Nic, Service,
    Slot, SlotName,
};
pub use problem::{Problem, ProblemCode};
pub use readiness::{Check, CheckState, Readiness};
pub use secret::Secret;
pub use session::{ChangePassword, Session, SessionInfo, SignIn};
pub use users::{ChangeUser, NewUser, Role, User, UserPassword, Users};

/// Where the agent answers.
pub const AGENT_SOCKET: &str = "/run/quantix/api.sock";

/// The header in which the page server names the client it speaks for.
pub const CLIENT_ADDRESS_HEADER: &str = "x-quantix-client-address";

/// The header in which the leader says at which entry of its log a forwarded request was done.
pub const INDEX_HEADER: &str = "x-quantix-index";

/// Where hosts answer each other.
pub const CLUSTER_PORT: u16 = 7443;

/// The longest request body the agent reads, in bytes.
pub const MAX_BODY_BYTES: usize = 64 * 1024;
