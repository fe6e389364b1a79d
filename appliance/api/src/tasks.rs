//! Tasks: work that takes time, with its steps and how far it is.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

/// A piece of work that takes time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Task {
    /// Its number; later tasks have greater ones.
    pub id: i64,
    /// What kind of work it is, for programs.
    pub kind: TaskKind,
    /// The same for people, with the name of what it is done to.
    pub title: String,
    /// What it is done to: `datacenter`, `host/` and the id of a host, `vm/` and the id of a
    /// virtual machine, `volume/` and the id of a volume, or `image/` and the id of an image.
    pub object: String,
    /// The name of that when the task was made.
    pub object_name: String,
    /// The host that does it; nothing stands for whichever has the vDC role.
    pub owner: Option<String>,
    /// How it stands.
    pub state: TaskState,
    /// What it consists of, in order.
    pub steps: Vec<TaskStep>,
    /// How far the present step is, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<Progress>,
    /// Who asked for it.
    pub actor: String,
    /// From where.
    pub address: String,
    /// When it was asked for.
    pub made_at: Timestamp,
    /// When its owner began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Timestamp>,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<Timestamp>,
    /// What came of it, in a sentence; empty while it is open.
    pub outcome: String,
    /// Who asked for its end, if somebody did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cancelled_by: Option<String>,
    /// Whether it can be cancelled now.
    pub can_cancel: bool,
    /// Whether it can be tried again now.
    pub can_retry: bool,
    /// The how-manieth attempt it is.
    pub attempt: u32,
    /// The task whose next attempt it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_of: Option<i64>,
    /// The file it made, while that is there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<TaskFile>,
    /// Counts the changes.
    pub version: u64,
}

impl Task {
    /// The step that is being done, or the last that was begun.
    pub fn present_step(&self) -> Option<&TaskStep> {
        self.steps.iter().rev().find(|step| step.state != StepState::Waiting)
    }

    /// How far it is as a share of the whole, from 0 to 1: each step counts the same.
    pub fn share(&self) -> f64 {
        if self.state == TaskState::Done {
            return 1.0;
        }
        let part = self.progress.as_ref().map_or(0.0, Progress::share);
        let done = self.steps.iter().map(|step| match step.state {
            StepState::Done => 1.0,
            StepState::Running => part,
            _ => 0.0,
        });
        #[expect(clippy::cast_precision_loss, reason = "a task has a handful of steps")]
        let all = self.steps.len().max(1) as f64;
        done.sum::<f64>() / all
    }
}

/// The kinds of work there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum TaskKind {
    /// Another host gets the vDC role.
    MoveVdcRole,
    /// A host is taken out of the cluster.
    RemoveHost,
    /// A host restarts.
    RestartHost,
    /// A host is switched off.
    ShutDownHost,
    /// Services of a host restart; what they run goes on.
    RestartServices,
    /// What helps to find a fault on a host is put into a file.
    SupportBundle,
    /// A virtual machine is made.
    CreateVm,
    /// A virtual machine that a host has, and that is not among the machines, becomes one of them.
    ImportVm,
    /// A virtual machine is switched on, or wakes.
    StartVm,
    /// The guest of a virtual machine is asked to end.
    ShutDownVm,
    /// The guest of a virtual machine is asked to start anew.
    RebootVm,
    /// A virtual machine is switched off.
    ForceStopVm,
    /// A virtual machine starts anew.
    ResetVm,
    /// A virtual machine is made to stand still.
    PauseVm,
    /// A virtual machine goes on.
    ResumeVm,
    /// The memory of a virtual machine is put on disk.
    SuspendVm,
    /// A virtual machine is removed.
    DeleteVm,
    /// A snapshot of a virtual machine is made.
    SnapshotVm,
    /// A virtual machine becomes again what it was at a snapshot.
    RevertVm,
    /// Snapshots of a virtual machine are removed.
    DeleteSnapshot,
    /// A volume is made.
    CreateVolume,
    /// A volume is made bigger.
    GrowVolume,
    /// A volume goes into another pool.
    MoveVolume,
    /// A volume is removed.
    DeleteVolume,
    /// A pool is made.
    CreatePool,
    /// A pool is made bigger by disks.
    GrowPool,
    /// A pool is removed.
    DeletePool,
    /// A file of a pool is removed that nobody knows.
    RemoveFile,
    /// An image is made of a file that has come.
    CreateImage,
    /// An image is fetched from an address.
    FetchImage,
    /// An image is removed.
    DeleteImage,
}

impl TaskKind {
    /// All kinds.
    pub const ALL: [Self; 31] = [
        Self::MoveVdcRole,
        Self::RemoveHost,
        Self::RestartHost,
        Self::ShutDownHost,
        Self::RestartServices,
        Self::SupportBundle,
        Self::CreateVm,
        Self::ImportVm,
        Self::StartVm,
        Self::ShutDownVm,
        Self::RebootVm,
        Self::ForceStopVm,
        Self::ResetVm,
        Self::PauseVm,
        Self::ResumeVm,
        Self::SuspendVm,
        Self::DeleteVm,
        Self::SnapshotVm,
        Self::RevertVm,
        Self::DeleteSnapshot,
        Self::CreateVolume,
        Self::GrowVolume,
        Self::MoveVolume,
        Self::DeleteVolume,
        Self::CreatePool,
        Self::GrowPool,
        Self::DeletePool,
        Self::RemoveFile,
        Self::CreateImage,
        Self::FetchImage,
        Self::DeleteImage,
    ];

