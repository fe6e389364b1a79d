//! The cluster: its hosts, tokens to join it, the vDC role.

use std::{
    io::{self, BufRead, IsTerminal, Write},
    path::PathBuf,
};

use clap::Subcommand;
use jiff::Timestamp;
use quantix_api::{
    Cluster, ClusterHost, HostRole, JoinCluster, MoveLead, NewJoinToken, RemoveHost, Secret, SetVoters, calls,
};

use crate::{
    Failure, Session, ask_secret, backup,
    shown::{self, Output},
    waiting,
};

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Show hosts, roles and how far each is.
    Status,
    /// Tokens with which new hosts join.
    #[command(subcommand)]
    Token(Token),
    /// Let the host where you are signed in join the cluster of another.
    Join {
        /// Name or address of a member.
        address: String,
        /// The join token; read from what comes in if it is not given.
        #[arg(long)]
        token: Option<String>,
    },
    /// Let the host where you are signed in leave its cluster.
    Leave {
        /// The host's name, instead of being asked for it.
        #[arg(long)]
        confirm: Option<String>,
    },
    /// Take a host that is gone for good out of the cluster.
    Remove {
        /// Name or id of the host.
        host: String,
        /// The host's name, instead of being asked for it.
        #[arg(long)]
        confirm: Option<String>,
        /// Do not wait until it is out.
        #[arg(long)]
        no_wait: bool,
    },
    /// Give the vDC role to a host.
    MoveVdc {
        /// Name or id of the host.
        host: String,
        /// Do not wait until it has the role.
        #[arg(long)]
        no_wait: bool,
    },
    /// Say how many hosts shall vote: 1, 3, 5, or auto.
    Voters {
        /// How many.
        wanted: String,
    },
    /// Write the cluster's data into a file that only a passphrase opens.
    Backup {
        /// A file that does not exist yet.
        file: PathBuf,
    },
    /// Let the host where you are signed in begin again from a backup, as a cluster of its own.
    Restore {
        /// The backup.
        file: PathBuf,
        /// The host's name, instead of being asked for it.
        #[arg(long)]
        confirm: Option<String>,
    },
    /// Let the host where you are signed in go on alone, when too few others are left for ever.
    Recover {
        /// The host's name, instead of being asked for it.
        #[arg(long)]
        confirm: Option<String>,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Token {
    /// Make a token; it is shown once.
    Make {
        /// What it is for.
        purpose: String,
        /// For how many hours it can be used.
        #[arg(long, default_value_t = 24)]
        hours: u32,
        /// For how many hosts.
        #[arg(long, default_value_t = 1)]
        uses: u32,
    },
    /// List the tokens.
    List,
    /// Take a token back.
    Revoke {
        /// The token's id.
        id: String,
    },
}

pub(crate) async fn run(command: Command, output: Output) -> Result<(), Failure> {
    let session = Session::open()?;
    match command {
        Command::Status => status(&session, output).await,
        Command::Token(token) => tokens(&session, token, output).await,
        Command::Join { address, token } => {
            let token = token.map_or_else(|| ask_secret("Join token: "), |token| Ok(Secret::new(token)))?;
            session.call(calls::join(&JoinCluster { address, token })).await?;
            done(output, "The host starts again as a member. Then sign in with a password of the cluster.")
        }
        Command::Leave { confirm } => {
            let name = session.call(calls::cluster()).await?.this_name().to_owned();
            confirmed(
                &name,
                confirm,
                "It becomes a cluster of its own, with nothing of this cluster's data.",
            )?;
            session.call(calls::leave()).await?;
            done(output, "The host starts again as a cluster of its own.")
        }
        Command::Backup { file } => {
            let bytes = backup::make(&session, &file).await?;
            done(output, &format!("{} holds the backup, {bytes} bytes.", file.display()))
        }
        Command::Restore { file, confirm } => {
            let name = session.call(calls::cluster()).await?.this_name().to_owned();
            confirmed(&name, confirm, "What it has now is lost; it begins again with the backup's data.")?;
            backup::restore(&session, &file, &name).await?;
            done(output, "The host starts again. Then sign in with a password of the backup's time.")
        }
        Command::Remove { host, confirm, no_wait } => {
            let cluster = session.call(calls::cluster()).await?;
            let host = find(&cluster, &host)?;
            confirmed(&host.name, confirm, "It loses its key at once and can come back only as a new host.")?;
            let body = RemoveHost { name: host.name.clone() };
            let task = session.call(calls::remove_host(&host.id, &body)).await?;
            waiting::shown_to_its_end(&session, task, no_wait, output).await
        }
        Command::MoveVdc { host, no_wait } => {
            let cluster = session.call(calls::cluster()).await?;
            let host = find(&cluster, &host)?;
            let task = session.call(calls::move_lead(&MoveLead { host: host.id.clone() })).await?;
            waiting::shown_to_its_end(&session, task, no_wait, output).await
        }
        Command::Voters { wanted } => {
            let number = |wanted: &str| {
                wanted.parse().map_err(|_| Failure::Said(format!("{wanted} is neither 1, 3, 5 nor auto")))
            };
            let wanted = if wanted == "auto" { None } else { Some(number(&wanted)?) };
            session.call(calls::set_voters(&SetVoters { wanted })).await?;
            done(output, "Saved.")
        }
        Command::Recover { confirm } => {
            let name = session.call(calls::cluster()).await?.this_name().to_owned();
            confirmed(
                &name,
                confirm,
                "Only do this when the other hosts will never come back: what only they had is lost.",
            )?;
            session.call(calls::recover(&RemoveHost { name })).await?;
            done(output, "The host starts again alone, with all the data it has.")
        }
    }
}

pub(crate) fn done(output: Output, sentence: &str) -> Result<(), Failure> {
    match output {
        Output::Table => shown::line(sentence)?,
        Output::Json => shown::json(&serde_json::json!({ "done": true, "detail": sentence }))?,
    }
    Ok(())
}

async fn status(session: &Session, output: Output) -> Result<(), Failure> {
    let cluster = session.call(calls::cluster()).await?;
    if output == Output::Json {
        return Ok(shown::json(&cluster)?);
    }
    let rows: Vec<_> = cluster.hosts.iter().map(|host| row(&cluster, host)).collect();
    shown::table(&["HOST", "PART", "CONTACT", "BEHIND", "ADDRESS", "ID"], &rows)?;
    shown::line(&format!(
        "\nTerm {}, change {}, certificate {}",
        cluster.term, cluster.applied_index, cluster.fingerprint
    ))?;
    if !cluster.writable {
        shown::line("Nothing can be changed now: too few hosts answer.")?;
    }
    for sentence in &cluster.trouble {
        shown::line(sentence)?;
    }
    Ok(())
}

fn row(cluster: &Cluster, host: &ClusterHost) -> Vec<String> {
    let part = match host.role {
        HostRole::Leader if cluster.writable => "vDC role",
        HostRole::Leader | HostRole::Voter => "votes",
        HostRole::Learner => "stands by",
        HostRole::Joining => "let in",
    };
    let contact = match host.last_contact_ms {
        _ if host.id == cluster.this_host => "this host".to_owned(),
        Some(silent) if silent < 5_000 => "answers".to_owned(),
        Some(silent) => format!("silent for {} s", silent / 1000),
        None => "not heard".to_owned(),
    };
    let behind = host.lag.map_or_else(|| "-".to_owned(), |lag| lag.to_string());
    vec![host.name.clone(), part.to_owned(), contact, behind, host.address.clone(), host.id.clone()]
}

async fn tokens(session: &Session, token: Token, output: Output) -> Result<(), Failure> {
    match token {
        Token::Make { purpose, hours, uses } => {
            let made = session.call(calls::make_join_token(&NewJoinToken { purpose, hours, uses })).await?;
            if output == Output::Json {
                return Ok(shown::json(&made)?);
            }
            shown::line(made.token.expose())?;
            shown::line(&format!(
                "\nOn the new host: qx cluster join {} --token {}",
                made.address,
                made.token.expose()
            ))?;
            shown::line(&format!("Certificate {}", made.fingerprint))?;
        }
        Token::List => {
            let tokens = session.call(calls::join_tokens()).await?;
            if output == Output::Json {
                return Ok(shown::json(&tokens)?);
            }
            let rows: Vec<_> = tokens
                .items
                .into_iter()
                .map(|token| {
                    let state = match () {
                        () if token.revoked => "taken back".to_owned(),
                        () if token.uses_left == 0 => "used up".to_owned(),
                        () if token.expires_at <= Timestamp::now() => "expired".to_owned(),
                        () => format!(
                            "{} left until {}",
                            token.uses_left,
                            token.expires_at.strftime("%Y-%m-%d %H:%M UTC")
                        ),
                    };
                    vec![token.id, token.purpose, state, token.used_by.join(" "), token.made_by]
                })
                .collect();
            shown::table(&["ID", "PURPOSE", "STATE", "USED BY", "MADE BY"], &rows)?;
        }
        Token::Revoke { id } => {
            if id.len() != 16 || !id.bytes().all(|byte| byte.is_ascii_hexdigit()) {
                return Err(Failure::Said(format!(
                    "{id} is no token's id; qx cluster token list shows them"
                )));
            }
            session.call(calls::revoke_join_token(&id)).await?;
            done(output, "Taken back.")?;
        }
    }
    Ok(())
}

pub(crate) fn find<'a>(cluster: &'a Cluster, wanted: &str) -> Result<&'a ClusterHost, Failure> {
    let found = cluster.hosts.iter().find(|host| host.name == wanted || host.id == wanted);
    found.ok_or_else(|| {
        Failure::Said(format!("the cluster has no host {wanted}; qx cluster status shows them"))
    })
}

/// Has the name typed before something is lost.
pub(crate) fn confirmed(name: &str, confirm: Option<String>, warning: &str) -> Result<(), Failure> {
    let typed = match confirm {
        Some(typed) => typed,
        None if io::stdin().is_terminal() => {
            let mut asked = io::stderr();
            write!(asked, "{warning}\nTo go on, type {name}: ")?;
            asked.flush()?;
            let mut typed = String::new();
            io::stdin().lock().read_line(&mut typed)?;
            typed.trim().to_owned()
        }
        None => return Err(Failure::Said(format!("{warning} To go on, add: --confirm {name}"))),
    };
    if typed == name { Ok(()) } else { Err(Failure::Said(format!("this is not {name}; nothing was done"))) }
}
