//! Whoever does a task ends at every moment at which something was or was not written, and another goes on from what
//! is kept.

use std::sync::{
    Mutex,
    atomic::{AtomicUsize, Ordering},
};

use quantix_api::{Problem, ProblemCode, Scope, StepState, TaskKind, TaskState};
use quantix_store::HostId;
use rusqlite::Connection;
use serde_json::{Value, json};

use super::{
    NewTask, kept,
    kinds::AfterCrash,
    plan::{Report, Standing},
    runner::{Book, Did, Hand, Steps, carry_out},
};
use crate::{
    cluster::{Refused, told},
    lock,
};

const HOST: HostId = HostId(0xa1);

/// The tables, which the program loses sight of after some reports.
struct Tables {
    connection: Mutex<Connection>,
    task: i64,
    /// So many reports are kept before the end.
    left: AtomicUsize,
    /// Whether the report after them is kept too, and only the answer lost.
    is_last_kept: bool,
}

impl Book for Tables {
    async fn keep(&self, report: Report) -> Result<Standing, Problem> {
        let gone = || Problem::new(ProblemCode::Internal, "The program has ended.");
        let left = self.left.load(Ordering::Relaxed);
        if left == 0 && !self.is_last_kept {
            return Err(gone());
        }
        let kept = kept::report(&lock(&self.connection), Some(HOST), self.task, report, 5);
        let standing = kept.map_err(|refused| match refused {
            Refused::Problem(problem) => problem,
            Refused::Sqlite(error) => Problem::new(ProblemCode::Internal, error.to_string()),
        })?;
        if left == 0 {
            return Err(gone());
        }
        self.left.store(left - 1, Ordering::Relaxed);
        Ok(standing)
    }
}

/// Steps that note what was done to them.
#[derive(Default)]
struct Noted {
    acts: Mutex<Vec<usize>>,
    undone: Mutex<Vec<usize>>,
    fails_at: Option<usize>,
    /// So many times nobody answers what is asked.
    unanswered: AtomicUsize,
}

impl Noted {
    fn asks(&self) -> Result<(), String> {
        let answer = match self.unanswered.load(Ordering::Relaxed) {
            0 => Ok(()),
            left => {
                self.unanswered.store(left - 1, Ordering::Relaxed);
                Err(Problem::new(ProblemCode::Unavailable, "Nobody leads."))
            }
        };
        told::heard(answer).map_err(|problem| problem.detail)
    }
}

impl Steps for Noted {
    async fn memo(&self) -> Value {
        json!({ "remembered": true })
    }

    async fn act(&self, step: usize, standing: &Standing, _: &Hand) -> Result<Did, String> {
        assert_eq!(standing.memo["remembered"], true);
        lock(&self.acts).push(step);
        self.asks()?;
        if self.fails_at == Some(step) { Err("It broke.".into()) } else { Ok(Did::Done) }
    }

    async fn undo(&self, step: usize, _standing: &Standing) {
        lock(&self.undone).push(step);
        drop(self.asks());
    }

    fn outcome(&self) -> String {
        "It was done.".into()
    }
}

fn begun(kind: TaskKind) -> (Connection, i64) {
    let connection = crate::cluster::tables();
    let new = NewTask {
        kind,
        object: Scope::Host(HOST.to_string()),
        object_name: "qx-1".into(),
        host: Some(HOST),
        params: json!({ "services": ["libvirt", "ovn-northd", "ovn-controller"] }),
        actor: "ada".into(),
        address: "192.0.2.1".into(),
    };
    let id = kept::add(&connection, &new, 1).unwrap().id;
    (connection, id)
}

/// Does a task with a program that ends after so many reports, and then with one that does not.
async fn with_an_end(
    kind: TaskKind,
    after: usize,
    is_last_kept: bool,
    fails_at: Option<usize>,
    cancelled_at: Option<usize>,
) -> (Standing, Noted) {
    let (connection, task) = begun(kind);
    let rules = super::kinds::Kind::of(kind);
    let steps = Noted { fails_at, ..Noted::default() };
    let mut tables =
        Tables { connection: Mutex::new(connection), task, left: AtomicUsize::new(after), is_last_kept };
    let standing = |tables: &Tables| kept::find(&lock(&tables.connection), task).unwrap().unwrap().standing;
    let first = carry_out(standing(&tables), rules.after_crash, &tables, &steps, &Hand::for_tests()).await;
    assert!(first.is_err() || standing(&tables).state.is_end());
    if cancelled_at == Some(after) {
        drop(kept::cancel(&lock(&tables.connection), task, "ben", 7));
    }
    tables.left = AtomicUsize::new(1000);
    let last = carry_out(standing(&tables), rules.after_crash, &tables, &steps, &Hand::for_tests()).await;
    let last = last.unwrap();
    assert_eq!(last, standing(&tables));
    (last, steps)
}

