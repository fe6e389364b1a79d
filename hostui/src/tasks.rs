//! What is being done and what was: the list, a task with its steps, and the tray in the bar.

use askama::Template;
use axum::{
    body::Body,
    extract::{Extension, Path, State},
    http::{HeaderValue, header},
    response::{IntoResponse, Redirect, Response},
};
use http_body_util::Full;
use quantix_api::{
    CallError, Problem, ProblemCode, StepState, Task, TaskQuery, TaskState, TaskStep, Unit, calls,
};

use crate::{
    component::{Chips, Fault, Heads, Icon, Level, Pager, Post, Progress, Search, Standing},
    frame::Frame,
    problem::{Page, draw},
    reader,
    session::turned_away,
    web::{ClientAddress, Web},
    words,
};

/// What a page shows.
const LINES: u32 = 50;
/// More open tasks are not counted in the bar.
const MOST_COUNTED: u32 = 99;

const STATES: [(&str, &str); 4] =
    [("", "All"), ("open", "Under way"), ("failed", "Failed"), ("done", "Done")];

#[derive(Debug, Template)]
#[template(path = "activity/tasks.html", blocks = ["tasks"])]
struct TasksPage {
    frame: Frame,
    tasks: Vec<Task>,
    pager: Pager,
}

/// A task's state as a dot with a word.
pub(crate) fn standing(task: &Task) -> Standing {
    match task.state {
        TaskState::Waiting => Standing::idle("Waits"),
        TaskState::Running => Standing::busy("Under way"),
        TaskState::Cancelling => Standing::busy("Is being cancelled"),
        TaskState::Done => Standing::ok("Done"),
        TaskState::Failed => Standing::bad("Failed"),
        TaskState::Cancelled => Standing::idle("Cancelled"),
    }
}

/// How long it took, or takes by now.
fn took(task: &Task) -> String {
    let Some(from) = task.started_at else { return String::new() };
    let until = task.ended_at.unwrap_or_else(jiff::Timestamp::now);
    let seconds = u64::try_from(until.duration_since(from).as_secs()).unwrap_or_default();
    if seconds < 60 { format!("{seconds} s") } else { words::duration(seconds) }
}

impl TasksPage {
    fn standing(&self, task: &Task) -> Standing {
        standing(task)
    }

    fn took(&self, task: &Task) -> String {
        took(task)
    }

    /// What it does now, or what came of it.
    fn words(&self, task: &Task) -> String {
        match task.present_step() {
            Some(step) if step.state == StepState::Running => step.name.clone(),
            _ => task.outcome.clone(),
        }
    }

    fn is_narrowed(&self) -> bool {
        ["text", "state", "after"].iter().any(|name| !self.frame.address.get(name).is_empty())
    }
}

/// `GET /activity/tasks?state=…&text=…&after=…`
pub(crate) async fn page(State(web): State<Web>, frame: Frame) -> Response {
    let given =
        |name: &str| Some(frame.address.get(name).trim().to_owned()).filter(|value| !value.is_empty());
    let query = TaskQuery {
        after: given("after"),
        limit: Some(LINES),
        text: given("text"),
        state: given("state"),
        object: given("object"),
        ..TaskQuery::default()
    };
    match web.agent.call(&calls::tasks(&query).as_session(frame.token())).await {
        Ok(found) => {
            let pager = Pager::new(&frame.address, found.next.as_deref()).by_time();
            let page = TasksPage { tasks: found.items, pager, frame };
            if page.frame.block() == Some("tasks") { draw(&page.as_tasks()) } else { draw(&page) }
        }
        // An address that was mistyped leads to the newest.
        Err(CallError::Problem(problem)) if problem.code == ProblemCode::Invalid => {
            Redirect::to("/activity/tasks").into_response()
        }
        Err(error) => turned_away(&error),
    }
}

#[derive(Debug, Template)]
#[template(path = "activity/task.html", blocks = ["task"])]
struct TaskPage {
    frame: Frame,
    task: Task,
    problem: Option<Problem>,
}

impl TaskPage {
    fn standing(&self) -> Standing {
        standing(&self.task)
    }

    fn took(&self) -> String {
        took(&self.task)
    }

    fn step(&self, step: &TaskStep) -> Standing {
        match step.state {
            StepState::Waiting => Standing::idle("Waits"),
            StepState::Running => Standing::busy("Is being done"),
            StepState::Done => Standing::ok("Done"),
            StepState::Failed => Standing::bad("Failed"),
            StepState::Undone => Standing::idle("Undone"),
        }
    }

