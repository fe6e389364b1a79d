//! People: who may sign in, and what they may do.

use clap::Subcommand;
use jiff::Timestamp;
use quantix_api::{ChangeUser, NewUser, User, UserPassword, built_in, calls};

use crate::{
    Failure, Session,
    access::titles,
    cluster::{confirmed, done},
    shown::{self, Output},
};

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// List the users.
    List,
    /// Show a user, as JSON.
    Show {
        /// The user.
        name: String,
    },
    /// Let a user who has lost the second factor sign in with the password alone.
    ResetSecondFactor {
        /// The user.
        name: String,
    },
    /// List the tokens of a user.
    Tokens {
        /// The user.
        name: String,
    },
    /// Take a token of a user back.
    RevokeToken {
        /// The user.
        name: String,
        /// The token's id.
        id: String,
    },
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
        Command::List => {
            let users = session.all(|query| calls::users(&query)).await?;
            shown::list(output, &["NAME", "ROLES", "STATE", "LAST SIGN-IN (UTC)", "SESSIONS"], &users, row)
        }
        Command::Show { name } => Ok(shown::json(&session.call(calls::user(&name)).await?)?),
        Command::ResetSecondFactor { name } => {
            session.call(calls::reset_second_factor(&name)).await?;
            done(output, &format!("{name} signs in with the password alone, until they set up another."))
        }
        Command::Tokens { name } => {
            let tokens = session.call(calls::tokens_of(&name)).await?.items;
            shown::list(output, &["ID", "PURPOSE", "ROLE", "WHERE"], &tokens, |token| {
                vec![token.id.clone(), token.purpose.clone(), token.role.clone(), token.scope.to_string()]
            })
        }
        Command::RevokeToken { name, id } => {
            session.call(calls::revoke_token_of(&name, &id)).await?;
            done(output, "The token is taken back.")
        }
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

fn row(user: &User) -> Vec<String> {
    let state = match (user.locked, user.must_change_password) {
        (true, _) => "locked",
        (false, true) => "has not chosen a password",
        (false, false) => "can sign in",
    };
    let when = |at: Timestamp| at.strftime("%Y-%m-%d %H:%M").to_string();
    vec![
        user.username.clone(),
        titles(&user.roles),
        state.to_owned(),
        user.last_sign_in.map_or_else(|| "never".to_owned(), when),
        user.sessions.to_string(),
    ]
}
