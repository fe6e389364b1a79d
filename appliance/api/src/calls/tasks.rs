//! Tasks, events and the stream of changes.

use http::Method;

use super::{HOSTS_PATH, asking, part};
use crate::{Call, Event, EventQuery, Page, PowerHost, RestartServices, Task, TaskQuery};

/// The tasks.
pub const TASKS_PATH: &str = "/api/v1/tasks";
/// What happened by itself.
pub const EVENTS_PATH: &str = "/api/v1/events";
/// What changes, as it changes.
pub const CHANGES_PATH: &str = "/api/v1/changes";

/// Tasks.
pub fn tasks(query: &TaskQuery) -> Call<Page<Task>> {
    Call::new(Method::GET, asking(TASKS_PATH, query))
}

/// One task.
pub fn task(id: i64) -> Call<Task> {
    Call::new(Method::GET, format!("{TASKS_PATH}/{id}"))
}

/// Asks for the end of a task.
pub fn cancel_task(id: i64) -> Call<Task> {
    Call::new(Method::POST, format!("{TASKS_PATH}/{id}/cancel"))
}

/// Tries a task again that failed or was cancelled: another one.
pub fn retry_task(id: i64) -> Call<Task> {
    Call::new(Method::POST, format!("{TASKS_PATH}/{id}/retry"))
}

/// The file that a task made; its bytes are the answer.
pub fn task_file(id: i64) -> Call<()> {
    Call::new(Method::GET, format!("{TASKS_PATH}/{id}/file"))
}

/// Restarts a host.
pub fn restart_host(id: &str, body: &PowerHost) -> Call<Task> {
    Call::new(Method::POST, format!("{HOSTS_PATH}/{}/restart", part(id))).json(body)
}

/// Switches a host off.
pub fn shut_down_host(id: &str, body: &PowerHost) -> Call<Task> {
    Call::new(Method::POST, format!("{HOSTS_PATH}/{}/shut-down", part(id))).json(body)
}

/// Restarts services of a host.
pub fn restart_services(id: &str, body: &RestartServices) -> Call<Task> {
    Call::new(Method::POST, format!("{HOSTS_PATH}/{}/restart-services", part(id))).json(body)
}

/// Puts what helps to find a fault on a host into a file.
pub fn support_bundle(id: &str) -> Call<Task> {
    Call::new(Method::POST, format!("{HOSTS_PATH}/{}/support-bundle", part(id)))
}

/// What happened by itself.
pub fn events(query: &EventQuery) -> Call<Page<Event>> {
    Call::new(Method::GET, asking(EVENTS_PATH, query))
}

/// Says that one looks after what is wrong.
pub fn acknowledge_event(id: i64) -> Call<Event> {
    Call::new(Method::POST, format!("{EVENTS_PATH}/{id}/acknowledge"))
}

/// Says that something is over.
pub fn clear_event(id: i64) -> Call<Event> {
    Call::new(Method::POST, format!("{EVENTS_PATH}/{id}/clear"))
}

/// What changes, as it changes: a stream of events.
pub fn changes() -> Call<()> {
    Call::new(Method::GET, CHANGES_PATH)
}
