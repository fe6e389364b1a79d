//! The certificate that a host shows to browsers.

use std::{
    fs,
    io::Read,
    path::{Path, PathBuf},
};

use clap::{Args, Subcommand, ValueEnum};
use quantix_api::{
    Acme, AcmeBinding, AcmeChallenge, AcmeState, CertificateSource, NewCertificateRequest, PageCertificate,
    Secret, SetAcme, UploadCertificate, calls,
};

use crate::{
    Failure, Session, ask_secret,
    cluster::{confirmed, done},
    kept::Kept,
    shown::{self, Output},
};

/// The longest file that is read: nothing of a certificate is longer.
const LONGEST: u64 = 64 * 1024;

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Name or id of the host, if it is not the one that is signed in at.
    #[arg(long, global = true)]
    host: Option<String>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show what the certificate says, and how it is renewed.
    Show,
    /// Show another certificate; connections that are open go on.
    Upload {
        /// The certificate and those that signed it, as PEM; - reads what comes in.
        chain: PathBuf,
        /// Its key as PEM. Left out when the certificate answers the host's own request.
        #[arg(long)]
        key: Option<PathBuf>,
        /// Use it although browsers may not accept it.
        #[arg(long)]
        accept_warnings: bool,
    },
    /// Let the host make a key and a request for a certificate, and write the request.
    Request {
        /// Names and addresses by which browsers open the host.
        #[arg(required = true)]
        names: Vec<String>,
        /// The organisation, if the authority wants one.
        #[arg(long)]
        organization: Option<String>,
    },
    /// Forget the request that waits, and its key.
    DropRequest,
    /// Get certificates from an authority that speaks ACME.
    Acme {
        /// The address of the authority's directory.
        directory: String,
        /// A name or address to get a certificate for; can be given several times.
        #[arg(long = "name", required = true)]
        names: Vec<String>,
        /// That the authority's terms of service are agreed to.
        #[arg(long)]
        agree_to_terms: bool,
        /// A mail address to which the authority writes.
        #[arg(long)]
        contact: Option<String>,
        /// The root certificate of one's own authority, as PEM.
        #[arg(long)]
        authority: Option<PathBuf>,
        /// How the authority sees that the names are this host's.
        #[arg(long, value_enum, default_value = "http-01")]
        challenge: Challenge,
        /// The identifier of a key that the authority gave for an account; the key is asked for.
        #[arg(long)]
        key_id: Option<String>,
    },
    /// Ask the authority at once.
    Renew,
    /// Get no certificates any more; the one that is shown stays.
    StopAcme,
    /// Go back to the certificate that the host made for itself.
    Reset {
        /// The host's name, instead of being asked for it.
        #[arg(long)]
        confirm: Option<String>,
    },
}

/// A challenge as it is typed.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Challenge {
    /// It fetches a file over port 80.
    #[value(name = "http-01")]
    Http,
    /// It looks at a certificate on port 443.
    #[value(name = "tls-alpn-01")]
    TlsAlpn,
}

pub(crate) async fn run(arguments: Arguments, output: Output) -> Result<(), Failure> {
    let session = Session::open()?;
    let (host, is_here) = host(&session, arguments.host).await?;
    let host = host.as_str();
    match arguments.command {
        Command::Show => show(output, &session.call(calls::certificate(host)).await?),
        Command::Upload { chain, key, accept_warnings } => {
            let key = key.map(|key| read(&key)).transpose()?.map(Secret::new);
            let body = UploadCertificate { chain: read(&chain)?, key, accept_warnings };
            let changed = session.call(calls::upload_certificate(host, &body)).await?;
            trust(&changed, is_here)?;
            done(
                output,
                &format!("New connections are shown the new certificate: {}", changed.shown.fingerprint),
            )
        }
        Command::Request { names, organization } => {
            let body = NewCertificateRequest { names, organization };
            let changed = session.call(calls::make_certificate_request(host, &body)).await?;
            match output {
                Output::Json => Ok(shown::json(&changed)?),
                Output::Table => Ok(shown::line(
                    changed.request.map(|request| request.pem).unwrap_or_default().trim_end(),
                )?),
            }
        }
        Command::DropRequest => {
            session.call(calls::drop_certificate_request(host)).await?;
            done(output, "The request and its key are forgotten.")
        }
        Command::Acme { directory, names, agree_to_terms, contact, authority, challenge, key_id } => {
            let binding = match key_id {
                Some(key_id) => Some(AcmeBinding { key_id, key: ask_secret("Key of the account: ")? }),
                None => None,
            };
            let body = SetAcme {
                directory,
                authority: authority.map(|authority| read(&authority)).transpose()?,
                contact,
                names,
                challenge: match challenge {
                    Challenge::Http => AcmeChallenge::Http,
                    Challenge::TlsAlpn => AcmeChallenge::TlsAlpn,
                },
                terms_agreed: agree_to_terms,
                binding,
            };
            session.call(calls::set_acme(host, &body)).await?;
            done(output, "The authority is asked now; qx certificate show says how it goes.")
        }
        Command::Renew => {
            session.call(calls::renew_certificate(host)).await?;
            done(output, "The authority is asked now.")
        }
        Command::StopAcme => {
            session.call(calls::stop_acme(host)).await?;
            done(output, "Nothing is renewed any more. The certificate stays until it is replaced.")
        }
        Command::Reset { confirm } => {
            let certificate = session.call(calls::certificate(host)).await?;
            confirmed(
                &certificate.host_name,
                confirm,
                "The certificate that is shown now and its key are deleted.",
            )?;
            let changed = session.call(calls::reset_certificate(host)).await?;
            trust(&changed, is_here)?;
            done(output, &format!("The host shows its own certificate: {}", changed.shown.fingerprint))
        }
    }
}

