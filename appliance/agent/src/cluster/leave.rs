//! Hosts that go: on their own, or because they are gone already.

use std::time::Duration;

use quantix_api::{Problem, ProblemCode};
use quantix_store::HostId;

use super::{Cluster, failed, kept, node};
use crate::audit::Line;

/// How long another host may take to lead.
const HAND_OVER: Duration = Duration::from_secs(10);

impl Cluster {
    /// Takes a host out: first it loses its key, then its place. The leader does.
    pub(crate) async fn remove(&self, host: HostId, line: Line) -> Result<(), Problem> {
        let store = self.store()?;
        self.must_not_lead(host)?;
        self.write_noted(line, move |connection| kept::remove_host(connection, host)).await?;
        store.remove(host).await.map_err(failed)
    }

    /// Refuses to take out the host that would have to do it.
    pub(crate) fn must_not_lead(&self, host: HostId) -> Result<(), Problem> {
        if host != self.store()?.id() {
            return Ok(());
        }
        let sentence =
            "This host has the vDC role. Move the role to another host first, or let the host leave.";
        Err(Problem::new(ProblemCode::Invalid, sentence))
    }

    /// Lets this host go: another leads, the cluster forgets it, and it forgets the cluster. A host that was removed
    /// already only forgets.
    pub(crate) async fn leave(&self, line: Line) -> Result<(), Problem> {
        let store = self.store()?;
        if !store.is_out() {
            if store.status().members.len() == 1 {
                let sentence = "This host is a cluster of its own; there is nothing to leave.";
                return Err(Problem::new(ProblemCode::Invalid, sentence));
            }
            self.must_have_no_machines().await?;
            self.hand_over().await?;
            self.wait_for_leader(HAND_OVER).await;
            let leader = self.other_leader().ok_or_else(nobody_leads)?;
            self.ask_host::<()>(&leader, node::LEAVE, &line).await?;
        }
        self.forget().await
    }

    /// Lets another host lead if this one does, so that nobody has to notice first that it is gone.
    pub(crate) async fn hand_over(&self) -> Result<(), Problem> {
        let store = self.store()?;
        store.hand_over().await.map_err(failed)?;
        let led = async {
            while store.leadership().borrow().is_some() && store.status().members.len() > 1 {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(HAND_OVER, led).await.map_err(|_| nobody_leads())
    }
}

fn nobody_leads() -> Problem {
    Problem::new(ProblemCode::Unavailable, "No other host leads the cluster now. Try again.").retry_after(2)
}
