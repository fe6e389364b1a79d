//! What people do for themselves: the password, the second factor, sessions, and tokens for programs.

use clap::Subcommand;
use quantix_api::{
    ChangePassword, NewApiToken, ProvePassword, RecoveryCodes, Scope, SecondFactorCode, built_in, calls,
};

use crate::{
    Failure, Session,
    access::{scope, titles},
    ask_secret,
    cluster::done,
    shown::{self, Output},
};

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Show who is signed in and what they may do.
    Show,
    /// Change the password; both are read from what comes in.
    Password,
    /// The codes that are asked for after the password.
    #[command(subcommand)]
    SecondFactor(SecondFactor),
    /// List the open sessions.
    Sessions,
    /// Sign out everywhere else, or end one session.
    SignOut {
        /// The id of a session; without it, all but this one end.
        id: Option<String>,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum SecondFactor {
    /// Set it up: shows what to type into an authenticator, and asks for a code of it.
    SetUp,
    /// Sign in without it from now on.
    Remove,
    /// Make new recovery codes; the old ones are good for nothing any more.
    RecoveryCodes,
}

#[derive(Debug, Subcommand)]
pub(crate) enum TokenCommand {
    /// List one's tokens for programs.
    List,
    /// Make a token; it is shown once.
    Make {
        /// What it is for.
        purpose: String,
        /// The role that says what of one's own rights it has.
        #[arg(long, default_value = built_in::VIEWER)]
        role: String,
        /// Where it has them: datacenter, or host/ID.
        #[arg(long, default_value = "datacenter", value_parser = scope)]
        on: Scope,
        /// For how many days it can be used.
        #[arg(long, default_value_t = 90)]
        days: u32,
    },
    /// Take a token back.
    Revoke {
        /// The token's id.
        id: String,
    },
}

pub(crate) async fn run(command: Command, output: Output) -> Result<(), Failure> {
    let session = Session::open()?;
    match command {
        Command::Show => {
            let info = session.call(calls::session()).await?;
            if output == Output::Json {
                return Ok(shown::json(&info)?);
            }
            shown::line(&format!("{}: {}", info.username, titles(&info.roles)))?;
            let factor = if info.second_factor { "is set up" } else { "is not set up" };
            Ok(shown::line(&format!("A second factor {factor}."))?)
        }
        Command::Password => {
            let (current, new) = (ask_secret("Present password: ")?, ask_secret("New password: ")?);
            session.call(calls::change_password(&ChangePassword { current, new })).await?;
            done(output, "The password is changed, and all other sessions have ended.")
        }
        Command::SecondFactor(command) => second_factor(&session, command, output).await,
        Command::Sessions => {
            let sessions = session.call(calls::sessions()).await?.items;
            shown::list(output, &["ID", "FROM", "OPENED (UTC)", "LAST USED (UTC)", ""], &sessions, |open| {
                let when = |at: jiff::Timestamp| at.strftime("%Y-%m-%d %H:%M").to_string();
                let this = if open.this { "this one" } else { "" };
                vec![
                    open.id.clone(),
                    open.address.clone(),
                    when(open.opened_at),
                    when(open.used_at),
                    this.into(),
                ]
            })
        }
        Command::SignOut { id: None } => {
            session.call(calls::end_other_sessions()).await?;
            done(output, "All other sessions have ended.")
        }
        Command::SignOut { id: Some(id) } => {
            session.call(calls::end_session(&id)).await?;
            done(output, "The session has ended.")
        }
    }
}

async fn second_factor(session: &Session, command: SecondFactor, output: Output) -> Result<(), Failure> {
    let proof = ProvePassword { password: ask_secret("Password: ")? };
    match command {
        SecondFactor::SetUp => {
            let made = session.call(calls::begin_second_factor(&proof)).await?;
            shown::line(&format!("Add this to an authenticator:\n\n  {}\n", made.secret.expose()))?;
            shown::line(&format!("or, as an address:\n\n  {}\n", made.address.expose()))?;
            let code = SecondFactorCode { code: ask_secret("The code it shows now: ")? };
            let codes = session.call(calls::confirm_second_factor(&code)).await?;
            recovery_codes(&codes, output)
        }
        SecondFactor::Remove => {
            session.call(calls::remove_second_factor(&proof)).await?;
            done(output, "The second factor is removed.")
        }
        SecondFactor::RecoveryCodes => {
            let codes = session.call(calls::make_recovery_codes(&proof)).await?;
            recovery_codes(&codes, output)
        }
    }
}

fn recovery_codes(codes: &RecoveryCodes, output: Output) -> Result<(), Failure> {
    if output == Output::Json {
        return Ok(shown::json(codes)?);
    }
    shown::line(
        "Each of these opens one session when the authenticator is lost. They are shown only now:\n",
    )?;
    for code in &codes.codes {
        shown::line(&format!("  {}", code.expose()))?;
    }
    Ok(())
}

pub(crate) async fn tokens(command: TokenCommand, output: Output) -> Result<(), Failure> {
    let session = Session::open()?;
    match command {
        TokenCommand::List => {
            let tokens = session.call(calls::tokens()).await?.items;
            let head = ["ID", "PURPOSE", "ROLE", "WHERE", "UNTIL (UTC)", "LAST USED (UTC)"];
            shown::list(output, &head, &tokens, |token| {
                let when = |at: jiff::Timestamp| at.strftime("%Y-%m-%d %H:%M").to_string();
                vec![
                    token.id.clone(),
                    token.purpose.clone(),
                    token.role.clone(),
                    token.scope.to_string(),
                    when(token.expires_at),
                    token.last_used.map_or_else(|| "never".to_owned(), when),
                ]
            })
        }
        TokenCommand::Make { purpose, role, on, days } => {
            let new = NewApiToken { purpose, role, scope: on, days };
            let made = session.call(calls::make_token(&new)).await?;
            if output == Output::Json {
                return Ok(shown::json(&made)?);
            }
            shown::line(made.token.expose())?;
            Ok(shown::line("The token is shown only now.")?)
        }
        TokenCommand::Revoke { id } => {
            session.call(calls::revoke_token(&id)).await?;
            done(output, "The token is taken back.")
        }
    }
}
