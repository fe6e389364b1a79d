//! The steps of each kind of task. Each may be done twice: the first time may have ended with the program.

pub(crate) mod bundle;
mod power;
mod role;
mod services;

use std::sync::Arc;

use quantix_api::TaskKind;
use serde_json::{Value, json};

use super::{
    Kept,
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
            TaskKind::RestartHost | TaskKind::ShutDownHost => json!({ "boot": power::boot().await }),
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
        }
    }

    async fn undo(&self, _step: usize) {
        if self.task.kind == TaskKind::SupportBundle {
            bundle::remove(self).await;
        }
    }

    fn outcome(&self) -> String {
        self.task.rules().done(&self.task.object_name)
    }
}