    /// Its name in the API.
    pub fn name(self) -> &'static str {
        match self {
            Self::MoveVdcRole => "move-vdc-role",
            Self::RemoveHost => "remove-host",
            Self::RestartHost => "restart-host",
            Self::ShutDownHost => "shut-down-host",
            Self::RestartServices => "restart-services",
            Self::SupportBundle => "support-bundle",
            Self::CreateVm => "create-vm",
            Self::ImportVm => "import-vm",
            Self::StartVm => "start-vm",
            Self::ShutDownVm => "shut-down-vm",
            Self::RebootVm => "reboot-vm",
            Self::ForceStopVm => "force-stop-vm",
            Self::ResetVm => "reset-vm",
            Self::PauseVm => "pause-vm",
            Self::ResumeVm => "resume-vm",
            Self::SuspendVm => "suspend-vm",
            Self::DeleteVm => "delete-vm",
            Self::SnapshotVm => "snapshot-vm",
            Self::RevertVm => "revert-vm",
            Self::DeleteSnapshot => "delete-snapshot",
            Self::CreateVolume => "create-volume",
            Self::GrowVolume => "grow-volume",
            Self::MoveVolume => "move-volume",
            Self::DeleteVolume => "delete-volume",
            Self::CreatePool => "create-pool",
            Self::GrowPool => "grow-pool",
            Self::DeletePool => "delete-pool",
            Self::RemoveFile => "remove-file",
            Self::CreateImage => "create-image",
            Self::FetchImage => "fetch-image",
            Self::DeleteImage => "delete-image",
        }
    }

    /// The kind of a name.
    pub fn of(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

/// How a task stands. From one of the last three it never moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum TaskState {
    /// Its owner has not begun.
    Waiting,
    /// It is being done.
    Running,
    /// Somebody asked for its end, and what was done is being undone.
    Cancelling,
    /// It was done.
    Done,
    /// It could not be done.
    Failed,
    /// It was ended before it was done.
    Cancelled,
}

impl TaskState {
    /// All states.
    pub const ALL: [Self; 6] =
        [Self::Waiting, Self::Running, Self::Cancelling, Self::Done, Self::Failed, Self::Cancelled];

    /// Its name in the API.
    pub fn name(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Running => "running",
            Self::Cancelling => "cancelling",
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }

    /// The state of a name.
    pub fn of(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.name() == name)
    }

    /// Whether nothing more comes of it.
    pub fn is_end(self) -> bool {
        matches!(self, Self::Done | Self::Failed | Self::Cancelled)
    }
}

/// A part of a task.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TaskStep {
    /// What is done in it.
    pub name: String,
    /// How it stands.
    pub state: StepState,
}

/// How a step stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum StepState {
    /// Its turn has not come.
    Waiting,
    /// It is being done.
    Running,
    /// It was done.
    Done,
    /// It could not be done.
    Failed,
    /// It was done, and undone again.
    Undone,
}

/// How far something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Progress {
    /// So much is done.
    pub done: u64,
    /// Of so much, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total: Option<u64>,
    /// Of what.
    pub unit: Unit,
    /// So much of it comes in a second, where it has gone on for long enough to say so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<u64>,
}

impl Progress {
    /// So far of so much.
    pub fn at(done: u64, total: Option<u64>, unit: Unit) -> Self {
        Self { done, total, unit, rate: None }
    }

    /// How many seconds it still takes, if it goes on like this.
    pub fn left(&self) -> Option<u64> {
        Some(self.total?.saturating_sub(self.done).div_ceil(self.rate.filter(|rate| *rate > 0)?))
    }

    /// From 0 to 1.
    #[expect(clippy::cast_precision_loss, reason = "a bar is drawn with it")]
    pub fn share(&self) -> f64 {
        match self.total {
            Some(total) if total > 0 => (self.done as f64 / total as f64).clamp(0.0, 1.0),
            _ => 0.0,
        }
    }
}

/// What progress is counted in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Unit {
    /// Bytes.
    Bytes,
    /// Seconds.
    Seconds,
    /// Hosts.
    Hosts,
    /// Services.
    Services,
}

/// A file that a task made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TaskFile {
    /// What to call it.
    pub name: String,
    /// Its size.
    pub bytes: u64,
}

/// `GET /api/v1/tasks?…`: the newest first, unless sorted otherwise.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct TaskQuery {
    /// The part after the one whose `next` this was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(max_length = 1000)]
    pub after: Option<String>,
    /// So many at most; 50 unless said otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(minimum = 1, maximum = 1000)]
    pub limit: Option<u32>,
    /// `id`, or `-id` for the newest first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(max_length = 40)]
    pub sort: Option<String>,
    /// Only what has this text somewhere, in capitals or not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(max_length = 100)]
    pub text: Option<String>,
    /// Only those in this state; `open` stands for all that have not ended, `ended` for the others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(max_length = 40)]
    pub state: Option<String>,
    /// Only those of this kind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(max_length = 40)]
    pub kind: Option<String>,
    /// Only those done to this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(max_length = 200)]
    pub object: Option<String>,
}

/// `POST /api/v1/cluster/hosts/{id}/restart`, and `…/shut-down`
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PowerHost {
    /// The host's name, typed once more.
    #[schema(max_length = 200)]
    pub name: String,
}

/// `POST /api/v1/cluster/hosts/{id}/restart-services`
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RestartServices {
    /// Which, by the names that the facts about a host give them.
    #[schema(min_items = 1, max_items = 16)]
    pub services: Vec<String>,
}