#[tokio::test]
async fn a_task_that_goes_on_is_done_wherever_its_owner_ended() {
    for after in 0..12 {
        for is_last_kept in [false, true] {
            let (standing, steps) =
                with_an_end(TaskKind::RestartServices, after, is_last_kept, None, None).await;
            assert_eq!(standing.state, TaskState::Done, "{after} {is_last_kept}");
            let acts = lock(&steps.acts).clone();
            assert!(acts.is_sorted() && acts.len() <= 4, "{after} {is_last_kept} {acts:?}");
            for step in 0..3 {
                assert!(acts.contains(&step), "{after} {is_last_kept} {acts:?}");
            }
            assert!(lock(&steps.undone).is_empty());
        }
    }
}

#[tokio::test]
async fn a_task_that_goes_back_leaves_nothing_of_it_wherever_its_owner_ended() {
    let (mut went_back, mut was_done) = (0, 0);
    for after in 0..12 {
        for is_last_kept in [false, true] {
            let (standing, steps) =
                with_an_end(TaskKind::SupportBundle, after, is_last_kept, None, None).await;
            let interrupted = lock(&steps.acts).len() < 3;
            match standing.state {
                TaskState::Done => was_done += 1,
                TaskState::Failed => {
                    went_back += 1;
                    assert!(standing.outcome.contains("Try again"), "{standing:?}");
                    for step in lock(&steps.acts).iter() {
                        assert!(lock(&steps.undone).contains(step), "{after} {is_last_kept}");
                    }
                    assert!(
                        standing
                            .steps
                            .iter()
                            .all(|step| { matches!(step.state, StepState::Undone | StepState::Waiting) })
                    );
                }
                other => panic!("{other:?} {interrupted}"),
            }
        }
    }
    assert!(went_back >= 6 && was_done >= 6, "{went_back} {was_done}");
    assert_eq!(super::kinds::Kind::of(TaskKind::SupportBundle).after_crash, AfterCrash::GoesBack);
}

#[tokio::test]
async fn what_fails_is_undone_wherever_its_owner_ended() {
    for kind in [TaskKind::RestartServices, TaskKind::SupportBundle] {
        for after in 0..14 {
            for is_last_kept in [false, true] {
                let (standing, steps) = with_an_end(kind, after, is_last_kept, Some(1), None).await;
                assert_eq!(standing.state, TaskState::Failed, "{kind:?} {after}");
                assert!(!standing.outcome.is_empty());
                if kind == TaskKind::RestartServices {
                    // A service that was restarted is not restarted back.
                    assert!(lock(&steps.undone).is_empty());
                    continue;
                }
                for step in lock(&steps.acts).iter() {
                    assert!(lock(&steps.undone).contains(step), "{kind:?} {after} {is_last_kept}");
                }
            }
        }
    }
}

#[tokio::test]
async fn what_is_cancelled_while_its_owner_is_gone_is_undone_when_it_is_back() {
    for after in 0..8 {
        let (standing, steps) = with_an_end(TaskKind::SupportBundle, after, true, None, Some(after)).await;
        match standing.state {
            TaskState::Done => assert_eq!(lock(&steps.acts).len(), 3),
            TaskState::Cancelled => {
                for step in lock(&steps.acts).iter() {
                    assert!(lock(&steps.undone).contains(step), "{after}");
                }
            }
            other => panic!("{after} {other:?}"),
        }
    }
}

#[tokio::test]
async fn what_nobody_answers_is_done_and_undone_again() {
    let done = async |kind, fails_at, unanswered| {
        let (connection, task) = begun(kind);
        let standing = kept::find(&connection, task).unwrap().unwrap().standing;
        let (connection, left) = (Mutex::new(connection), AtomicUsize::new(1000));
        let tables = Tables { connection, task, left, is_last_kept: false };
        let steps = Noted { fails_at, unanswered: AtomicUsize::new(unanswered), ..Noted::default() };
        let rules = super::kinds::Kind::of(kind);
        let ended =
            carry_out(standing, rules.after_crash, &tables, &steps, &Hand::for_tests()).await.unwrap();
        (ended, lock(&steps.acts).clone(), lock(&steps.undone).clone())
    };
    let (ended, acts, undone) = done(TaskKind::RestartServices, None, 2).await;
    assert_eq!((ended.state, acts, undone), (TaskState::Done, vec![0, 0, 0, 1, 2], vec![]));
    // What may not be done twice is undone, as often as it takes.
    let (ended, acts, undone) = done(TaskKind::SupportBundle, None, 3).await;
    assert_eq!((ended.state, acts, undone), (TaskState::Failed, vec![0], vec![0, 0, 0]));
    assert!(ended.outcome.contains("Nobody leads."), "{ended:?}");
    // What fails for another reason fails once.
    let (ended, acts, _) = done(TaskKind::RestartServices, Some(1), 0).await;
    assert_eq!((ended.state, acts), (TaskState::Failed, vec![0, 1]));
}

