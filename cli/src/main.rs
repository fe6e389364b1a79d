//! qx: Quantix from the command line.

mod access;
mod audit;
mod backup;
mod certificate;
mod cloud_init;
mod cluster;
mod connection;
mod console;
mod disks;
mod events;
mod folders;
mod found;
mod hardware;
mod hosts;
mod images;
mod kept;
mod load;
mod own;
mod schedules;
mod sent;
mod settings;
mod shown;
mod snapshots;
mod storage;
mod tasks;
mod users;
mod vm_shown;
mod vms;
mod waiting;

use std::{
    io::{self, BufRead, IsTerminal, Write},
    process::ExitCode,
};

use clap::{CommandFactory, Parser, Subcommand};
use connection::{CallError, Host};
use kept::Kept;
use quantix_api::{
    Answer, Call, ChangePassword, ListQuery, Page, ProblemCode, SecondFactorCode, Secret, SignIn, calls,
};
use serde::de::DeserializeOwned;
use shown::Output;

/// Quantix from the command line.
#[derive(Debug, Parser)]
#[command(name = "qx", version, arg_required_else_help = true)]
struct Arguments {
    /// How results are written.
    #[arg(long, short, global = true, value_enum, default_value_t)]
    output: Output,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Sign in at a host; what follows goes there.
    SignIn {
        /// Name or address of any host of the cluster.
        host: String,
        /// The account.
        #[arg(long, default_value = "admin")]
        user: String,
        /// The SHA-256 of the host's certificate, as its screen shows it. Asked for if it is not given.
        #[arg(long)]
        fingerprint: Option<String>,
        /// A new password, read from the second line of what comes in, for an account that still has its first.
        #[arg(long)]
        new_password: bool,
        /// Read a token for programs from what comes in, instead of a password.
        #[arg(long, conflicts_with_all = ["new_password", "user"])]
        token: bool,
    },
    /// End the session.
    SignOut,
    /// The hosts that belong together.
    #[command(subcommand)]
    Cluster(cluster::Command),
    /// Who may sign in, and what they may do.
    #[command(subcommand)]
    User(users::Command),
    /// Groups of users: what is given to a group, everybody in it has.
    #[command(subcommand)]
    Group(access::GroupCommand),
    /// Roles: rights with a name.
    #[command(subcommand)]
    Role(access::RoleCommand),
    /// The roles that users and groups have, everywhere or on one host.
    #[command(subcommand)]
    Access(access::AccessCommand),
    /// One's own password, second factor and sessions.
    #[command(subcommand)]
    Me(own::Command),
    /// Tokens for programs that act in one's name.
    #[command(subcommand)]
    Token(own::TokenCommand),
    /// The certificate that a host shows to browsers.
    Certificate(certificate::Arguments),
    /// What is set for the whole cluster.
    #[command(subcommand)]
    Settings(settings::Command),
    /// Show who did what, the newest first.
    Audit(audit::Arguments),
    /// What is being done, and what was.
    #[command(subcommand)]
    Task(tasks::Command),
    /// What happened by itself, and what is wrong now.
    #[command(subcommand)]
    Event(events::Command),
    /// One host: restart it, switch it off, look into it.
    #[command(subcommand)]
    Host(hosts::Command),
    /// Virtual machines.
    #[command(subcommand)]
    Vm(vms::Command),
    /// Folders of virtual machines.
    #[command(subcommand)]
    Folder(folders::Command),
    /// Pools: places for volumes.
    #[command(subcommand)]
    Pool(storage::PoolCommand),
    /// Images that disks begin as copies of.
    #[command(subcommand)]
    Image(images::ImageCommand),
    /// Volumes: disks of virtual machines.
    #[command(subcommand)]
    Volume(storage::VolumeCommand),
    /// Write what this host and its machines have used, for Prometheus.
    Metrics,
    /// Write a script that completes commands, for a shell.
    Completion {
        /// The shell.
        shell: clap_complete::Shell,
    },
}

/// Why a command did not do what it was to do.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("{0}")]
    Call(#[from] CallError),
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("{0}")]
    Said(String),
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(arguments).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            let _ = writeln!(io::stderr(), "qx: {failure}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: Arguments) -> Result<(), Failure> {
    match arguments.command {
        Command::SignIn { host, user, fingerprint, new_password, token } => {
            let (host, seen) = look(Host::typed(&host), fingerprint).await?;
            match token {
                true => sign_in_as_program(host, seen).await,
                false => sign_in(host, seen, user, new_password).await,
            }
        }
        Command::SignOut => sign_out().await,
        Command::Cluster(command) => cluster::run(command, arguments.output).await,
        Command::User(command) => users::run(command, arguments.output).await,
        Command::Group(command) => access::groups(command, arguments.output).await,
        Command::Role(command) => access::roles(command, arguments.output).await,
        Command::Access(command) => access::access(command, arguments.output).await,
        Command::Me(command) => own::run(command, arguments.output).await,
        Command::Token(command) => own::tokens(command, arguments.output).await,
        Command::Settings(command) => settings::run(command, arguments.output).await,
        Command::Task(command) => tasks::run(command, arguments.output).await,
        Command::Event(command) => events::run(command, arguments.output).await,
        Command::Host(command) => hosts::run(command, arguments.output).await,
        Command::Vm(command) => vms::run(command, arguments.output).await,
        Command::Folder(command) => folders::run(command, arguments.output).await,
        Command::Image(command) => images::run(command, arguments.output).await,
        Command::Pool(command) => storage::pools(command, arguments.output).await,
        Command::Volume(command) => storage::volumes(command, arguments.output).await,
        Command::Certificate(arguments_of) => certificate::run(arguments_of, arguments.output).await,
        Command::Audit(arguments_of) => audit::run(arguments_of, arguments.output).await,
        Command::Metrics => load::counters(&Session::open()?).await,
        Command::Completion { shell } => {
            clap_complete::generate(shell, &mut Arguments::command(), "qx", &mut io::stdout());
            Ok(())
        }
    }
}

