//! Whoever does tasks: sees those that are its own, does step after step, and tells how far it is. All it knows of a
//! task is what is kept, so that it can end at any moment and another can go on.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use quantix_api::{Problem, Progress, StepState, TaskKind, TaskState, Unit};
use quantix_compute::noticing_absence;
use quantix_store::{HostId, Seen, Store};
use rusqlite::Connection;
use tokio::{sync::watch, task::JoinHandle};

use super::{
    Kept, kept,
    kinds::{self, AfterCrash, Doer, Owner},
    plan::{Next, Report, Standing},
    work::{self, Work},
};
use crate::{
    api::Agent,
    cluster::{self, told},
    sessions::now_ms,
};

/// Progress is written no more often.
const PROGRESS: Duration = Duration::from_millis(200);
/// How fast something comes is said after so long.
const RATE_AFTER: Duration = Duration::from_secs(1);
/// What could not be told is told again after so long.
const AGAIN: Duration = Duration::from_millis(500);
/// A libvirt that has ended has been started anew by then.
const LIBVIRT_IS_BACK_WITHIN: Duration = Duration::from_secs(60);
/// How often is looked when nothing changes, with tasks open and without.
const LOOK: Duration = Duration::from_secs(1);
const LOOK_IDLE: Duration = Duration::from_secs(30);

/// Where a task's progress goes, and whether its end is asked for.
#[derive(Clone, Debug)]
pub(crate) struct Hand {
    progress: watch::Sender<Option<Progress>>,
    is_to_end: Arc<AtomicBool>,
}

impl Hand {
    fn new() -> Self {
        Self { progress: watch::Sender::new(None), is_to_end: Arc::default() }
    }

    #[cfg(test)]
    pub(crate) fn for_tests() -> Self {
        Self::new()
    }

    /// How far the present step is.
    pub(crate) fn is_at(&self, progress: Progress) {
        self.progress.send_replace(Some(progress));
    }

    /// Whether somebody has asked for the end.
    pub(crate) fn is_to_end(&self) -> bool {
        self.is_to_end.load(Ordering::Relaxed)
    }
}

/// Where reports are kept.
pub(crate) trait Book: Send + Sync {
    /// Keeps a report, and says how the task stands now.
    fn keep(&self, report: Report) -> impl Future<Output = Result<Standing, Problem>> + Send;
}

/// What knows how to do the steps of a task.
pub(crate) trait Steps: Send + Sync {
    /// What must be remembered from before the first step on.
    fn memo(&self) -> impl Future<Output = serde_json::Value> + Send;
    /// Does a step. It may have been done before, wholly or in part.
    fn act(
        &self,
        step: usize,
        standing: &Standing,
        hand: &Hand,
    ) -> impl Future<Output = Result<Did, String>> + Send;
    /// Undoes what was done of a step, which may be nothing.
    fn undo(&self, step: usize, standing: &Standing) -> impl Future<Output = ()> + Send;
    /// What came of it when all steps are done.
    fn outcome(&self) -> String;
}

/// What a step came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Did {
    /// It is done.
    Done,
    /// It is done, and has made this file.
    File(quantix_api::TaskFile),
    /// It stopped because the end was asked for.
    Stopped,
}

/// Does a task to its end, from wherever it is. An error is one of telling: whoever goes on later goes on from there.
pub(crate) async fn carry_out(
    mut standing: Standing,
    after_crash: AfterCrash,
    book: &impl Book,
    steps: &impl Steps,
    hand: &Hand,
) -> Result<Standing, Problem> {
    // A step that is running when nobody has begun it here was interrupted.
    let interrupted = standing.steps.iter().position(|step| step.state == StepState::Running);
    if let (Some(step), AfterCrash::GoesBack, TaskState::Running) = (interrupted, after_crash, standing.state)
    {
        let why = "The host's agent ended while it was being done. Try again.".to_owned();
        standing = book.keep(Report::StepFailed(step, why)).await?;
    }
    let mut away_since = None;
    loop {
        standing = match standing.next() {
            Next::Nothing => return Ok(standing),
            Next::Begin => book.keep(Report::Begin(steps.memo().await)).await?,
            Next::Undo(step) => {
                loop {
                    let undone = noticing_absence(told::listening(steps.undo(step, &standing)));
                    let (((), went_unanswered), is_away) = undone.await;
                    if !went_unanswered && !comes_back(&mut away_since, is_away) {
                        break;
                    }
                    tokio::time::sleep(AGAIN).await;
                }
                book.keep(Report::StepUndone(step)).await?
            }
            Next::End(state) => {
                let outcome = match state {
                    TaskState::Done => steps.outcome(),
                    TaskState::Cancelled => "It was cancelled.".to_owned(),
                    _ => "It failed.".to_owned(),
                };
                book.keep(Report::End(state, outcome)).await?
            }
            Next::Do(step) => {
                standing = book.keep(Report::StepBegins(step)).await?;
                if standing.next() != Next::Do(step) {
                    // Its end was asked for just now.
                    continue;
                }
                let done = noticing_absence(told::listening(act(&standing, step, book, steps, hand)));
                let ((did, went_unanswered), is_away) = done.await;
                let may_go_well = went_unanswered || comes_back(&mut away_since, is_away && did.is_err());
                match did {
                    Ok(Did::Done) => book.keep(Report::StepDone(step)).await?,
                    Ok(Did::File(file)) => {
                        book.keep(Report::File(file)).await?;
                        book.keep(Report::StepDone(step)).await?
                    }
                    // Whoever asked for the end has changed what is to be done next.
                    Ok(Did::Stopped) => book.keep(Report::Look).await?,
                    // That nobody leads for a while, or that libvirt starts anew, makes no task fail.
                    Err(why) if may_go_well && after_crash == AfterCrash::GoesOn => {
                        log::debug!("A step is done again, because it was not answered: {why}");
                        tokio::time::sleep(AGAIN).await;
                        book.keep(Report::Look).await?
                    }
                    Err(why) => book.keep(Report::StepFailed(step, why)).await?,
                }
            }
        };
    }
}

