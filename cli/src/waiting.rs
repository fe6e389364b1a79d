//! Waiting for a task: what it does is shown as it does it. Nothing is asked again and again; the host says when there is
//! something new.

use std::{
    io::{self, IsTerminal, Write},
    time::Duration,
};

use http_body_util::{BodyExt, Full};
use quantix_api::{StepState, Task, TaskState, Unit, calls, connection::Arriving};
use tokio::time::{Instant, sleep, timeout};

use crate::{
    Failure, Session,
    cluster::done,
    connection::CallError,
    shown::{self, Output},
};

/// A host may be gone for a while: it restarts, or the others choose who leads.
const GONE_FOR: Duration = Duration::from_secs(25 * 60);
const AGAIN: Duration = Duration::from_secs(1);
/// The host breaks silence more often than this.
const SILENCE: Duration = Duration::from_secs(40);
/// What of a stream is looked at at once.
const LONGEST: usize = 64 * 1024;

/// Shows a task that was begun, and unless it is not to be waited for, its end. One that was not done is a failure.
pub(crate) async fn shown_to_its_end(
    session: &Session,
    task: Task,
    no_wait: bool,
    output: Output,
) -> Result<(), Failure> {
    if no_wait {
        let sentence = format!("Task {}: {}. See how it goes: qx task show {}", task.id, task.title, task.id);
        return match output {
            Output::Table => Ok(shown::line(&sentence)?),
            Output::Json => Ok(shown::json(&task)?),
        };
    }
    let task = to_its_end(session, task).await?;
    if output == Output::Json {
        shown::json(&task)?;
    }
    match task.state {
        TaskState::Done if output == Output::Json => Ok(()),
        TaskState::Done => done(output, &task.outcome),
        _ => Err(Failure::Said(format!("{}: {}", task.title, task.outcome))),
    }
}

/// Waits until a task has ended.
async fn to_its_end(session: &Session, mut task: Task) -> Result<Task, Failure> {
    let mut line = Line::new();
    let mut heard = Instant::now();
    while !task.state.is_end() {
        line.show(&task)?;
        match follow(session, &mut task, &mut line).await {
            Ok(()) => heard = Instant::now(),
            Err(Failure::Call(CallError::Unreachable { .. })) if heard.elapsed() < GONE_FOR => {}
            // Too few hosts answer, or the host is only starting.
            Err(Failure::Call(CallError::Problem(problem)))
                if problem.retry_after_seconds.is_some() && heard.elapsed() < GONE_FOR => {}
            Err(failure) => {
                line.end()?;
                return Err(failure);
            }
        }
        if !task.state.is_end() {
            sleep(AGAIN).await;
        }
    }
    line.show(&task)?;
    line.end()?;
    Ok(task)
}

/// Follows a task until it has ended, or the stream breaks off.
async fn follow(session: &Session, task: &mut Task, line: &mut Line) -> Result<(), Failure> {
    let call = calls::changes().as_session(&session.token);
    let request = call.request().map_err(|error| Failure::Said(error.to_string()))?;
    let answer = session.host.begin(request.map(Full::new)).await?;
    let mut changes = if answer.status().is_success() { Some(answer.into_body()) } else { None };
    loop {
        *task = session.call(calls::task(task.id)).await?;
        line.show(task)?;
        if task.state.is_end() {
            return Ok(());
        }
        match &mut changes {
            // Too many listen already: then it is looked at now and then.
            None => sleep(AGAIN).await,
            Some(changes) => {
                if !next(changes, task.id).await {
                    return Ok(());
                }
            }
        }
    }
}

/// Waits for something new about a task; false when the stream has ended.
async fn next(changes: &mut Arriving, task: i64) -> bool {
    let (named, anything) = (format!("\"key\":\"{task}\""), "event: resync");
    let mut text = String::new();
    loop {
        let Ok(Some(Ok(frame))) = timeout(SILENCE, changes.frame()).await else { return false };
        if let Ok(piece) = frame.into_data() {
            text.push_str(&String::from_utf8_lossy(&piece));
        }
        let is_about_it = text.split("\n\n").any(|event| {
            event.contains(anything) || (event.contains("event: task") && event.contains(&named))
        });
        if is_about_it || text.len() > LONGEST {
            return true;
        }
        if let Some((_, rest)) = text.rsplit_once("\n\n") {
            text = rest.to_owned();
        }
    }
}

/// One line that says how far it is; without a terminal, one for each step.
struct Line {
    is_terminal: bool,
    shown: String,
}

impl Line {
    fn new() -> Self {
        Self { is_terminal: io::stderr().is_terminal(), shown: String::new() }
    }

    fn show(&mut self, task: &Task) -> io::Result<()> {
        let text = if self.is_terminal { with_progress(task) } else { step(task) };
        if text == self.shown {
            return Ok(());
        }
        let mut out = io::stderr();
        if self.is_terminal {
            write!(out, "\r\x1b[K{text}")?;
        } else {
            writeln!(out, "{text}")?;
        }
        self.shown = text;
        out.flush()
    }

    fn end(&self) -> io::Result<()> {
        if self.is_terminal { write!(io::stderr(), "\r\x1b[K") } else { Ok(()) }
    }
}

/// What a task does now.
pub(crate) fn step(task: &Task) -> String {
    match (task.state, task.present_step()) {
        (TaskState::Waiting, _) => format!("{}: waits", task.title),
        (TaskState::Cancelling, _) => format!("{}: is being cancelled", task.title),
        (TaskState::Running, Some(step)) if step.state == StepState::Running => {
            format!("{}: {}", task.title, step.name.to_lowercase())
        }
        (state, _) => format!("{}: {}", task.title, state.name()),
    }
}

fn with_progress(task: &Task) -> String {
    match task.progress.as_ref() {
        None => step(task),
        Some(progress) => format!("{}, {}", step(task), amount(progress)),
    }
}

/// How far something is, in its unit.
pub(crate) fn amount(progress: &quantix_api::Progress) -> String {
    let of = |amount: u64| match progress.unit {
        Unit::Bytes => format!("{}.{} MiB", amount >> 20, ((amount & 0xf_ffff) * 10) >> 20),
        Unit::Seconds => format!("{amount} s"),
        Unit::Hosts | Unit::Services => amount.to_string(),
    };
    let rate = progress.rate.map(|rate| format!(", {}/s", of(rate))).unwrap_or_default();
    let left = progress.left().map(|left| format!(", {left} s left")).unwrap_or_default();
    match progress.total {
        Some(total) => format!("{} of {}{rate}{left}", of(progress.done), of(total)),
        None => format!("{}{rate}", of(progress.done)),
    }
}

#[cfg(test)]
mod tests {
    use quantix_api::Progress;

    use super::*;

    #[test]
    fn progress_is_shown_in_its_unit() {
        let shown = |done, total, unit| amount(&Progress::at(done, total, unit));
        assert_eq!(shown(3 << 20, Some((4 << 20) + (1 << 19)), Unit::Bytes), "3.0 MiB of 4.5 MiB");
        assert_eq!(shown(7, None, Unit::Seconds), "7 s");
        assert_eq!(shown(1, Some(3), Unit::Services), "1 of 3");
        let fast =
            Progress { rate: Some(1 << 20), ..Progress::at(3 << 20, Some((4 << 20) + 1), Unit::Bytes) };
        assert_eq!(amount(&fast), "3.0 MiB of 4.0 MiB, 1.0 MiB/s, 2 s left");
    }
}
