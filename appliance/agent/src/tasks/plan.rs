//! The rules of tasks: what may follow on what, and what is to be done next. A task that has ended stays as it is.

use quantix_api::{Progress, StepState, TaskFile, TaskState, TaskStep};
use serde::{Deserialize, Serialize};

/// How a task stands, as far as rules are concerned. It is all that whoever goes on with a task must know.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Standing {
    pub(crate) state: TaskState,
    pub(crate) steps: Vec<TaskStep>,
    pub(crate) progress: Option<Progress>,
    /// Why it fails, from the moment it does; what came of it, at the end.
    pub(crate) outcome: String,
    pub(crate) file: Option<TaskFile>,
    /// What the owner must remember when it starts again.
    pub(crate) memo: serde_json::Value,
    /// What was done stays done: there is nothing to undo.
    pub(crate) stays: bool,
}

/// What the owner of a task tells of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Report {
    /// It begins, and will have to remember this.
    Begin(serde_json::Value),
    /// A step begins.
    StepBegins(usize),
    /// A step was done.
    StepDone(usize),
    /// A step could not be done, and why.
    StepFailed(usize, String),
    /// A step was undone.
    StepUndone(usize),
    /// The present step is so far.
    Progress(Progress),
    /// There is a file.
    File(TaskFile),
    /// It has ended in this state; the sentence says what came of it.
    End(TaskState, String),
    /// The file is there no longer. This may come long after the end.
    FileGone,
    /// Nothing; how does it stand?
    Look,
}

/// Why a report changes nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("The task has ended already.")]
    Ended,
    #[error("The task cannot get there from where it is.")]
    OutOfOrder,
}

/// What is to be done next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    Begin,
    Do(usize),
    Undo(usize),
    End(TaskState),
    /// It has ended.
    Nothing,
}

impl Standing {
    /// A task that nobody has begun.
    pub(crate) fn new(steps: &[String], stays: bool) -> Self {
        let step = |name: &String| TaskStep { name: name.clone(), state: StepState::Waiting };
        Self {
            state: TaskState::Waiting,
            steps: steps.iter().map(step).collect(),
            progress: None,
            outcome: String::new(),
            file: None,
            memo: serde_json::Value::Null,
            stays,
        }
    }

    /// What the owner does next.
    pub(crate) fn next(&self) -> Next {
        let fails = self.steps.iter().any(|step| step.state == StepState::Failed) || !self.outcome.is_empty();
        match self.state {
            TaskState::Waiting => Next::Begin,
            TaskState::Running if !fails => {
                match self.steps.iter().position(|step| step.state != StepState::Done) {
                    Some(step) => Next::Do(step),
                    None => Next::End(TaskState::Done),
                }
            }
            TaskState::Running | TaskState::Cancelling => {
                let end = if fails { TaskState::Failed } else { TaskState::Cancelled };
                // A step that failed, or was begun, may have done a part of its work.
                let is_to_be_undone = |step: &TaskStep| {
                    matches!(step.state, StepState::Done | StepState::Running | StepState::Failed)
                };
                match self.steps.iter().rposition(is_to_be_undone) {
                    Some(step) if !self.stays => Next::Undo(step),
                    _ => Next::End(end),
                }
            }
            TaskState::Done | TaskState::Failed | TaskState::Cancelled => Next::Nothing,
        }
    }

    /// Takes in what the owner tells, and whether that changes anything: the same told twice does not.
    pub(crate) fn take(&mut self, report: Report) -> Result<bool, Refusal> {
        match report {
            Report::Look => return Ok(false),
            Report::FileGone => return Ok(self.file.take().is_some()),
            _ => {}
        }
        if self.state.is_end() {
            return match report {
                Report::End(state, _) if state == self.state => Ok(false),
                _ => Err(Refusal::Ended),
            };
        }
        match report {
            Report::Begin(memo) => match self.state {
                TaskState::Waiting => {
                    self.state = TaskState::Running;
                    self.memo = memo;
                    Ok(true)
                }
                _ => Ok(false),
            },
            _ if self.state == TaskState::Waiting => Err(Refusal::OutOfOrder),
            Report::StepBegins(step) => {
                if self.next() != Next::Do(step) {
                    return Err(Refusal::OutOfOrder);
                }
                let had_progress = self.progress.take().is_some();
                Ok(self.set(step, StepState::Running) || had_progress)
            }
            Report::StepDone(step) => match self.step(step)? {
                StepState::Done => Ok(false),
                StepState::Running => {
                    self.progress = None;
                    Ok(self.set(step, StepState::Done))
                }
                _ => Err(Refusal::OutOfOrder),
            },
            Report::StepFailed(step, why) => match self.step(step)? {
                StepState::Failed => Ok(false),
                StepState::Running => {
                    self.progress = None;
                    self.outcome = why;
                    Ok(self.set(step, StepState::Failed))
                }
                _ => Err(Refusal::OutOfOrder),
            },
            Report::StepUndone(step) => {
                if self.step(step)? == StepState::Undone {
                    return Ok(false);
                }
                if self.next() != Next::Undo(step) {
                    return Err(Refusal::OutOfOrder);
                }
                Ok(self.set(step, StepState::Undone))
            }
            Report::Progress(progress) => {
                let is_news = self.progress != Some(progress);
                self.progress = Some(progress);
                Ok(is_news)
            }
            Report::File(file) => {
                self.file = Some(file);
                Ok(true)
            }
            Report::End(state, outcome) => self.end(state, outcome),
            Report::FileGone | Report::Look => Ok(false),
        }
    }

