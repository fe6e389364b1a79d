//! Snapshots of a virtual machine that are made by themselves: a part of the page of its snapshots.

use axum::{
    extract::{Extension, Path, State},
    response::Response,
};
use quantix_api::{CallError, NewSchedule, Problem, ProblemCode, Weekday, When, calls};
use serde::Deserialize;

use super::snapshots::show_schedule;
use crate::{
    frame::Frame,
    problem::{Filled, is_told},
    reader::done,
    session::turned_away,
    web::{ClientAddress, Web},
};

/// What is filled in.
#[derive(Clone, Debug, Deserialize)]
#[serde(default)]
pub(crate) struct ScheduleForm {
    /// A number of hours, `day`, or the name of a day of the week.
    pub(super) when: String,
    pub(super) at: String,
    pub(super) keep: String,
    pub(super) at_once: Option<String>,
}

impl Default for ScheduleForm {
    fn default() -> Self {
        Self { when: "day".into(), at: "02:00".into(), keep: "7".into(), at_once: None }
    }
}

/// Words as a sentence begins.
pub(super) fn capital(words: &str) -> String {
    let mut letters = words.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

impl ScheduleForm {
    /// How often: what is sent, and what is shown.
    pub(super) fn choices() -> Vec<(String, String)> {
        let hours =
            [1, 2, 3, 4, 6, 8, 12].map(|hours| (hours.to_string(), capital(&When::Hours { hours }.words())));
        let days = Weekday::ALL.map(|day| (day.name().to_owned(), format!("Every {}", capital(day.name()))));
        let daily = [("day".to_owned(), "Every day".to_owned())];
        hours.into_iter().chain(daily).chain(days).collect()
    }

    fn read(&self) -> Result<NewSchedule, Problem> {
        let wrong = |field, sentence: &str| Problem::new(ProblemCode::Invalid, sentence).in_field(field);
        let time = || {
            let (hour, minute) = self.at.trim().split_once(':')?;
            Some((hour.parse().ok()?, minute.parse().ok()?))
        };
        let time = || time().ok_or_else(|| wrong("at", "A time is one like 02:30."));
        let when = match (self.when.parse(), Weekday::of(&self.when)) {
            (Ok(hours), _) => When::Hours { hours },
            (_, Some(weekday)) => {
                let (hour, minute) = time()?;
                When::Week { weekday, hour, minute }
            }
            _ => {
                let (hour, minute) = time()?;
                When::Day { hour, minute }
            }
        };
        let keep = self.keep.trim().parse();
        let keep = keep.map_err(|_| wrong("keep", "This is not a number that can be used."))?;
        Ok(NewSchedule { when, keep, at_once: self.at_once.is_some() })
    }
}

/// `POST /vms/{id}/schedules`
pub(crate) async fn make_schedule(
    State(web): State<Web>,
    Extension(client): Extension<ClientAddress>,
    frame: Frame,
    Path(id): Path<String>,
    Filled(form): Filled<ScheduleForm>,
) -> Response {
    let made = async {
        let call = calls::make_schedule(&id, &form.read()?).as_session(frame.token());
        web.agent.call(&call.for_client(client.0)).await
    };
    match made.await {
        Ok(made) => {
            let sentence = format!("Snapshots are made {}.", made.when.words());
            done(&format!("/vms/{id}/snapshots"), &sentence)
        }
        Err(CallError::Problem(problem)) if is_told(&problem) => {
            show_schedule(&web, frame, &id, form, problem).await
        }
        Err(error) => turned_away(&error),
    }
}

/// `POST /vms/{id}/schedules/{schedule}/remove`
pub(crate) async fn remove_schedule(
    State(web): State<Web>,
    Extension(client): Extension<ClientAddress>,
    frame: Frame,
    Path((id, schedule)): Path<(String, String)>,
) -> Response {
    let call = calls::remove_schedule(&id, &schedule).as_session(frame.token()).for_client(client.0);
    let gone = |error: &CallError| matches!(error, CallError::Problem(problem) if problem.code == ProblemCode::NotFound);
    match web.agent.call(&call).await {
        Ok(()) => done(
            &format!("/vms/{id}/snapshots"),
            "No more snapshots are made like this. Those that were made stay.",
        ),
        Err(error) if gone(&error) => done(&format!("/vms/{id}/snapshots"), "It was removed already."),
        Err(error) => turned_away(&error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_chosen_is_what_is_asked_for() {
        let read = |when: &str, at: &str| {
            let form = ScheduleForm { when: when.into(), at: at.into(), ..ScheduleForm::default() };
            form.read().map(|new| new.when).map_err(|problem| problem.field.unwrap())
        };
        assert_eq!(read("6", ""), Ok(When::Hours { hours: 6 }));
        assert_eq!(read("day", "02:30"), Ok(When::Day { hour: 2, minute: 30 }));
        let sunday = When::Week { weekday: Weekday::Sunday, hour: 0, minute: 5 };
        assert_eq!(read("sunday", "00:05"), Ok(sunday));
        assert_eq!(read("day", "half past two"), Err("at".to_owned()));
        for (value, _) in ScheduleForm::choices() {
            assert!(read(&value, "12:00").is_ok(), "{value}");
        }
    }
}
