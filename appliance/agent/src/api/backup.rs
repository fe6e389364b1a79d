//! The data as a file that leaves, and a host that begins again from one.

use std::{io, sync::Arc, time::Duration};

use axum::{
    body::Bytes,
    extract::{Multipart, State, multipart::Field},
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use quantix_api::{MakeBackup, Problem, ProblemCode, Secret};
use tokio::{sync::mpsc, time::timeout};

use super::{
    Agent,
    answer::{Body, Failure, Leaving},
    peer::Client,
    person::Person,
};

/// An upload that does not move for so long is given up.
const STALLED: Duration = Duration::from_secs(60);
/// The longest text in a form.
const LONGEST: usize = 1024;
/// What of an upload is held in memory.
const PIECES: usize = 4;

/// All data as a file that a passphrase opens: this host's, which it first makes sure is all there is.
#[utoipa::path(post, path = "/api/v1/cluster/backup", tag = "cluster", request_body = MakeBackup, responses((status = 200, content_type = "application/octet-stream", body = Vec<u8>)))]
pub(crate) async fn make(
    State(agent): State<Arc<Agent>>,
    client: Client,
    person: Person,
    Body(body): Body<MakeBackup>,
) -> Result<Response, Failure> {
    let line = person.line(client, "make backup", agent.name.clone());
    let pieces = agent.cluster.backup(&body.passphrase).await?;
    if let Err(problem) = agent.cluster.note(line).await {
        log::warn!("A backup that was made is not in the audit log: {problem}");
    }
    let mut response = Leaving(pieces).into_response();
    let kind = HeaderValue::from_static("application/octet-stream");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    Ok(response)
}

/// This host begins again from a backup. It must be a cluster of its own.
///
/// A form with the host's `name`, the `passphrase`, and last the `backup`.
#[utoipa::path(post, path = "/api/v1/cluster/restore", tag = "cluster", request_body(content_type = "multipart/form-data", content = String), responses((status = 202)))]
pub(crate) async fn restore(
    State(agent): State<Arc<Agent>>,
    client: Client,
    person: Person,
    mut form: Multipart,
) -> Result<StatusCode, Failure> {
    let line = person.line(client, "restore backup", agent.name.clone());
    let (mut name, mut passphrase) = (String::new(), None);
    while let Some(mut field) = form.next_field().await.map_err(|error| cut_short(&error))? {
        match field.name() {
            Some("name") => name = text(&mut field).await?,
            Some("passphrase") => passphrase = Some(Secret::new(text(&mut field).await?)),
            Some("backup") => {
                let passphrase = passphrase.ok_or_else(|| missing("passphrase"))?;
                if name.trim() != agent.name {
                    let sentence = format!(
                        "To put this host's data out for the backup's, type its name: {}.",
                        agent.name
                    );
                    let refused = Problem::new(ProblemCode::Invalid, sentence).in_field("name");
                    take(&mut field, None).await;
                    return Err(refused.into());
                }
                let (arriving, pieces) = mpsc::channel(PIECES);
                let restored = agent.cluster.restore(pieces, passphrase, line);
                let (restored, ()) = tokio::join!(restored, take(&mut field, Some(arriving)));
                restored?;
                return Ok(StatusCode::ACCEPTED);
            }
            _ => return Err(missing("backup").into()),
        }
    }
    Err(missing("backup").into())
}

async fn text(field: &mut Field<'_>) -> Result<String, Problem> {
    let mut bytes = Vec::new();
    while let Some(piece) = field.chunk().await.map_err(|error| cut_short(&error))? {
        bytes.extend_from_slice(&piece);
        if bytes.len() > LONGEST {
            return Err(Problem::new(
                ProblemCode::TooLarge,
                format!("A field is longer than {LONGEST} bytes."),
            ));
        }
    }
    String::from_utf8(bytes).map_err(|error| cut_short(&error))
}

/// Takes all of an upload. A browser shows an answer only when it has sent everything, so what nobody wants is taken
/// as well.
async fn take(field: &mut Field<'_>, mut to: Option<mpsc::Sender<io::Result<Bytes>>>) {
    loop {
        let piece = match timeout(STALLED, field.chunk()).await {
            Ok(Ok(None)) => return,
            Ok(Ok(Some(piece))) => Ok(piece),
            Ok(Err(error)) => Err(io::Error::other(error.body_text())),
            Err(_) => Err(io::Error::other("nothing more came")),
        };
        let is_broken = piece.is_err();
        if let Some(sender) = &to
            && sender.send(piece).await.is_err()
        {
            to = None;
        }
        if is_broken {
            return;
        }
    }
}

fn cut_short(_: &impl std::error::Error) -> Problem {
    Problem::new(ProblemCode::Malformed, "The form was cut short, or is none.")
}

fn missing(field: &str) -> Problem {
    let sentence = "A form with the host's name, the passphrase, and last the backup is expected here.";
    Problem::new(ProblemCode::Invalid, sentence).in_field(field)
}
