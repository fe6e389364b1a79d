//! Tasks: what is being done and what was.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use http_body_util::Full;
use quantix_api::{StepState, Task, TaskQuery, calls};

use crate::{
    Failure, Session, backup,
    cluster::done,
    shown::{self, Output},
    waiting,
};

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Show tasks, the newest first.
    List(List),
    /// Show one with its steps.
    Show {
        /// Its number.
        task: i64,
    },
    /// Ask for its end.
    Cancel {
        /// Its number.
        task: i64,
    },
    /// Try it again, after it failed or was cancelled.
    Retry {
        /// Its number.
        task: i64,
        /// Do not wait for its end.
        #[arg(long)]
        no_wait: bool,
    },
    /// Wait for its end.
    Wait {
        /// Its number.
        task: i64,
    },
    /// Write the file it made.
    Download {
        /// Its number.
        task: i64,
        /// Where to; its own name here, if it is not given.
        file: Option<PathBuf>,
    },
}

#[derive(Debug, Args)]
pub(crate) struct List {
    /// Only those in this state, or open, or ended.
    #[arg(long)]
    state: Option<String>,
    /// Only those of this kind.
    #[arg(long)]
    kind: Option<String>,
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
        Command::Show { task } => {
            let task = session.call(calls::task(task)).await?;
            show(&task, output)
        }
        Command::Cancel { task } => {
            let task = session.call(calls::cancel_task(task)).await?;
            match output {
                Output::Json => Ok(shown::json(&task)?),
                Output::Table if task.state.is_end() => done(output, &task.outcome),
                Output::Table => done(output, "It is being cancelled."),
            }
        }
        Command::Retry { task, no_wait } => {
            let task = session.call(calls::retry_task(task)).await?;
            waiting::shown_to_its_end(&session, task, no_wait, output).await
        }
        Command::Wait { task } => {
            let task = session.call(calls::task(task)).await?;
            waiting::shown_to_its_end(&session, task, false, output).await
        }
        Command::Download { task, file } => download(&session, task, file, output).await,
    }
}

async fn list(session: &Session, asked: List, output: Output) -> Result<(), Failure> {
    let List { state, kind, text, limit, after } = asked;
    let query = TaskQuery { after, limit: Some(limit), sort: None, text, state, kind, object: None };
    let found = session.call(calls::tasks(&query)).await?;
    if output == Output::Json {
        return Ok(shown::json(&found)?);
    }
    let rows: Vec<_> = found
        .items
        .iter()
        .map(|task| {
            vec![
                task.id.to_string(),
                task.made_at.strftime("%Y-%m-%d %H:%M:%S").to_string(),
                task.state.name().to_owned(),
                task.title.clone(),
                task.actor.clone(),
                task.outcome.clone(),
            ]
        })
        .collect();
    shown::table(&["NUMBER", "WHEN (UTC)", "STATE", "WHAT", "WHO", "OUTCOME"], &rows)?;
    if let Some(next) = found.next {
        shown::line(&format!("\nOlder tasks: --after {next}"))?;
    }
    Ok(())
}

fn show(task: &Task, output: Output) -> Result<(), Failure> {
    if output == Output::Json {
        return Ok(shown::json(task)?);
    }
    shown::line(&format!("{} (task {}, attempt {})", task.title, task.id, task.attempt))?;
    let begun = task.made_at.strftime("%Y-%m-%d %H:%M:%S UTC");
    shown::line(&format!("Asked for by {} from {} at {begun}", task.actor, task.address))?;
    let rows: Vec<_> = task
        .steps
        .iter()
        .map(|step| {
            let state = match step.state {
                StepState::Waiting => "waits",
                StepState::Running => "is being done",
                StepState::Done => "done",
                StepState::Failed => "failed",
                StepState::Undone => "undone",
            };
            vec![step.name.clone(), state.to_owned()]
        })
        .collect();
    shown::table(&["STEP", "STATE"], &rows)?;
    if let Some(progress) = &task.progress {
        shown::line(&waiting::amount(progress))?;
    }
    shown::line(&format!("\n{}. {}", task.state.name(), task.outcome))?;
    if let Some(file) = &task.file {
        shown::line(&format!("{}, {} bytes: qx task download {}", file.name, file.bytes, task.id))?;
    }
    Ok(())
}

/// Writes the file of a task into a new file.
pub(crate) async fn download(
    session: &Session,
    task: i64,
    file: Option<PathBuf>,
    output: Output,
) -> Result<(), Failure> {
    let found = session.call(calls::task(task)).await?;
    let Some(made) = found.file else {
        return Err(Failure::Said(format!("task {task} has no file; they are removed after a day")));
    };
    // Only the last part of the name: what a host calls it does not lead elsewhere.
    let own = std::path::Path::new(&made.name).file_name().map(PathBuf::from);
    let path = file.or(own).unwrap_or_else(|| format!("task-{task}.tar.zst").into());
    let call = calls::task_file(task).as_session(&session.token);
    let request = call.request().map_err(|error| Failure::Said(error.to_string()))?;
    let answer = session.host.begin(request.map(Full::new)).await?;
    let bytes = backup::save(answer, &path, "the file").await?;
    if bytes != made.bytes {
        std::fs::remove_file(&path)?;
        return Err(Failure::Said("the file broke off; nothing was kept of it".into()));
    }
    done(output, &format!("{} holds the file, {bytes} bytes.", path.display()))
}
