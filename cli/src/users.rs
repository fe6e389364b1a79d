//! People: who may sign in, and what they may do.

use clap::Subcommand;
use jiff::Timestamp;
use quantix_api::{ChangeUser, ListQuery, NewUser, Scope, User, UserPassword, built_in, calls};

use crate::{
    Failure, Session,
    cluster::{confirmed, done},
    shown::{self, Output},
};

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// List the users.
    List,
    /// Add a user; the first password is shown once.
    Add {
        /// The name to sign in with.
        name: String,
        /// What they may do.
        #[arg(long, default_value = built_in::VIEWER)]
        role: String,
    },
    /// Say what a user may do.
    Role {
        /// The user.
        name: String,
        /// The role they have everywhere.
        role: String,
    },
    /// Keep a user out, and end their sessions.
    Lock {
        /// The user.
        name: String,
    },
    /// Let a locked user in again.
    Unlock {
        /// The user.
        name: String,
    },
    /// Give a user a new password for the next sign-in; it is shown once.
    ResetPassword {
        /// The user.
        name: String,
    },
    /// End all sessions of a user.
    SignOut {
        /// The user.
        name: String,
    },
    /// Take a user out.
    Remove {
        /// The user.
        name: String,
        /// The name once more, instead of being asked for it.
        #[arg(long)]
        confirm: Option<String>,
    },
}

pub(crate) async fn run(command: Command, output: Output) -> Result<(), Failure> {
    let session = Session::open()?;
    let change = async |name: &str, change: ChangeUser, sentence: &str| {
        session.call(calls::change_user(name, &change)).await?;
        done(output, sentence)
    };
    match command {
        Command::List => list(&session, output).await,
        Command::Add { name, role } => {
            let made = session.call(calls::make_user(&NewUser { username: name, role })).await?;
            password(output, &made)
        }
        Command::Role { name, role } => {
            change(&name, ChangeUser { role: Some(role), locked: None }, "Saved.").await
        }
        Command::Lock { name } => {
            change(&name, ChangeUser { role: None, locked: Some(true) }, &format!("{name} is locked.")).await
        }
        Command::Unlock { name } => {
            let unlocked = ChangeUser { role: None, locked: Some(false) };
            change(&name, unlocked, &format!("{name} can sign in again.")).await
        }
        Command::ResetPassword { name } => {
            let made = session.call(calls::reset_password(&name)).await?;
            password(output, &made)
        }
        Command::SignOut { name } => {
            session.call(calls::end_sessions(&name)).await?;
            done(output, &format!("All sessions of {name} have ended."))
        }
        Command::Remove { name, confirm } => {
            confirmed(&name, confirm, "What they did stays in the audit log.")?;
            session.call(calls::remove_user(&name)).await?;
            done(output, &format!("{name} is removed."))
        }
    }
}

fn password(output: Output, made: &UserPassword) -> Result<(), Failure> {
    match output {
        Output::Json => shown::json(made)?,
        Output::Table => {
            shown::line(made.password.expose())?;
            shown::line(&format!(
                "This password of {} is shown only now, and changed at the first sign-in.",
                made.user.username
            ))?;
        }
    }
    Ok(())
}

async fn list(session: &Session, output: Output) -> Result<(), Failure> {
    let users = session.call(calls::users(&ListQuery { limit: Some(1000), ..ListQuery::default() })).await?;
    if output == Output::Json {
        return Ok(shown::json(&users)?);
    }
    let rows: Vec<_> = users.items.iter().map(row).collect();
    shown::table(&["NAME", "ROLES", "STATE", "LAST SIGN-IN (UTC)", "SESSIONS"], &rows)?;
    Ok(())
}

fn row(user: &User) -> Vec<String> {
    let state = match (user.locked, user.must_change_password) {
        (true, _) => "locked",
        (false, true) => "has not chosen a password",
        (false, false) => "can sign in",
    };
    let place = |scope: &Scope| match scope {
        Scope::Datacenter => String::new(),
        Scope::Host(_) => format!(" on {scope}"),
    };
    let roles: Vec<_> =
        user.roles.iter().map(|held| format!("{}{}", held.role, place(&held.scope))).collect();
    let roles = roles.join(", ");
    let when = |at: Timestamp| at.strftime("%Y-%m-%d %H:%M").to_string();
    vec![
        user.username.clone(),
        roles,
        state.to_owned(),
        user.last_sign_in.map_or_else(|| "never".to_owned(), when),
        user.sessions.to_string(),
    ]
}
