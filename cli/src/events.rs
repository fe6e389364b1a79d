//! What happened by itself, and what is wrong now.

use clap::{Args, Subcommand};
use quantix_api::{Event, EventQuery, calls};

use crate::{
    Failure, Session,
    cluster::done,
    shown::{self, Output},
};

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Show events, the newest first.
    List(List),
    /// Say that you look after what is wrong.
    Acknowledge {
        /// The event's number.
        event: i64,
    },
    /// Say that something is over.
    Clear {
        /// The event's number.
        event: i64,
    },
}

#[derive(Debug, Args)]
pub(crate) struct List {
    /// Only what is wrong and lasts.
    #[arg(long)]
    open: bool,
    /// Only those as bad as this: info, warning or error.
    #[arg(long)]
    severity: Option<String>,
    /// Only those of this component.
    #[arg(long)]
    component: Option<String>,
    /// Only those that have this text somewhere.
    #[arg(long)]
    text: Option<String>,
    /// So many at most.
    #[arg(long, default_value_t = 50)]
    limit: u32,
    /// The part after the one that ended so.
    #[arg(long)]
    after: Option<String>,
}

pub(crate) async fn run(command: Command, output: Output) -> Result<(), Failure> {
    let session = Session::open()?;
    match command {
        Command::List(asked) => list(&session, asked, output).await,
        Command::Acknowledge { event } => {
            let event = session.call(calls::acknowledge_event(event)).await?;
            let by = event.acknowledged_by.clone().unwrap_or_default();
            answered(&event, output, &format!("{by} looks after it."))
        }
        Command::Clear { event } => {
            let event = session.call(calls::clear_event(event)).await?;
            answered(&event, output, "It is over.")
        }
    }
}

fn answered(event: &Event, output: Output, sentence: &str) -> Result<(), Failure> {
    match output {
        Output::Json => Ok(shown::json(event)?),
        Output::Table => done(output, sentence),
    }
}

async fn list(session: &Session, asked: List, output: Output) -> Result<(), Failure> {
    let List { open, severity, component, text, limit, after } = asked;
    let open = open.then_some(true);
    let query = EventQuery { after, limit: Some(limit), text, severity, component, open };
    let found = session.call(calls::events(&query)).await?;
    if output == Output::Json {
        return Ok(shown::json(&found)?);
    }
    let rows: Vec<_> = found
        .items
        .iter()
        .map(|event| {
            let state = match event {
                event if !event.is_open() => String::new(),
                Event { acknowledged_by: Some(by), .. } => format!("open, {by} looks after it"),
                _ => "open".to_owned(),
            };
            vec![
                event.id.to_string(),
                event.at.strftime("%Y-%m-%d %H:%M:%S").to_string(),
                event.severity.name().to_owned(),
                event.component.clone(),
                event.sentence.clone(),
                state,
            ]
        })
        .collect();
    shown::table(&["NUMBER", "WHEN (UTC)", "SEVERITY", "COMPONENT", "WHAT", ""], &rows)?;
    if let Some(next) = found.next {
        shown::line(&format!("\nOlder events: --after {next}"))?;
    }
    Ok(())
}