#[test]
fn two_cancel_and_two_try_again() {
    let (connection, task) = begun(TaskKind::SupportBundle);
    kept::report(&connection, Some(HOST), task, Report::Begin(Value::Null), 2).unwrap();
    let problem = |refused: Refused| match refused {
        Refused::Problem(problem) => problem,
        Refused::Sqlite(error) => panic!("{error}"),
    };
    let shown = kept::cancel(&connection, task, "ada", 3).unwrap().shown();
    assert_eq!((shown.state, shown.cancelled_by.as_deref()), (TaskState::Cancelling, Some("ada")));
    assert_eq!(
        kept::cancel(&connection, task, "ben", 4).unwrap().shown().cancelled_by.as_deref(),
        Some("ada")
    );
    let early = kept::retry(&connection, task, "ben", "", 5).unwrap_err();
    assert_eq!(problem(early).detail, "It has not ended yet.");
    let end = Report::End(TaskState::Cancelled, "It was cancelled.".into());
    kept::report(&connection, Some(HOST), task, end, 6).unwrap();
    let late = problem(kept::cancel(&connection, task, "ben", 7).unwrap_err());
    assert_eq!(
        (late.code, late.detail.as_str()),
        (ProblemCode::Conflict, "It has ended already: It was cancelled.")
    );
    let again = kept::retry(&connection, task, "ada", "", 8).unwrap().shown();
    assert_eq!((again.attempt, again.retry_of, again.state), (2, Some(task), TaskState::Waiting));
    let twice = problem(kept::retry(&connection, task, "ben", "", 9).unwrap_err());
    assert!(twice.detail.contains("already"), "{twice}");
    // Another host has nothing to say about it.
    let foreign = kept::report(&connection, Some(HostId(2)), again.id, Report::Begin(Value::Null), 10);
    assert_eq!(problem(foreign.unwrap_err()).code, ProblemCode::Forbidden);
}

#[test]
fn what_would_disturb_each_other_is_not_begun() {
    let (connection, _) = begun(TaskKind::RestartHost);
    let new = |kind, host: u64| NewTask {
        kind,
        object: Scope::Host(HostId(host).to_string()),
        object_name: "qx-1".into(),
        host: Some(HostId(host)),
        params: json!({ "services": ["libvirt"] }),
        actor: "ada".into(),
        address: String::new(),
    };
    for kind in [TaskKind::RestartHost, TaskKind::ShutDownHost, TaskKind::RestartServices] {
        assert!(kept::add(&connection, &new(kind, HOST.0), 2).is_err(), "{kind:?}");
    }
    assert!(kept::add(&connection, &new(TaskKind::SupportBundle, HOST.0), 2).is_ok());
    assert!(kept::add(&connection, &new(TaskKind::RestartHost, 0xb2), 2).is_ok());
    // A host that is gone in the middle of it can be removed all the same.
    assert!(kept::add(&connection, &new(TaskKind::RemoveHost, HOST.0), 2).is_ok());
    assert!(kept::add(&connection, &new(TaskKind::MoveVdcRole, 0xc3), 2).is_ok());
    assert!(kept::add(&connection, &new(TaskKind::MoveVdcRole, 0xd4), 2).is_err());
}

#[test]
fn a_failure_is_an_alarm_until_it_is_tried_again() {
    let (connection, task) = begun(TaskKind::SupportBundle);
    kept::give_up(&connection, task, TaskState::Failed, "qx-1 does not answer.".into(), 3).unwrap();
    // Its owner comes back and knows nothing of that.
    assert!(kept::report(&connection, Some(HOST), task, Report::Begin(Value::Null), 4).is_err());
    let open = || {
        let count = "SELECT count(*) FROM event WHERE cleared_at IS NULL AND severity = 'warning'";
        connection.query_row::<i64, _, _>(count, [], |row| row.get(0)).unwrap()
    };
    assert_eq!(open(), 1);
    kept::retry(&connection, task, "ada", "", 5).unwrap();
    assert_eq!(open(), 0);
}

#[test]
fn history_is_kept_for_a_while_and_no_longer() {
    let (connection, first) = begun(TaskKind::SupportBundle);
    kept::give_up(&connection, first, TaskState::Done, "Done.".into(), 3).unwrap();
    let new = NewTask {
        kind: TaskKind::SupportBundle,
        object: Scope::Host(HOST.to_string()),
        object_name: "qx-1".into(),
        host: Some(HOST),
        params: Value::Null,
        actor: "ada".into(),
        address: String::new(),
    };
    let later = 91 * 24 * 60 * 60 * 1000;
    let second = kept::add(&connection, &new, later).unwrap().id;
    assert_eq!(second, first + 1);
    assert!(kept::find(&connection, first).unwrap().is_none());
    assert!(kept::find(&connection, second).unwrap().is_some());
}
