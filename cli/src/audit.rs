//! The audit log.

use clap::Args;
use quantix_api::{AuditQuery, calls};

use crate::{
    Failure, Session,
    shown::{self, Output},
};

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Only lines that have this text somewhere.
    #[arg(long)]
    text: Option<String>,
    /// So many lines at most.
    #[arg(long, default_value_t = 50)]
    limit: u32,
    /// Only what this user did.
    #[arg(long)]
    actor: Option<String>,
    /// Only what was done to this.
    #[arg(long)]
    object: Option<String>,
    /// The part after the one that ended with this.
    #[arg(long)]
    after: Option<String>,
    /// All lines as JSON lines, the oldest first.
    #[arg(long, conflicts_with_all = ["limit", "after"])]
    export: bool,
}

pub(crate) async fn run(arguments: Arguments, output: Output) -> Result<(), Failure> {
    let Arguments { text, limit, actor, object, after, export } = arguments;
    let query = AuditQuery { after, limit: Some(limit), text, actor, object, oldest_first: export };
    let session = Session::open()?;
    if export {
        return export_all(&session, query).await;
    }
    let found = session.call(calls::audit(&query)).await?;
    if output == Output::Json {
        return Ok(shown::json(&found)?);
    }
    let rows: Vec<_> = found
        .items
        .iter()
        .map(|line| {
            let when = line.at.strftime("%Y-%m-%d %H:%M:%S").to_string();
            let (actor, address) = (line.actor.clone(), line.address.clone());
            vec![
                line.id.to_string(),
                when,
                actor,
                address,
                line.action.clone(),
                line.object.clone(),
                line.outcome.clone(),
            ]
        })
        .collect();
    shown::table(&["NUMBER", "WHEN (UTC)", "WHO", "FROM", "WHAT", "OBJECT", "OUTCOME"], &rows)?;
    if let Some(next) = found.next {
        shown::line(&format!("\nOlder lines: --after {next}"))?;
    }
    Ok(())
}

/// A part at a time: a pipe that is closed ends it.
async fn export_all(session: &Session, mut query: AuditQuery) -> Result<(), Failure> {
    query.limit = Some(1000);
    loop {
        let part = session.call(calls::audit(&query)).await?;
        for line in &part.items {
            shown::json_line(line)?;
        }
        match part.next {
            Some(next) => query.after = Some(next),
            None => return Ok(()),
        }
    }
}
