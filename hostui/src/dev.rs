//! Every component in every state, to look at and to test against. Only with `--dev`, which no host is started with.

use askama::Template;
use axum::response::Response;
use quantix_api::{Problem, ProblemCode};

use crate::{
    component::{
        Badge, Chart, Chips, Fault, Field, Heads, Icon, Level, Meter, Pager, Post, Progress, Search,
        Sparkline, Standing, Steps,
    },
    frame::Frame,
    problem::draw,
};

#[derive(Debug, Template)]
#[template(path = "dev/components.html", blocks = ["dialog"])]
struct ComponentsPage {
    frame: Frame,
    /// About the field `broken`.
    wrong: Option<Problem>,
    /// About none.
    refused: Option<Problem>,
    fine: Option<Problem>,
    course: Chart,
    quiet: Chart,
    spark: Sparkline,
}

/// `GET /dev/components`
pub(crate) async fn page(frame: Frame) -> Response {
    let course: Vec<f64> = (0..60).map(|minute| 42.0 + 30.0 * (f64::from(minute) / 7.0).sin()).collect();
    let points: Vec<_> =
        course.iter().zip(0..).map(|(value, minute)| (format!("09:{minute:02}"), *value)).collect();
    let percent = |value: f64| format!("{value:.0} %");
    let page = ComponentsPage {
        wrong: Some(
            Problem::new(ProblemCode::Invalid, "“web 01” has a blank in it; use a hyphen.")
                .in_field("broken"),
        ),
        refused: Some(Problem::new(ProblemCode::Forbidden, "Only administrators may do this.")),
        fine: None,
        course: Chart::of("Processors in use, last hour", &points, 100.0, percent),
        quiet: Chart::of("Memory in use, last hour", &[], 100.0, percent).level(Level::Ok),
        spark: Sparkline::of("Memory in use, now 61 %", &course, 100.0),
        frame,
    };
    if page.frame.block() == Some("dialog") { draw(&page.as_dialog()) } else { draw(&page) }
}
