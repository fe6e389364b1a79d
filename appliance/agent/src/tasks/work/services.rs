//! Restarting the services a host stands on. What they run, guests and switches, goes on meanwhile.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::{
    Work,
    power::{must_be_ours, systemctl},
};
use crate::tasks::{
    kinds,
    runner::{Did, Hand},
};

const RESTARTS_WITHIN: Duration = Duration::from_secs(120);
const ANSWERS_WITHIN: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_secs(2);

/// Restarts one, and waits until it answers.
pub(super) async fn restart(work: &Work, step: usize, hand: &Hand) -> Result<Did, String> {
    let services = kinds::services(&work.task.params);
    let Some((name, title, unit)) = services.get(step).copied() else {
        return Err("The task names no such service.".to_owned());
    };
    if hand.is_to_end() {
        return Ok(Did::Stopped);
    }
    must_be_ours(&work.agent).await?;
    systemctl(&["restart", unit], RESTARTS_WITHIN).await.map_err(|why| format!("{title}: {why}"))?;
    let until = Instant::now() + ANSWERS_WITHIN;
    loop {
        let facts = work.agent.host.facts().await;
        let error =
            facts.services.iter().find(|service| service.name == name).and_then(|found| found.error.clone());
        match error {
            None => return Ok(Did::Done),
            Some(error) if Instant::now() >= until => {
                return Err(format!("{title} was restarted and does not answer: {error}."));
            }
            Some(_) => sleep(LOOK).await,
        }
    }
}
