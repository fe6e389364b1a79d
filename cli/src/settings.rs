//! What is set for the whole cluster.

mod sign_in;

use std::path::PathBuf;

use clap::Subcommand;
use quantix_api::{SetSyslog, Syslog as Set, Tried, calls};

use crate::{
    Failure, Session,
    cluster::done,
    shown::{self, Output},
};

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Where the audit log is sent, as syslog over TLS.
    #[command(subcommand)]
    Syslog(Syslog),
    /// Signing in with an identity provider (OpenID Connect).
    #[command(subcommand)]
    SignIn(sign_in::Command),
}

#[derive(Debug, Subcommand)]
pub(crate) enum Syslog {
    /// Show where it is sent, and how far it has got.
    Show,
    /// Send it there from now on.
    Set {
        /// Name or address of the receiver, and its port if it is not 6514.
        address: String,
        /// A file with the certificate of the authority that vouches for the receiver; only the first time needed.
        #[arg(long)]
        certificate: Option<PathBuf>,
        /// Keep this and send nothing yet.
        #[arg(long)]
        off: bool,
    },
    /// Send one line, to see whether it arrives.
    Test,
    /// Send nothing any more, and keep what is set.
    Off,
    /// Send nothing any more, and forget what is set.
    Forget,
}

pub(crate) async fn run(command: Command, output: Output) -> Result<(), Failure> {
    let session = Session::open()?;
    match command {
        Command::Syslog(command) => syslog(&session, command, output).await,
        Command::SignIn(command) => sign_in::run(&session, command, output).await,
    }
}

async fn syslog(session: &Session, command: Syslog, output: Output) -> Result<(), Failure> {
    match command {
        Syslog::Show => show(&session.call(calls::syslog()).await?, output),
        Syslog::Set { address, certificate, off } => {
            let certificate = read(certificate)?;
            show(
                &session.call(calls::set_syslog(&SetSyslog { on: !off, address, certificate })).await?,
                output,
            )
        }
        Syslog::Test => tried(&session.call(calls::test_syslog()).await?, output),
        Syslog::Off => {
            let set = session.call(calls::syslog()).await?;
            if set.version > 0 {
                let off = SetSyslog { on: false, address: set.address, certificate: String::new() };
                session.call(calls::set_syslog(&off).if_version(set.version)).await?;
            }
            done(output, "The audit log is sent nowhere.")
        }
        Syslog::Forget => {
            session.call(calls::remove_syslog()).await?;
            done(output, "The receiver is forgotten.")
        }
    }
}

/// A file, or nothing where none is named.
fn read(path: Option<PathBuf>) -> Result<String, Failure> {
    let Some(path) = path else { return Ok(String::new()) };
    std::fs::read_to_string(&path).map_err(|error| Failure::Said(format!("{}: {error}", path.display())))
}

fn show(set: &Set, output: Output) -> Result<(), Failure> {
    if output == Output::Json {
        return Ok(shown::json(set)?);
    }
    let sentence = match (set.on, set.version) {
        (_, 0) => "No receiver is set.".to_owned(),
        (false, _) => format!("Nothing is sent. The receiver would be {}.", set.address),
        (true, _) if set.waiting == 0 => {
            format!("The audit log is sent to {}; everything has arrived.", set.address)
        }
        (true, _) => format!("The audit log is sent to {}; waiting lines: {}.", set.address, set.waiting),
    };
    Ok(shown::line(&sentence)?)
}

/// What does not work is a failure for a script too.
fn tried(tried: &Tried, output: Output) -> Result<(), Failure> {
    match (output, tried.works) {
        (Output::Json, _) => shown::json(tried)?,
        (Output::Table, true) => shown::line(&tried.detail)?,
        (Output::Table, false) => return Err(Failure::Said(tried.detail.clone())),
    }
    Ok(())
}
