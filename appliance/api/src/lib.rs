//! The words that pages, command line, hosts and agent exchange.
//!
//! What they mean is decided by the agent; how they travel is here.

mod audit;
mod call;
pub mod calls;
mod certificate;
mod client;
mod cloud_init;
mod cluster;
pub mod connection;
mod consoles;
mod events;
mod folders;
mod found;
mod guests;
mod host;
mod images;
mod list;
mod metrics;
pub mod pieces;
mod problem;
mod readiness;
mod rights;
mod schedules;
mod secret;
mod session;
mod settings;
mod snapshots;
mod ssh_key;
mod storage;
mod tasks;
pub mod text;
mod users;
mod vm_spec;
mod vms;

pub use audit::{AuditLine, AuditQuery};
pub use call::{Answer, Call};
pub use certificate::{
    Acme, AcmeBinding, AcmeChallenge, AcmeState, CertificateFacts, CertificateRequest, CertificateSource,
    ChallengeFile, ChallengeProof, MAX_CERTIFICATE_NAMES, NewCertificateRequest, PageCertificate, SetAcme,
    ToShow, UploadCertificate, is_certificate_name,
};
pub use client::{AgentClient, CallError};
pub use cloud_init::{CardAddresses, CloudInit, FetchSshKeys, SshKeysFound};
pub use cluster::{
    Cluster, ClusterHost, HostRole, JoinCluster, JoinToken, MadeJoinToken, MakeBackup, MoveLead,
    NewJoinToken, RemoveHost, SetVoters,
};
pub use consoles::{CONSOLE_CLOSED, ConsoleKind, ConsoleTicket, OpenConsole};
pub use events::{Change, ChangeOperation, Event, EventQuery, Severity};
pub use folders::{ChangeFolder, Folder, Folders, NewFolder};
pub use found::{FoundDisk, FoundVm, FoundVms, ImportVm};
pub use guests::{GuestCard, SetGuestPassword, VmGuest};
pub use host::{
    Address, Clock, ConsoleCluster, ConsoleView, Cpu, Disk, Filesystem, HostFacts, Memory, Nic, PciDevice,
    Service, Slot, SlotName,
};
pub use images::{
    Arrived, Catalogue, CatalogueSource, ChangeImage, FetchImage, Image, ImageState, Images, MAX_PIECE_BYTES,
    NewImage, Offer, PieceQuery, RemoveImage, SetCatalogue, VmDraft, in_whole_gib,
};
pub use list::{ListQuery, Page, to_query};
pub use metrics::{Metric, Metrics, MetricsQuery, Span};
pub use problem::{Problem, ProblemCode};
pub use readiness::{Check, CheckState, Readiness};
pub use rights::{
    Access, ChangeRole, Held, NewAccess, NewRole, Place, Right, Role, Scope, Unknown, Who, built_in,
};
pub use schedules::{NewSchedule, Schedule, Schedules, Weekday, When};
pub use secret::Secret;
pub use session::{
    ApiToken, ChangePassword, MadeApiToken, NewApiToken, NewSecondFactor, OpenSession, ProvePassword,
    RecoveryCodes, SecondFactorCode, Session, SessionInfo, SignIn,
};
pub use settings::{
    BackFromProvider, BeginAtProvider, BegunAtProvider, Provider, SetProvider, SetSyslog, Syslog, Tried,
    WaysIn,
};
pub use snapshots::{ChangeSnapshot, CloneVm, NewSnapshot, RemoveSnapshot, RevertVm, Snapshot, Snapshots};
pub use ssh_key::{KeyKind, KeyRefused, SshKey};
pub use storage::{
    AddDisks, AdoptFile, ChangePool, ChangeVolume, DiskUse, FileBecomes, GrowVolume, HostDisk, HostDisks,
    MoveVolume, NewDisk, NewPool, NewVolume, Pool, PoolFile, PoolFiles, PoolKind, PoolOnHost, PoolState,
    Pools, RemoveFile, RemovePool, RemoveVolume, Volume, VolumeQuery, VolumeState,
};
pub use tasks::{
    PowerHost, Progress, RestartServices, StepState, Task, TaskFile, TaskKind, TaskQuery, TaskState,
    TaskStep, Unit,
};
pub use users::{ChangeGroup, ChangeUser, Group, NewGroup, NewUser, User, UserPassword};
pub use vm_spec::{
    Boot, Bus, Cache, CpuModel, DiskLimit, Firmware, Guest, NicModel, VmCd, VmCpu, VmDisk, VmMemory, VmNic,
    VmSpec,
};
pub use vms::{
    ChangeVm, Keep, NewVm, PowerVm, RemoveVm, SettleDrift, Vm, VmAction, VmCounts, VmPolicy, VmQuery, VmState,
};

/// Where the agent answers.
pub const AGENT_SOCKET: &str = "/run/quantix/api.sock";

/// Where the agent tells the page server what to show. Not for anybody else, and so not below `/api/v1`.
pub const PAGES_CERTIFICATE_PATH: &str = "/pages/v1/certificate";

/// The header in which the page server names the client it speaks for.
pub const CLIENT_ADDRESS_HEADER: &str = "x-quantix-client-address";

/// The header in which the leader says at which entry of its log a forwarded request was done.
pub const INDEX_HEADER: &str = "x-quantix-index";

/// The headers of a request that count for whoever answers it in the end.
pub const ASKED_HEADERS: [http::HeaderName; 5] = [
    http::header::AUTHORIZATION,
    http::header::CONTENT_TYPE,
    http::header::IF_MATCH,
    http::HeaderName::from_static("idempotency-key"),
    http::HeaderName::from_static("last-event-id"),
];

/// The headers of an answer that count for whoever asked.
pub const ANSWERED_HEADERS: [http::HeaderName; 6] = [
    http::header::ALLOW,
    http::header::CONTENT_TYPE,
    http::header::RETRY_AFTER,
    http::header::ETAG,
    http::header::LOCATION,
    http::header::CONTENT_DISPOSITION,
];

/// Where hosts answer each other.
pub const CLUSTER_PORT: u16 = 7443;

/// The longest request body the agent reads, in bytes.
pub const MAX_BODY_BYTES: usize = 64 * 1024;