    /// Ends it for an owner that cannot.
    pub(crate) fn take_from_outside(&mut self, state: TaskState, outcome: String) -> Result<bool, Refusal> {
        if self.state.is_end() {
            return Err(Refusal::Ended);
        }
        self.end(state, outcome)
    }

    fn end(&mut self, state: TaskState, outcome: String) -> Result<bool, Refusal> {
        if !state.is_end() {
            return Err(Refusal::OutOfOrder);
        }
        if self.outcome.is_empty() || state != TaskState::Failed {
            self.outcome = outcome;
        }
        // Nothing is being done any more.
        let of_running = if state == TaskState::Failed { StepState::Failed } else { StepState::Undone };
        let of_running = if state == TaskState::Done { StepState::Done } else { of_running };
        for step in self.steps.iter_mut().filter(|step| step.state == StepState::Running) {
            step.state = of_running;
        }
        self.state = state;
        self.progress = None;
        if state != TaskState::Done {
            self.file = None;
        }
        Ok(true)
    }

    fn step(&self, step: usize) -> Result<StepState, Refusal> {
        self.steps.get(step).map(|step| step.state).ok_or(Refusal::OutOfOrder)
    }

    fn set(&mut self, step: usize, state: StepState) -> bool {
        match self.steps.get_mut(step) {
            Some(step) if step.state != state => {
                step.state = state;
                true
            }
            _ => false,
        }
    }

    /// Asks for the end of it, and whether that changes anything. `until` is the first step from which on there is no
    /// way back.
    pub(crate) fn cancel(&mut self, until: usize) -> Result<bool, CannotCancel> {
        match self.state {
            TaskState::Waiting => {
                self.state = TaskState::Cancelled;
                self.outcome = "It was cancelled before it began.".to_owned();
                Ok(true)
            }
            TaskState::Running if self.may_be_cancelled(until) => {
                self.state = TaskState::Cancelling;
                Ok(true)
            }
            TaskState::Running => Err(CannotCancel::TooLate),
            TaskState::Cancelling => Ok(false),
            TaskState::Done | TaskState::Failed | TaskState::Cancelled => Err(CannotCancel::Ended),
        }
    }

    /// Whether `cancel` would do something.
    pub(crate) fn may_be_cancelled(&self, until: usize) -> bool {
        match self.state {
            TaskState::Waiting => true,
            TaskState::Running => {
                let begun = |step: &TaskStep| matches!(step.state, StepState::Running | StepState::Done);
                self.outcome.is_empty() && !self.steps.iter().skip(until).any(begun)
            }
            _ => false,
        }
    }
}

