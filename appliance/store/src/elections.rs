//! When a host stands for election.
//!
//! The library's own timer has one length. On hosts that are so busy that an answer takes longer than that, all of them
//! would stand again and again, each before the others have answered. Here every election that comes to nothing makes
//! the next wait longer.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use rand::Rng;
use tokio::time::sleep;

use crate::shared::{Core, LEASE};

/// After the time for which the others keep faith with the old leader, a host waits for so long at least, and for up
/// to twice that.
const WAIT: Duration = Duration::from_millis(300);
/// After so many elections in vain the wait grows no longer: it is ten seconds then.
const MOST_DOUBLINGS: u32 = 5;
/// How often it is looked whether a leader was heard.
const LOOK: Duration = Duration::from_millis(25);

pub(crate) async fn stand(core: Arc<Core>) {
    let (mut in_vain, mut wait) = (0, random_wait(0));
    let mut stood: Option<Instant> = None;
    loop {
        sleep(LOOK).await;
        let led = crate::lock(&core.led).elapsed();
        if led < LEASE {
            (in_vain, wait, stood) = (0, random_wait(0), None);
            continue;
        }
        let since = stood.map_or(led - LEASE, |stood| stood.elapsed());
        if since < wait || !core.may_stand() {
            continue;
        }
        if core.raft.trigger().elect().await.is_err() {
            return;
        }
        in_vain += 1;
        (wait, stood) = (random_wait(in_vain), Some(Instant::now()));
    }
}

fn random_wait(in_vain: u32) -> Duration {
    WAIT.mul_f64(rand::rng().random_range(1.0..2.0)) * 2_u32.pow(in_vain.min(MOST_DOUBLINGS))
}