/// Whether libvirt, if it is away, can be expected to come back.
fn comes_back(away_since: &mut Option<Instant>, is_away: bool) -> bool {
    if !is_away {
        *away_since = None;
        return false;
    }
    away_since.get_or_insert_with(Instant::now).elapsed() < LIBVIRT_IS_BACK_WITHIN
}

/// Does a step, and tells how far it is while it is done.
async fn act(
    standing: &Standing,
    step: usize,
    book: &impl Book,
    steps: &impl Steps,
    hand: &Hand,
) -> Result<Did, String> {
    hand.progress.send_replace(None);
    let mut progress = hand.progress.subscribe();
    progress.mark_unchanged();
    let tell = async {
        // What had come before this attempt says nothing of how fast the rest comes.
        let mut first = None;
        while progress.changed().await.is_ok() {
            let now = *progress.borrow_and_update();
            if let Some(mut now) = now {
                let (at, since) = *first.get_or_insert((now.done, Instant::now()));
                now.rate = rate(now, at, since.elapsed());
                // Progress that cannot be told now is told with the next.
                drop(book.keep(Report::Progress(now)).await);
            }
            tokio::time::sleep(PROGRESS).await;
        }
        std::future::pending::<()>().await;
    };
    tokio::select! {
        done = steps.act(step, standing, hand) => done,
        () = tell => Err("It broke off.".to_owned()),
    }
}

/// How many bytes come in a second, once it can be said.
fn rate(now: Progress, first: u64, elapsed: Duration) -> Option<u64> {
    let ms = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX);
    let is_known = now.unit == Unit::Bytes && elapsed >= RATE_AFTER;
    is_known.then(|| now.done.saturating_sub(first).saturating_mul(1000) / ms.max(1))
}

/// A task that is being done here.
struct Running {
    hand: Hand,
    work: JoinHandle<()>,
    began: Instant,
}

impl Agent {
    /// Does the tasks of this host, and those of the cluster while it leads.
    pub(crate) async fn do_tasks(self: Arc<Self>) {
        let store = self.cluster.opened().await;
        let mut leadership = store.leadership();
        let mut watch = store.watch(store.applied());
        let mut running: HashMap<i64, Running> = HashMap::new();
        self.sweep_files().await;
        loop {
            let leads = *leadership.borrow_and_update();
            let under_way = running.len();
            let open = match self.look_for_tasks(&store, leads, &mut running).await {
                Ok(open) => open,
                Err(problem) => {
                    log::debug!("Tasks could not be looked at: {problem}");
                    1
                }
            };
            if running.len() < under_way {
                self.sweep_files().await;
            }
            let changed = async {
                while let Seen::Changes(changes) = watch.next().await {
                    if changes.rows.iter().any(|row| matches!(&*row.table, "task" | "host")) {
                        break;
                    }
                }
            };
            tokio::select! {
                changed = leadership.changed() => if changed.is_err() { return },
                () = changed => {}
                () = tokio::time::sleep(if open > 0 { LOOK } else { LOOK_IDLE }) => {
                    self.sweep_files().await;
                }
            }
        }
    }

    async fn look_for_tasks(
        self: &Arc<Self>,
        store: &Store,
        leads: Option<u64>,
        running: &mut HashMap<i64, Running>,
    ) -> Result<usize, Problem> {
        let open = self.cluster.read(kept::open).await?;
        running.retain(|id, running| {
            !running.work.is_finished() || {
                // What could not be told is not tried again at once.
                open.iter().any(|task| task.id == *id) && running.began.elapsed() < LOOK
            }
        });
        for task in &open {
            let term = match task.owner {
                Some(owner) if owner == store.id() => None,
                None if leads.is_some() => leads,
                _ => continue,
            };
            match running.get(&task.id) {
                Some(running) if task.standing.state == TaskState::Cancelling => {
                    running.hand.is_to_end.store(true, Ordering::Relaxed);
                }
                Some(_) => {}
                // What is just being made is started when it is there.
                None if task.kind == TaskKind::StartVm && is_behind(task, &open) => {}
                None => {
                    let hand = Hand::new();
                    let work =
                        tokio::spawn(Arc::clone(self).carry_out_here(task.clone(), term, hand.clone()));
                    running.insert(task.id, Running { hand, work, began: Instant::now() });
                }
            }
        }
        if let Some(term) = leads {
            self.give_up_tasks(store, term, &open).await?;
        }
        Ok(open.len())
    }

