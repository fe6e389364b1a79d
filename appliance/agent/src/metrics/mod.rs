//! What this host and its machines use, looked at again and again, and kept in files of this host. Nothing of it goes into
//! the data that hosts share.

mod prometheus;
mod rates;
mod ring;

use std::{
    collections::{HashMap, HashSet},
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant, SystemTime},
};

use quantix_api::{Metric, Metrics, Problem, Span};
use quantix_compute::VmId;
use quantix_host::{Load, blocking};
use quantix_store::HostId;
use rusqlite::Connection;

use self::{prometheus::Counted, ring::Ring};
use crate::api::Agent;

const EACH: Duration = Duration::from_secs(1);
/// While no machine is on.
const NONE_IS_ON: Duration = Duration::from_secs(3);
/// While libvirt does not answer.
const AFTER_TROUBLE: Duration = Duration::from_secs(10);
/// Machines are looked at so seldom that it takes no more than this part of the time, up to a pause that is too long.
const PART: u32 = 50;
const LONGEST_PAUSE: Duration = Duration::from_secs(20);
/// Files of machines that are gone are removed so often.
const TIDIES: Duration = Duration::from_secs(10);

const HOST: &str = "host";
const ENDING: &str = ".ring";

/// Where figures are kept, and what was counted last.
pub(crate) struct Kept {
    folder: PathBuf,
    last: Mutex<Last>,
}

#[derive(Clone, Default)]
struct Last {
    host: Option<Load>,
    vms: HashMap<VmId, Load>,
}

/// Something that is looked at again and again.
struct Followed {
    ring: Ring,
    load: Load,
    looked: Instant,
    /// In seconds since 1970.
    at: u64,
}

impl Kept {
    pub(crate) fn in_folder(state_dir: &Path) -> Self {
        Self { folder: state_dir.join("metrics"), last: Mutex::default() }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.join(format!("{name}{ENDING}"))
    }

