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
    /// Only lines older than the one of this number.
    #[arg(long)]
    before: Option<i64>,
}

pub(crate) async fn run(arguments: Arguments, output: Output) -> Result<(), Failure> {
    let Arguments { text, limit, before } = arguments;
    let query = AuditQuery { before, limit: Some(limit), text };
    let found = Session::open()?.call(calls::audit(&query)).await?;
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
        shown::line(&format!("\nOlder lines: --before {next}"))?;
    }
    Ok(())
}