/// Why a task is not cancelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CannotCancel {
    Ended,
    TooLate,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use quantix_api::Unit;

    use super::*;

    fn fresh(steps: usize) -> Standing {
        kept(steps, false)
    }

    fn kept(steps: usize, stays: bool) -> Standing {
        Standing::new(&(0..steps).map(|step| format!("step {step}")).collect::<Vec<_>>(), stays)
    }

    #[derive(Clone, Debug)]
    enum Deed {
        Told(Report),
        Cancelled(usize),
        /// The owner does what is next, and it goes well or not.
        Worked(bool),
    }

    fn deed() -> impl Strategy<Value = Deed> {
        let step = 0..5_usize;
        let progress = (0..9_u64).prop_map(|done| Progress::at(done, Some(8), Unit::Bytes));
        let end = prop::sample::select(TaskState::ALL.to_vec());
        prop_oneof![
            Just(Deed::Told(Report::Begin(serde_json::Value::Null))),
            step.clone().prop_map(|step| Deed::Told(Report::StepBegins(step))),
            step.clone().prop_map(|step| Deed::Told(Report::StepDone(step))),
            step.clone().prop_map(|step| Deed::Told(Report::StepFailed(step, "It broke.".into()))),
            step.clone().prop_map(|step| Deed::Told(Report::StepUndone(step))),
            progress.prop_map(|progress| Deed::Told(Report::Progress(progress))),
            end.prop_map(|state| Deed::Told(Report::End(state, "That is what came of it.".into()))),
            step.prop_map(Deed::Cancelled),
            any::<bool>().prop_map(Deed::Worked),
            any::<bool>().prop_map(Deed::Worked),
        ]
    }

    /// What an owner tells after it did what is next.
    fn work(standing: &mut Standing, well: bool) {
        let told = match standing.next() {
            Next::Begin => vec![Report::Begin(serde_json::Value::Null)],
            Next::Do(step) if well => vec![Report::StepBegins(step), Report::StepDone(step)],
            Next::Do(step) => vec![Report::StepBegins(step), Report::StepFailed(step, "It broke.".into())],
            Next::Undo(step) => vec![Report::StepUndone(step)],
            Next::End(state) => vec![Report::End(state, "That is what came of it.".into())],
            Next::Nothing => vec![],
        };
        for report in told {
            assert!(standing.take(report.clone()).is_ok(), "{report:?} {standing:?}");
        }
    }

    fn do_all(standing: &mut Standing, deeds: &[Deed]) {
        for deed in deeds {
            let before = standing.clone();
            match deed.clone() {
                Deed::Told(report) => {
                    let took = standing.take(report);
                    assert_eq!(took == Ok(true), before != *standing, "{deed:?} {before:?}");
                }
                Deed::Cancelled(until) => {
                    let may = before.may_be_cancelled(until);
                    assert_eq!(standing.cancel(until) == Ok(true), may);
                }
                Deed::Worked(well) => work(standing, well),
            }
            if before.state.is_end() {
                assert_eq!(before, *standing, "{deed:?}");
            }
            if standing.state.is_end() {
                assert!(!standing.outcome.is_empty(), "{standing:?}");
            }
        }
    }

    proptest! {
        #[test]
        fn whatever_happens_a_task_that_has_ended_stays_as_it_is(
            steps in 0..5_usize, deeds in prop::collection::vec(deed(), 0..40),
        ) {
            do_all(&mut fresh(steps), &deeds);
        }

        #[test]
        fn from_wherever_it_is_an_owner_that_works_on_gets_to_an_end(
            steps in 0..5_usize, deeds in prop::collection::vec(deed(), 0..20), well in any::<bool>(),
            stays in any::<bool>(),
        ) {
            let mut standing = kept(steps, stays);
            do_all(&mut standing, &deeds);
            for _ in 0..20 {
                work(&mut standing, well);
            }
            prop_assert!(standing.state.is_end(), "{:?}", standing);
            let states: Vec<_> = standing.steps.iter().map(|step| step.state).collect();
            prop_assert!(!states.contains(&StepState::Running), "{:?}", standing);
        }

        #[test]
        fn a_step_is_only_done_after_those_before_it(
            deeds in prop::collection::vec(deed(), 0..40),
        ) {
            let mut standing = fresh(4);
            do_all(&mut standing, &deeds);
            let waiting = standing.steps.iter().position(|step| step.state == StepState::Waiting);
            if let Some(first) = waiting {
                let after = standing.steps.iter().skip(first);
                prop_assert!(after.clone().all(|step| step.state == StepState::Waiting), "{:?}", standing);
            }
        }
    }

    #[test]
    fn what_was_done_is_undone_from_the_last_to_the_first() {
        let mut standing = fresh(3);
        for _ in 0..3 {
            work(&mut standing, true);
        }
        assert_eq!(standing.cancel(3), Ok(true));
        // Somebody else asks as well, at the same time.
        assert_eq!(standing.cancel(3), Ok(false));
        assert_eq!(standing.next(), Next::Undo(1));
        work(&mut standing, true);
        assert_eq!(standing.next(), Next::Undo(0));
        work(&mut standing, true);
        work(&mut standing, true);
        assert_eq!(standing.state, TaskState::Cancelled);
        assert_eq!(standing.cancel(3), Err(CannotCancel::Ended));
        assert_eq!(standing.take(Report::Progress(Progress::at(1, None, Unit::Bytes))), Err(Refusal::Ended));
    }

    #[test]
    fn what_cannot_be_undone_is_not_said_to_be() {
        let mut standing = kept(3, true);
        work(&mut standing, true);
        work(&mut standing, true);
        work(&mut standing, false);
        work(&mut standing, true);
        let states: Vec<_> = standing.steps.iter().map(|step| step.state).collect();
        assert_eq!(standing.state, TaskState::Failed);
        assert_eq!(states, [StepState::Done, StepState::Failed, StepState::Waiting]);
    }

    #[test]
    fn from_a_step_on_there_is_no_way_back() {
        let mut standing = fresh(2);
        work(&mut standing, true);
        assert!(standing.may_be_cancelled(1));
        work(&mut standing, true);
        standing.take(Report::StepBegins(1)).unwrap();
        assert_eq!(standing.cancel(1), Err(CannotCancel::TooLate));
        work(&mut standing, true);
        assert_eq!(standing.next(), Next::End(TaskState::Done));
    }

    #[test]
    fn a_failure_keeps_its_sentence() {
        let mut standing = fresh(2);
        work(&mut standing, true);
        work(&mut standing, true);
        work(&mut standing, false);
        assert_eq!((standing.outcome.as_str(), standing.next()), ("It broke.", Next::Undo(1)));
        for _ in 0..3 {
            work(&mut standing, true);
        }
        assert_eq!((standing.outcome.as_str(), standing.state), ("It broke.", TaskState::Failed));
    }
}
