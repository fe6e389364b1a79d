//! Signing in with an identity provider.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use quantix_api::{Provider, Secret, SetProvider, calls};

use super::{read, tried};
use crate::{
    Failure, Session, ask_secret,
    cluster::done,
    shown::{self, Output},
};

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Show which provider it is.
    Show,
    /// Let people sign in with a provider. What is not given stays as it is.
    Set(Set),
    /// Ask the provider how it is reached.
    Test,
    /// Let nobody sign in with it any more, and keep what is set.
    Off,
    /// Let nobody sign in with it any more, and forget what is set.
    Forget,
}

#[derive(Debug, Args)]
pub(crate) struct Set {
    /// The provider's address, as it stands in its tokens.
    #[arg(long)]
    issuer: Option<String>,
    /// By what the provider knows this cluster.
    #[arg(long)]
    client_id: Option<String>,
    /// Ask for the secret that the provider gave, or read it from what comes in.
    #[arg(long)]
    client_secret: bool,
    /// What the button on the sign-in page says after "Sign in with".
    #[arg(long)]
    title: Option<String>,
    /// Where the pages are reached, as in https://cluster.example; several times where there are several.
    #[arg(long = "address")]
    addresses: Vec<String>,
    /// What is asked for, besides openid.
    #[arg(long = "scope")]
    scopes: Vec<String>,
    /// The claim that names a new user.
    #[arg(long)]
    name_claim: Option<String>,
    /// The claim that holds the groups.
    #[arg(long)]
    groups_claim: Option<String>,
    /// A file with the certificate of the authority that vouches for the provider, where not everybody trusts it.
    #[arg(long)]
    certificate: Option<PathBuf>,
    /// Keep this and let nobody in with it yet.
    #[arg(long)]
    off: bool,
}

pub(crate) async fn run(session: &Session, command: Command, output: Output) -> Result<(), Failure> {
    match command {
        Command::Show => show(&session.call(calls::provider()).await?, output),
        Command::Set(set) => {
            let before = session.call(calls::provider()).await?;
            let version = before.version;
            let set = set.over(before)?;
            show(&session.call(calls::set_provider(&set).if_version(version)).await?, output)
        }
        Command::Test => tried(&session.call(calls::test_provider()).await?, output),
        Command::Off => {
            let before = session.call(calls::provider()).await?;
            if before.version > 0 {
                let version = before.version;
                let off = SetProvider { on: false, ..as_is(before) };
                session.call(calls::set_provider(&off).if_version(version)).await?;
            }
            done(output, "Nobody signs in with the identity provider any more.")
        }
        Command::Forget => {
            session.call(calls::remove_provider()).await?;
            done(output, "The identity provider is forgotten.")
        }
    }
}

fn as_is(before: Provider) -> SetProvider {
    let nothing_yet = before.version == 0;
    let or = |kept: String, usual: &str| if nothing_yet { usual.to_owned() } else { kept };
    SetProvider {
        on: before.on,
        title: or(before.title, "the identity provider"),
        issuer: before.issuer,
        client_id: or(before.client_id, "quantix"),
        client_secret: Secret::new(""),
        scopes: if nothing_yet { vec!["profile".into(), "groups".into()] } else { before.scopes },
        name_claim: or(before.name_claim, "preferred_username"),
        groups_claim: or(before.groups_claim, "groups"),
        certificate: before.certificate,
        addresses: before.addresses,
    }
}

impl Set {
    /// What is given takes the place of what there is.
    fn over(self, before: Provider) -> Result<SetProvider, Failure> {
        let mut set = as_is(before);
        let given = [
            (self.title, &mut set.title),
            (self.issuer, &mut set.issuer),
            (self.client_id, &mut set.client_id),
            (self.name_claim, &mut set.name_claim),
            (self.groups_claim, &mut set.groups_claim),
        ];
        for (value, place) in given {
            if let Some(value) = value {
                *place = value;
            }
        }
        for (values, place) in [(self.addresses, &mut set.addresses), (self.scopes, &mut set.scopes)] {
            if !values.is_empty() {
                *place = values;
            }
        }
        if self.certificate.is_some() {
            set.certificate = read(self.certificate)?;
        }
        if self.client_secret {
            set.client_secret = ask_secret("Client secret: ")?;
        }
        set.on = !self.off;
        Ok(set)
    }
}

fn show(set: &Provider, output: Output) -> Result<(), Failure> {
    if output == Output::Json {
        return Ok(shown::json(set)?);
    }
    if set.version == 0 {
        return Ok(shown::line("No identity provider is set.")?);
    }
    let rows = [
        ("people can sign in", if set.on { "yes" } else { "no" }.to_owned()),
        ("title", set.title.clone()),
        ("issuer", set.issuer.clone()),
        ("client id", set.client_id.clone()),
        ("client secret", if set.has_secret { "kept" } else { "none" }.to_owned()),
        ("scopes", format!("openid {}", set.scopes.join(" "))),
        ("names come from", set.name_claim.clone()),
        ("groups come from", set.groups_claim.clone()),
        ("addresses", set.addresses.join(" ")),
    ];
    let rows: Vec<_> = rows.into_iter().map(|(what, is)| vec![what.to_owned(), is]).collect();
    shown::table(&["WHAT", "IS"], &rows)?;
    Ok(())
}