    fn with_last<R>(&self, act: impl FnOnce(&mut Last) -> R) -> R {
        act(&mut self.last.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// What this host used.
    pub(crate) async fn of_host(&self, span: Span) -> io::Result<Metrics> {
        self.read(HOST, span).await
    }

    /// What one of its machines used.
    pub(crate) async fn of_vm(&self, id: VmId, span: Span) -> io::Result<Metrics> {
        self.read(&id.to_string(), span).await
    }

    async fn read(&self, name: &str, span: Span) -> io::Result<Metrics> {
        let path = self.file(name);
        let read = blocking(move || ring::read(&path, span, seconds())).await;
        let course = read.unwrap_or_else(|| Err(io::Error::other("the reading ended")))?;
        let values = Metric::ALL.iter().enumerate().map(|(at, metric)| {
            let values = course.values.iter().map(|sample| {
                sample.and_then(|sample| sample.get(at).copied()).filter(|value| value.is_finite())
            });
            (*metric, values.collect())
        });
        let begin =
            i64::try_from(course.begin).ok().and_then(|second| jiff::Timestamp::from_second(second).ok());
        Ok(Metrics {
            span,
            begin: begin.unwrap_or_default(),
            step_seconds: u32::try_from(course.step).unwrap_or(u32::MAX),
            values: values.collect(),
        })
    }

    /// The files there are, with the machines they are of.
    fn files(&self) -> io::Result<Vec<(PathBuf, Option<VmId>)>> {
        let mut files = Vec::new();
        for entry in fs::read_dir(&self.folder)? {
            let path = entry?.path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            let id = name.strip_suffix(ENDING).and_then(|name| name.parse().ok());
            files.push((path, id));
        }
        Ok(files)
    }
}

impl Followed {
    fn begin(path: &Path, load: Load) -> io::Result<Self> {
        let at = seconds();
        fs::create_dir_all(path.parent().unwrap_or(path))?;
        Ok(Self { ring: Ring::open(path, at)?, load, looked: Instant::now(), at })
    }

    /// Takes in what has been counted by now.
    fn look(&mut self, load: Load) -> io::Result<()> {
        let now = seconds();
        if now == self.at {
            // The next look counts for this one too.
            return Ok(());
        }
        let sample = rates::between(&self.load, &load, self.looked.elapsed());
        let after = std::mem::replace(&mut self.at, now);
        (self.load, self.looked) = (load, Instant::now());
        self.ring.add(after, now, &sample)
    }
}

impl Agent {
    /// What this host and its machines have used, for Prometheus.
    pub(crate) async fn metrics_text(&self) -> Result<String, Problem> {
        let me = self.cluster.store()?.id();
        let names = self.cluster.read(move |connection| names_on(connection, me)).await?;
        let Last { host, vms } = self.metrics.with_last(|last| last.clone());
        let mut text = String::new();
        let of_host: Vec<_> =
            host.iter().map(|load| Counted { labels: vec![("host", &*self.name)], load }).collect();
        prometheus::add(&mut text, "host", &of_host);
        let ids: Vec<_> = names.iter().map(|(id, name)| (*id, id.to_string(), name)).collect();
        let of_vms: Vec<_> = ids
            .iter()
            .filter_map(|(id, text, name)| {
                let labels = vec![("host", &*self.name), ("vm", &**text), ("name", &***name)];
                Some(Counted { labels, load: vms.get(id)? })
            })
            .collect();
        prometheus::add(&mut text, "vm", &of_vms);
        Ok(text)
    }

    /// Looks at this host, for as long as the program runs.
    pub(crate) async fn keep_host_metrics(self: Arc<Self>) {
        let mut ticks = tokio::time::interval(EACH);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut followed: Option<Followed> = None;
        let mut said = Said::default();
        let mut tidied = Instant::now();
        loop {
            ticks.tick().await;
            let path = self.metrics.file(HOST);
            let work = move || {
                let load = quantix_host::load();
                let kept = match followed.take() {
                    Some(mut known) => {
                        let kept = known.look(load.clone());
                        followed = Some(known);
                        kept
                    }
                    None => Followed::begin(&path, load.clone()).map(|new| followed = Some(new)),
                };
                (followed, load, kept)
            };
            let Some((again, load, kept)) = blocking(work).await else {
                followed = None;
                continue;
            };
            followed = again;
            self.metrics.with_last(|last| last.host = Some(load));
            said.about(kept);
            if tidied.elapsed() > TIDIES {
                tidied = Instant::now();
                if let Err(error) = self.forget_those_gone().await {
                    log::debug!("What was kept of machines that are gone is not removed: {error}");
                }
            }
        }
    }

    /// Looks at the machines of this host that are on.
    pub(crate) async fn keep_vm_metrics(self: Arc<Self>) {
        let mut followed: HashMap<VmId, Followed> = HashMap::new();
        let mut said = Said::default();
        loop {
            let began = Instant::now();
            let loads = match self.libvirt.loads().await {
                Ok(loads) => loads,
                Err(why) => {
                    log::debug!("What machines use cannot be asked: {why}");
                    self.metrics.with_last(|last| last.vms.clear());
                    tokio::time::sleep(AFTER_TROUBLE).await;
                    continue;
                }
            };
            let took = began.elapsed();
            self.metrics.with_last(|last| last.vms.clone_from(&loads));
            let pause = if loads.is_empty() { NONE_IS_ON } else { (took * PART).clamp(EACH, LONGEST_PAUSE) };
            let agent = Arc::clone(&self);
            let looked = blocking(move || {
                let kept = agent.look_at(&mut followed, loads);
                (followed, kept)
            });
            let Some((again, kept)) = looked.await else { return };
            followed = again;
            said.about(kept);
            tokio::time::sleep(pause.saturating_sub(began.elapsed())).await;
        }
    }

    fn look_at(&self, followed: &mut HashMap<VmId, Followed>, loads: HashMap<VmId, Load>) -> io::Result<()> {
        let mut outcome = Ok(());
        for (_, gone) in followed.extract_if(|id, _| !loads.contains_key(id)) {
            outcome = gone.ring.close(seconds()).and(outcome);
        }
        for (id, load) in loads {
            let kept = match followed.get_mut(&id) {
                Some(known) => known.look(load),
                None => Followed::begin(&self.metrics.file(&id.to_string()), load)
                    .map(|new| drop(followed.insert(id, new))),
            };
            outcome = kept.and(outcome);
        }
        outcome
    }

    /// Removes what is kept of machines that this host has no more.
    async fn forget_those_gone(&self) -> io::Result<()> {
        let Ok(store) = self.cluster.store() else { return Ok(()) };
        let me = store.id();
        let Ok(here) = self.cluster.read(move |connection| names_on(connection, me)).await else {
            return Ok(());
        };
        let here: HashSet<VmId> = here.into_iter().map(|(id, _)| id).collect();
        let files = self.metrics.files()?;
        let gone = files.into_iter().filter(|(_, id)| id.is_some_and(|id| !here.contains(&id)));
        for (path, _) in gone {
            crate::durable::remove(&path)?;
        }
        Ok(())
    }
}

/// A host's machines, and no more of them than what they are called.
fn names_on(connection: &Connection, host: HostId) -> rusqlite::Result<Vec<(VmId, String)>> {
    let all: Vec<(String, String)> = connection
        .prepare_cached("SELECT id, name FROM vm WHERE host = ?1 ORDER BY id")?
        .query_map([host.0], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<Result<_, _>>()?;
    Ok(all.into_iter().filter_map(|(id, name)| Some((id.parse().ok()?, name))).collect())
}

/// Says once that figures cannot be kept, and that they can again.
#[derive(Default)]
struct Said(bool);

impl Said {
    fn about(&mut self, kept: io::Result<()>) {
        let failed = kept.is_err();
        match kept {
            Err(error) if !self.0 => log::warn!("What is used cannot be kept: {error}"),
            Ok(()) if self.0 => log::info!("What is used is kept again"),
            _ => {}
        }
        self.0 = failed;
    }
}

fn seconds() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
