//! Who notices: each host what is wrong with itself, and whichever leads what is wrong with the others.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use quantix_api::{Problem, ProblemCode, Severity};
use quantix_store::{HostId, Role, Status, Store};
use rusqlite::Connection;

use super::{
    Happened, LOST_AFTER, News, clear, open_below,
    plan::{self, Condition, Damper},
    raise,
};
use crate::{
    api::{Agent, Client},
    cluster::kept,
    lock,
    sessions::now_ms,
};

const LOOK: Duration = Duration::from_secs(1);
/// How often a host looks at itself, in looks.
const AT_ITSELF: u64 = 10;

/// What the leader of a term has told.
struct Leading {
    term: u64,
    since: Instant,
    damper: Damper,
}

impl Agent {
    /// Watches over this host, and over the others while it leads.
    pub(crate) async fn watch_over(self: Arc<Self>) {
        let store = self.cluster.opened().await;
        let (start, mut own, mut leading) = (Instant::now(), None, None);
        let mut ticks = tokio::time::interval(LOOK);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        for look in 0_u64.. {
            ticks.tick().await;
            if store.is_out() {
                continue;
            }
            let done = async {
                if look.is_multiple_of(AT_ITSELF) {
                    self.look_at_itself(&store, &mut own, start.elapsed()).await?;
                }
                self.look_at_others(&store, &mut leading, look).await
            };
            if let Err(problem) = done.await {
                log::debug!("What is wrong could not be told: {problem}");
            }
        }
    }

    /// Counts a wrong password, and tells when there were too many. Whoever leads does, where sign-ins go.
    pub(crate) fn count_refusal(&self, client: Client) {
        let Some(happened) = self.attacks.refused(&client.to_string(), Instant::now()) else { return };
        log::warn!("{}", happened.sentence);
        let cluster = Arc::clone(&self.cluster);
        tokio::spawn(async move {
            if let Err(problem) = cluster.note_happened(happened).await {
                log::warn!("That passwords are being guessed is not among the events: {problem}");
            }
        });
    }

    async fn look_at_itself(
        &self,
        store: &Store,
        own: &mut Option<Damper>,
        now: Duration,
    ) -> Result<(), Problem> {
        let me = store.id();
        let damper = match own {
            Some(damper) => damper,
            None => {
                let prefix = format!("host/{me}/own/");
                let told = self.cluster.read(move |connection| open_below(connection, &prefix)).await?;
                own.insert(Damper::knowing(told))
            }
        };
        let checks = self.checks().await;
        let follows = self.host.facts().await.clock.synchronised;
        let mut wrong = plan::of_checks(&self.name, &checks, follows);
        let found = lock(&self.found_vms).values().cloned().collect();
        wrong.extend(plan::of_found_vms(&self.name, found));
        let news = damper.look(&wrong, now);
        if news.is_empty() || !store.status().writable {
            return Ok(());
        }
        self.cluster.tell(&news).await?;
        damper.told(&news);
        Ok(())
    }

    async fn look_at_others(
        &self,
        store: &Store,
        leading: &mut Option<Leading>,
        look: u64,
    ) -> Result<(), Problem> {
        let Some(term) = *store.leadership().borrow() else {
            *leading = None;
            return Ok(());
        };
        let now = match leading {
            Some(now) if now.term == term => now,
            _ => leading.insert(self.begin_to_lead(store, term).await?),
        };
        let hosts = self.cluster.read(kept::hosts).await?;
        let status = store.status();
        let name = |id: HostId| {
            hosts.iter().find(|host| host.id == id).map_or_else(|| id.to_string(), |host| host.name.clone())
        };
        let others: Vec<_> = status
            .members
            .iter()
            .map(|member| {
                // Who has not been heard since this host leads may have been lost before.
                let silent = member.silent.unwrap_or_else(|| now.since.elapsed());
                (member.id.to_string(), name(member.id), member.role != Role::Learner, silent)
            })
            .collect();
        self.note_lost_hosts(&status, term, now.since.elapsed()).await?;
        let wrong: Vec<Condition> = plan::of_hosts(&others)
            .into_iter()
            .map(|(object, condition)| {
                let what = format!("{object}/leader/{}", condition.what);
                Condition { what, ..condition }
            })
            .collect();
        let news = now.damper.look(&wrong, now.since.elapsed());
        if look.is_multiple_of(AT_ITSELF) {
            let ids: Vec<_> = hosts.iter().map(|host| host.id.to_string()).collect();
            self.forget_alarms_of_gone_hosts(term, ids).await?;
        }
        if news.is_empty() {
            return Ok(());
        }
        let (told, names) = (news.clone(), others);
        self.cluster.write_in(term, move |connection| keep(connection, &told, &names)).await?;
        now.damper.told(&news);
        Ok(())
    }