/// A session to make calls in.
struct Session {
    host: Host,
    token: Secret,
}

impl Session {
    fn open() -> Result<Self, Failure> {
        let kept = Kept::read()?
            .ok_or_else(|| Failure::Said("nobody is signed in; begin with: qx sign-in HOST".into()))?;
        Ok(Self {
            host: Host { address: kept.address, fingerprint: Some(kept.fingerprint) },
            token: kept.token,
        })
    }

    /// A whole list, a part at a time.
    async fn all<T: DeserializeOwned>(
        &self,
        part: impl Fn(ListQuery) -> Call<Page<T>>,
    ) -> Result<Vec<T>, Failure> {
        let mut all = Vec::new();
        let mut query = ListQuery { limit: Some(1000), ..ListQuery::default() };
        loop {
            let page = self.call(part(query.clone())).await?;
            all.extend(page.items);
            match page.next {
                Some(next) => query.after = Some(next),
                None => return Ok(all),
            }
        }
    }

    async fn call<T: Answer>(&self, call: Call<T>) -> Result<T, Failure> {
        answered(self.host.call(&call.as_session(&self.token)).await)
    }
}

fn answered<T>(answer: Result<T, CallError>) -> Result<T, Failure> {
    match answer {
        Err(CallError::Problem(problem)) if problem.code == ProblemCode::SignInNeeded => {
            Err(Failure::Said("the session has ended; sign in again: qx sign-in HOST".into()))
        }
        answer => Ok(answer?),
    }
}

/// Looks at a host's certificate, and makes sure that it is the one that is expected there.
async fn look(mut host: Host, fingerprint: Option<String>) -> Result<(Host, String), Failure> {
    let seen = host.look().await?;
    match fingerprint {
        Some(wanted) if wanted.to_ascii_uppercase() != seen => {
            return Err(Failure::Said(format!("{} shows another certificate: {seen}", host.address)));
        }
        Some(_) => {}
        None if known(&host.address, &seen)? => {}
        None => confirm(&host.address, &seen)?,
    }
    host.fingerprint = Some(seen.clone());
    Ok((host, seen))
}

/// A program's token is kept as a session is; whether it is good is asked at once.
async fn sign_in_as_program(host: Host, seen: String) -> Result<(), Failure> {
    let token = ask_secret("Token: ")?;
    let info = host.call(&calls::session().as_session(&token)).await?;
    let kept = Kept { address: host.address, fingerprint: seen, username: info.username, token };
    kept.write()?;
    shown::line(&format!("Signed in at {} with a token of {}.", kept.address, kept.username))?;
    Ok(())
}

async fn sign_in(host: Host, seen: String, username: String, new_password: bool) -> Result<(), Failure> {
    let password = ask_secret("Password: ")?;
    let body = SignIn { username: username.clone(), password: password.clone() };
    let mut session = host.call(&calls::sign_in(&body)).await?;
    if session.info.code_needed {
        let code = SecondFactorCode { code: ask_secret("Code of the second factor, or a recovery code: ")? };
        session = host.call(&calls::give_code(&code).as_session(&session.token)).await?;
    }
    let kept = Kept { address: host.address.clone(), fingerprint: seen, username, token: session.token };
    if session.info.must_change_password {
        if !new_password && !io::stdin().is_terminal() {
            return Err(Failure::Said("the first password must be changed; add --new-password".into()));
        }
        let new = ask_secret("This password is for the first time only. New password: ")?;
        if io::stdin().is_terminal() && ask_secret("New password again: ")? != new {
            return Err(Failure::Said("the two new passwords differ".into()));
        }
        let change = ChangePassword { current: password, new };
        host.call(&calls::change_password(&change).as_session(&kept.token)).await?;
    }
    kept.write()?;
    shown::line(&format!("Signed in at {} as {}.", kept.address, kept.username))?;
    Ok(())
}

/// Whether this certificate was seen there before.
fn known(address: &str, seen: &str) -> io::Result<bool> {
    Ok(Kept::read()?.is_some_and(|kept| kept.address == address && kept.fingerprint == seen))
}

fn confirm(address: &str, seen: &str) -> Result<(), Failure> {
    if !io::stdin().is_terminal() {
        return Err(Failure::Said(format!(
            "compare the certificate of {address} with the host's screen and add: --fingerprint {seen}"
        )));
    }
    let mut asked = io::stderr();
    write!(asked, "{address} shows this certificate:\n  {seen}\nIs it what the host's screen shows? [y/N] ")?;
    asked.flush()?;
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    if matches!(answer.trim(), "y" | "Y" | "yes") {
        Ok(())
    } else {
        Err(Failure::Said("nothing was sent".into()))
    }
}

/// Reads a password without showing it, or a line of what comes in.
fn ask_secret(prompt: &str) -> io::Result<Secret> {
    if io::stdin().is_terminal() {
        return rpassword::prompt_password(prompt).map(Secret::new);
    }
    let mut line = String::new();
    io::stdin().lock().read_line(&mut line)?;
    Ok(Secret::new(line.trim_end_matches(['\n', '\r'])))
}

async fn sign_out() -> Result<(), Failure> {
    let session = Session::open()?;
    // A session that has ended, or whose host is gone, is forgotten all the same.
    let ended = session.call(calls::sign_out()).await;
    Kept::forget()?;
    if let Err(failure) = ended {
        shown::line(&format!("The session is forgotten here; the host was not told: {failure}"))?;
    }
    Ok(())
}