    /// How far the present step is.
    fn progress(&self) -> Option<Progress> {
        let step = self.task.present_step().filter(|step| step.state == StepState::Running)?;
        let Some(progress) = &self.task.progress else {
            return Some(Progress::of(step.name.clone(), None, ""));
        };
        let of = |amount: u64| match progress.unit {
            Unit::Bytes => words::bytes(amount),
            Unit::Seconds => words::duration(amount),
            Unit::Hosts | Unit::Services => amount.to_string(),
        };
        let (percent, words) = match progress.total {
            Some(total) => {
                let percent = u8::try_from(words::percent(progress.done, total)).unwrap_or(100);
                (Some(percent), format!("{} of {}", of(progress.done), of(total)))
            }
            None => (None, of(progress.done)),
        };
        let rate = progress.rate.map(|rate| format!(", {}/s", of(rate))).unwrap_or_default();
        let left =
            progress.left().map(|left| format!(", {} left", words::duration(left))).unwrap_or_default();
        let words = format!("{words}{rate}{left}");
        Some(Progress::of(step.name.clone(), percent, words))
    }

    fn level(&self) -> Level {
        match self.task.state {
            TaskState::Failed => Level::Bad,
            TaskState::Done => Level::Ok,
            _ => Level::Idle,
        }
    }

    fn deed(&self, deed: &str) -> String {
        format!("/activity/tasks/{}/{deed}", self.task.id)
    }
}

/// `GET /activity/tasks/{id}`
pub(crate) async fn task_page(State(web): State<Web>, frame: Frame, Path(id): Path<i64>) -> Response {
    show(&web, frame, id, None).await
}

async fn show(web: &Web, frame: Frame, id: i64, problem: Option<Problem>) -> Response {
    match web.agent.call(&calls::task(id).as_session(frame.token())).await {
        Ok(task) => {
            let status = problem.as_ref().map(|problem| problem.code.status()).unwrap_or_default();
            let page = TaskPage { frame, task, problem };
            let drawn = if page.frame.block() == Some("task") { draw(&page.as_task()) } else { draw(&page) };
            (status, drawn).into_response()
        }
        Err(CallError::Problem(problem)) if problem.code == ProblemCode::NotFound => {
            Page::not_found().into_response()
        }
        Err(error) => turned_away(&error),
    }
}

/// `POST /activity/tasks/{id}/cancel` and `…/retry`
pub(crate) async fn deed(
    State(web): State<Web>,
    Extension(client): Extension<ClientAddress>,
    frame: Frame,
    Path((id, deed)): Path<(i64, String)>,
) -> Response {
    let (call, sentence) = match deed.as_str() {
        "cancel" => (calls::cancel_task(id), "It is being cancelled."),
        "retry" => (calls::retry_task(id), "It is tried again."),
        _ => return Page::not_found().into_response(),
    };
    match web.agent.call(&call.as_session(frame.token()).for_client(client.0)).await {
        Ok(task) => reader::done(&format!("/activity/tasks/{}", task.id), sentence),
        Err(CallError::Problem(problem)) if problem.code != ProblemCode::SignInNeeded => {
            show(&web, frame, id, Some(problem)).await
        }
        Err(error) => turned_away(&error),
    }
}

/// Goes to the task that was begun.
pub(crate) fn begun(task: &Task) -> Response {
    reader::done(&format!("/activity/tasks/{}", task.id), &format!("{}: it has begun.", task.title))
}

/// `GET /activity/tasks/{id}/file`
pub(crate) async fn file(State(web): State<Web>, frame: Frame, Path(id): Path<i64>) -> Response {
    let Ok(request) = calls::task_file(id).as_session(frame.token()).request() else {
        return Page::not_found().into_response();
    };
    match web.agent.begin(request.map(Full::new)).await {
        Ok(answer) if answer.status().is_success() => {
            let (parts, body) = answer.into_parts();
            let mut response = Body::new(body).into_response();
            let headers = response.headers_mut();
            for name in [header::CONTENT_TYPE, header::CONTENT_LENGTH, header::CONTENT_DISPOSITION] {
                if let Some(value) = parts.headers.get(&name) {
                    headers.insert(name, value.clone());
                }
            }
            headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
            response
        }
        Ok(_) => Page::not_found().into_response(),
        Err(error) => Page::agent(&error).into_response(),
    }
}

/// In the bar: how many tasks are under way.
#[derive(Debug, Template)]
#[template(
    ext = "html",
    source = r#"<a class="btn quiet{% if open == 0 %} icon{% endif %}" href="/activity/tasks{% if open > 0 %}?state=open{% endif %}" aria-label="{% if open == 0 %}Tasks{% else if open == 1 %}1 task is under way{% else %}{{ open }} tasks are under way{% endif %}">{{ Icon("activity") }}{% if open > 0 %}<span class="badge accent" aria-hidden="true">{{ open }}</span>{% endif %}</a>"#
)]
struct Tray {
    open: usize,
}

/// `GET /tray`
pub(crate) async fn tray(State(web): State<Web>, frame: Frame) -> Response {
    let query =
        TaskQuery { limit: Some(MOST_COUNTED), state: Some("open".to_owned()), ..TaskQuery::default() };
    match web.agent.call(&calls::tasks(&query).as_session(frame.token())).await {
        Ok(found) => draw(&Tray { open: found.items.len() }),
        Err(error) => turned_away(&error),
    }
}