    async fn carry_out_here(self: Arc<Self>, task: Kept, term: Option<u64>, hand: Hand) {
        let (id, title) = (task.id, task.title());
        log::info!(task = id; "Task {id} is being done: {title}");
        let book = Here { agent: Arc::clone(&self), task: id, term };
        let (after_crash, standing) = (task.rules().after_crash, task.standing.clone());
        hand.is_to_end.store(standing.state == TaskState::Cancelling, Ordering::Relaxed);
        let work = Work::new(Arc::clone(&self), task);
        match carry_out(standing, after_crash, &book, &work, &hand).await {
            Ok(standing) => {
                let state = standing.state.name();
                log::info!(task = id; "Task {id}, {title}: {state}. {}", standing.outcome);
            }
            // Whoever leads by now, or this host a little later, goes on with it.
            Err(problem) => log::info!(task = id; "Task {id}, {title}, waits: {problem}"),
        }
    }

    /// Ends the tasks of hosts that will not.
    async fn give_up_tasks(&self, store: &Store, term: u64, open: &[Kept]) -> Result<(), Problem> {
        let owned: Vec<_> = open.iter().filter(|task| task.rules().doer == Doer::Host).collect();
        if owned.is_empty() {
            return Ok(());
        }
        let hosts = self.cluster.read(cluster::kept::hosts).await?;
        let status = store.status();
        let led_for = self.led_for(term);
        for task in owned {
            let Some(owner) = task.owner else { continue };
            let is_host = hosts.iter().any(|host| host.id == owner);
            let silent = status.members.iter().find(|member| member.id == owner).map(|member| member.silent);
            let standing = match silent {
                Some(silent) if is_host => Owner::Silent(silent.unwrap_or(led_for)),
                _ => Owner::Removed,
            };
            let age = Duration::from_millis(u64::try_from(now_ms() - task.made_at).unwrap_or_default());
            let last_begun = task.standing.steps.last().is_some_and(|step| step.state != StepState::Waiting);
            let state = task.standing.state;
            let given_up = kinds::given_up(task.rules(), state, last_begun, &task.object_name, standing, age);
            if let Some((state, outcome)) = given_up {
                log::warn!(task = task.id; "Task {} is given up: {outcome}", task.id);
                let id = task.id;
                let give_up =
                    move |connection: &Connection| kept::give_up(connection, id, state, outcome, now_ms());
                self.cluster.write_in(term, give_up).await?;
            }
        }
        Ok(())
    }

    /// How long this host has led in a term, more or less.
    fn led_for(&self, term: u64) -> Duration {
        let mut led = crate::lock(&self.led_since);
        match *led {
            Some((of, since)) if of == term => since.elapsed(),
            _ => {
                *led = Some((term, Instant::now()));
                Duration::ZERO
            }
        }
    }

    async fn sweep_files(&self) {
        if let Err(problem) = work::bundle::sweep(self).await {
            log::debug!("Files of tasks could not be looked at: {problem}");
        }
    }
}

/// Whether something that began earlier is still being done with the same object.
fn is_behind(task: &Kept, open: &[Kept]) -> bool {
    open.iter().any(|other| other.id < task.id && other.object == task.object)
}

/// Keeps what is told here of a task with all data, whoever leads.
struct Here {
    agent: Arc<Agent>,
    task: i64,
    /// The term in which this host does what the leader does; nothing for its own task.
    term: Option<u64>,
}

impl Book for Here {
    async fn keep(&self, report: Report) -> Result<Standing, Problem> {
        let (id, cluster) = (self.task, &self.agent.cluster);
        if let Some(term) = self.term {
            let write = move |connection: &Connection| kept::report(connection, None, id, report, now_ms());
            return cluster.write_in(term, write).await;
        }
        // Progress is soon out of date; anything else must be kept before the next thing is done.
        let must = !matches!(report, Report::Progress(_));
        loop {
            match cluster.report(id, report.clone()).await {
                Err(problem) if must && problem.is_passing() => tokio::time::sleep(AGAIN).await,
                told => return told,
            }
        }
    }
}

impl cluster::Cluster {
    /// Takes in what a host tells of its task.
    pub(crate) async fn take_report(
        &self,
        host: HostId,
        task: i64,
        report: Report,
    ) -> Result<Standing, Problem> {
        self.write(move |connection| kept::report(connection, Some(host), task, report, now_ms())).await
    }
}
