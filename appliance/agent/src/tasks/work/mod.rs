//! The steps of each kind of task. Each may be done twice: the first time may have ended with the program.

pub(crate) mod bundle;
mod fetch;
mod image;
mod import;
mod moving;
mod pool;
mod power;
mod role;
mod services;
mod snapshot;
mod vm;
mod volume;

use std::sync::Arc;

pub(crate) use power::boot;

use quantix_api::TaskKind;
use serde_json::{Value, json};

use super::{
    Kept,
    kinds::has_volumes,
    plan::Standing,
    runner::{Did, Hand, Steps},
};
use crate::api::Agent;

/// A task in the hands of this host.
pub(crate) struct Work {
    agent: Arc<Agent>,
    task: Kept,
}

impl Work {
    pub(crate) fn new(agent: Arc<Agent>, task: Kept) -> Self {
        Self { agent, task }
    }
}

impl Steps for Work {
    async fn memo(&self) -> Value {
        match self.task.kind {
            TaskKind::RestartHost | TaskKind::ShutDownHost => json!({ "boot": boot().await }),
            TaskKind::ImportVm => import::memo(self).await,
            _ => Value::Null,
        }
    }

    async fn act(&self, step: usize, standing: &Standing, hand: &Hand) -> Result<Did, String> {
        let boot = standing.memo.get("boot").and_then(Value::as_str).unwrap_or_default();
        match (self.task.kind, step) {
            (TaskKind::MoveVdcRole, _) => role::give_to(self).await,
            (TaskKind::RemoveHost, 0) => role::take_back_key(self).await,
            (TaskKind::RemoveHost, _) => role::take_out(self).await,
            (TaskKind::RestartHost | TaskKind::ShutDownHost, 0) => role::hand_over(self).await,
            (TaskKind::RestartHost, _) => power::end_with(&self.agent, "reboot", boot).await,
            (TaskKind::ShutDownHost, _) => power::end_with(&self.agent, "poweroff", boot).await,
            (TaskKind::RestartServices, step) => services::restart(self, step, hand).await,
            (TaskKind::SupportBundle, 0) => bundle::collect_state(self).await,
            (TaskKind::SupportBundle, 1) => bundle::collect_journal(self, hand).await,
            (TaskKind::SupportBundle, _) => bundle::close(self, hand).await,
            (TaskKind::CreateVm, 0) if has_volumes(&self.task.params) => vm::make_disks(self, hand).await,
            (TaskKind::CreateVm, _) => vm::describe(self).await,
            (TaskKind::ImportVm, 0) if has_volumes(&self.task.params) => import::take_disks(self, hand).await,
            (TaskKind::ImportVm, _) => import::take_over(self, standing).await,
            (TaskKind::StartVm, _) => vm::start(self, hand).await,
            (TaskKind::ShutDownVm, 0) => vm::ask_to_end(self).await,
            (TaskKind::ShutDownVm, _) => vm::wait_until_off(self, hand).await,
            (TaskKind::RebootVm, _) => vm::reboot(self).await,
            (TaskKind::ForceStopVm, _) => vm::force_stop(self).await,
            (TaskKind::ResetVm, _) => vm::reset(self).await,
            (TaskKind::PauseVm, _) => vm::pause(self).await,
            (TaskKind::ResumeVm, _) => vm::resume(self).await,
            (TaskKind::SuspendVm, _) => vm::suspend(self).await,
            (TaskKind::DeleteVm, 0) => vm::take_from_libvirt(self, hand).await,
            (TaskKind::DeleteVm, 1) if has_volumes(&self.task.params) => vm::remove_disks(self).await,
            (TaskKind::DeleteVm, _) => vm::forget(self).await,
            (TaskKind::SnapshotVm, 0) => snapshot::lay(self).await,
            (TaskKind::SnapshotVm, _) => snapshot::hold(self, hand).await,
            (TaskKind::RevertVm, step) => snapshot::revert(self, step, hand).await,
            (TaskKind::DeleteSnapshot, 0) => snapshot::forget(self).await,
            (TaskKind::DeleteSnapshot, _) => snapshot::tidy(self, hand).await,
            (TaskKind::CreateVolume, _) => volume::make(self, hand).await,
            (TaskKind::GrowVolume, _) => volume::grow(self).await,
            (TaskKind::MoveVolume, 0) => moving::bring_over(self, hand).await,
            (TaskKind::MoveVolume, _) => moving::clear(self).await,
            (TaskKind::DeleteVolume, 0) => volume::remove(self).await,
            (TaskKind::DeleteVolume, _) => volume::forget(self).await,
            (TaskKind::CreatePool, _) => pool::make(self).await,
            (TaskKind::GrowPool, _) => pool::add_disks(self).await,
            (TaskKind::DeletePool, 0) => pool::remove(self).await,
            (TaskKind::DeletePool, _) => pool::forget(self).await,
            (TaskKind::RemoveFile, _) => pool::remove_file(self).await,
            (TaskKind::FetchImage, 0) => fetch::fetch(self, hand).await,
            (TaskKind::CreateImage, 0) | (TaskKind::FetchImage, 1) => image::check_sum(self, hand).await,
            (TaskKind::CreateImage | TaskKind::FetchImage, _) => image::keep(self, hand).await,
            (TaskKind::DeleteImage, 0) => image::remove(self).await,
            (TaskKind::DeleteImage, _) => image::forget(self).await,
        }
    }

    async fn undo(&self, _step: usize, standing: &Standing) {
        match self.task.kind {
            TaskKind::SupportBundle => bundle::remove(self).await,
            TaskKind::CreateVm => vm::undo(self).await,
            TaskKind::ImportVm => import::undo(self, standing).await,
            TaskKind::SnapshotVm => snapshot::undo(self).await,
            TaskKind::CreateVolume => volume::undo(self).await,
            TaskKind::MoveVolume => moving::undo(self).await,
            TaskKind::CreatePool => pool::undo(self).await,
            TaskKind::GrowPool => pool::give_back(self).await,
            TaskKind::CreateImage | TaskKind::FetchImage => image::undo(self).await,
            _ => {}
        }
    }

    fn outcome(&self) -> String {
        self.task.rules().done(&self.task.object_name)
    }
}