/// The host that is meant, and whether it is the one that is signed in at.
async fn host(session: &Session, wanted: Option<String>) -> Result<(String, bool), Failure> {
    let cluster = session.call(calls::cluster()).await?;
    let Some(wanted) = wanted else { return Ok((cluster.this_host, true)) };
    let found = cluster.hosts.iter().find(|host| host.name == wanted || host.id == wanted);
    match found {
        Some(host) => Ok((host.id.clone(), host.id == cluster.this_host)),
        None => Err(Failure::Said(format!("the cluster has no host {wanted}"))),
    }
}

/// What was changed in this session is what the next command sees.
fn trust(changed: &PageCertificate, is_here: bool) -> Result<(), Failure> {
    if is_here && let Some(mut kept) = Kept::read()? {
        kept.fingerprint.clone_from(&changed.shown.fingerprint);
        kept.write()?;
    }
    Ok(())
}

fn read(path: &Path) -> Result<String, Failure> {
    let unreadable =
        |error: &dyn std::fmt::Display| Failure::Said(format!("{} cannot be read: {error}", path.display()));
    let mut text = String::new();
    let read = if path == Path::new("-") {
        std::io::stdin().lock().take(LONGEST + 1).read_to_string(&mut text)
    } else {
        fs::File::open(path).and_then(|file| file.take(LONGEST + 1).read_to_string(&mut text))
    };
    match read {
        Ok(_) if text.len() as u64 > LONGEST => Err(unreadable(&"it is longer than any certificate")),
        Ok(_) => Ok(text),
        Err(error) => Err(unreadable(&error)),
    }
}

fn show(output: Output, certificate: &PageCertificate) -> Result<(), Failure> {
    if output == Output::Json {
        return Ok(shown::json(certificate)?);
    }
    let facts = &certificate.shown;
    let source = match certificate.source {
        CertificateSource::SelfSigned => "made by the host for itself",
        CertificateSource::Uploaded => "uploaded",
        CertificateSource::Acme => "from an authority, renewed by itself",
    };
    let day = |moment: jiff::Timestamp| moment.strftime("%Y-%m-%d %H:%M UTC").to_string();
    let mut rows = vec![
        ("Host", certificate.host_name.clone()),
        ("Comes from", source.to_owned()),
        ("Good for", facts.names.join(", ")),
        ("Made out to", facts.subject.clone()),
        ("Signed by", facts.issuer.clone()),
        ("Valid", format!("{} to {}", day(facts.not_before), day(facts.not_after))),
        ("Key", facts.key.clone()),
        ("SHA-256", facts.fingerprint.clone()),
    ];
    if let Some(request) = &certificate.request {
        rows.push((
            "Request waits",
            format!("since {} for {}", day(request.made_at), request.names.join(", ")),
        ));
    }
    if let Some(acme) = &certificate.acme {
        rows.push(("Renewal", renewal(acme)));
    }
    if let Some(trouble) = &certificate.trouble {
        rows.push(("Trouble", trouble.clone()));
    }
    for (name, value) in rows {
        shown::line(&format!("{name:<14}{value}"))?;
    }
    Ok(())
}

fn renewal(acme: &Acme) -> String {
    let state = match acme.state {
        AcmeState::Waiting => "about to ask",
        AcmeState::Working => "asking",
        AcmeState::Obtained => "obtained",
        AcmeState::Failed => "failed",
    };
    let next = acme.next_attempt.map(|moment| format!(", next {}", moment.strftime("%Y-%m-%d %H:%M UTC")));
    let error = acme.last_error.as_ref().map(|error| format!(": {error}"));
    format!("{state} from {}{}{}", acme.directory, next.unwrap_or_default(), error.unwrap_or_default())
}