    /// Writes down which hosts are lost, and which were found again: what is on a host that is lost is in no state that
    /// anybody knows.
    async fn note_lost_hosts(&self, status: &Status, term: u64, led_for: Duration) -> Result<(), Problem> {
        let known = self.cluster.read(kept::lost_hosts).await?;
        let changes: Vec<_> = status
            .members
            .iter()
            .filter_map(|member| {
                let is_lost = member.id != status.id && member.silent.unwrap_or(led_for) >= LOST_AFTER;
                let is_found =
                    member.id == status.id || member.silent.is_some_and(|silent| silent < LOST_AFTER);
                match known.contains(&member.id) {
                    false if is_lost => Some((member.id, Some(now_ms()))),
                    true if is_found => Some((member.id, None)),
                    _ => None,
                }
            })
            .collect();
        if changes.is_empty() {
            return Ok(());
        }
        let write = move |connection: &Connection| {
            Ok(changes.iter().try_for_each(|(id, lost_at)| kept::note_lost(connection, *id, *lost_at))?)
        };
        self.cluster.write_in(term, write).await
    }

    async fn begin_to_lead(&self, store: &Store, term: u64) -> Result<Leading, Problem> {
        let told = self.cluster.read(open_of_leaders).await?;
        if store.status().members.len() > 1 {
            let happened = Happened {
                key: format!("vdc/{term}"),
                severity: Severity::Info,
                component: "cluster".to_owned(),
                object: format!("host/{}", store.id()),
                host: self.name.clone(),
                sentence: format!("{} has the vDC role now.", self.name),
                is_lasting: false,
            };
            let write = move |connection: &Connection| raise(connection, &happened, now_ms());
            self.cluster.write_in(term, write).await?;
        }
        Ok(Leading { term, since: Instant::now(), damper: Damper::knowing(told) })
    }

    /// What was wrong with a host that has gone is over.
    async fn forget_alarms_of_gone_hosts(&self, term: u64, ids: Vec<String>) -> Result<(), Problem> {
        let gone = move |connection: &Connection| {
            let open = open_below(connection, "host/")?;
            let is_gone = |key: &String| !ids.iter().any(|id| key.starts_with(id.as_str()));
            Ok(open.into_iter().map(|(key, _)| key).filter(is_gone).collect::<Vec<_>>())
        };
        let gone = self.cluster.read(gone).await?;
        if gone.is_empty() {
            return Ok(());
        }
        let write = move |connection: &Connection| {
            gone.iter().try_for_each(|key| clear(connection, &format!("host/{key}"), now_ms()))
        };
        self.cluster.write_in(term, write).await
    }
}

/// What leaders have told that is still open: the whole key, and the sentence.
fn open_of_leaders(connection: &Connection) -> rusqlite::Result<Vec<(String, String)>> {
    let open = open_below(connection, "")?;
    Ok(open.into_iter().filter(|(key, _)| key.contains("/leader/")).collect())
}

fn keep(
    connection: &Connection,
    news: &News,
    hosts: &[(String, String, bool, Duration)],
) -> Result<(), crate::cluster::Refused> {
    for condition in &news.wrong {
        let object = condition.what.split("/leader/").next().unwrap_or_default().to_owned();
        let id = object.strip_prefix("host/").unwrap_or_default();
        let host = hosts.iter().find(|host| host.0 == id).map(|host| host.1.clone()).unwrap_or_default();
        let happened = Happened {
            key: condition.what.clone(),
            severity: condition.severity,
            component: condition.component.clone(),
            object,
            host,
            sentence: condition.sentence.clone(),
            is_lasting: true,
        };
        raise(connection, &happened, now_ms())?;
    }
    news.over.iter().try_for_each(|key| clear(connection, key, now_ms()))
}

impl crate::cluster::Cluster {
    /// Writes down what happened, if this host leads; whoever else leads notices by itself.
    pub(crate) async fn note_happened(&self, happened: Happened) -> Result<(), Problem> {
        self.write(move |connection| raise(connection, &happened, now_ms())).await
    }

    /// Takes in what a host tells about itself.
    pub(crate) async fn take_news(&self, host: HostId, news: News) -> Result<(), Problem> {
        let take = move |connection: &Connection| {
            let known = kept::hosts(connection)?.into_iter().find(|known| known.id == host);
            let name = known.map(|known| known.name).ok_or_else(|| {
                Problem::new(ProblemCode::Forbidden, "This host is no member of the cluster.")
            })?;
            super::take(connection, host, &name, &news, now_ms())
        };
        self.write(take).await
    }
}
