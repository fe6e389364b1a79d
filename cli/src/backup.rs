//! The cluster's data as a file here, and a host that begins again from one.

use std::{
    fs::File,
    io::{self, IsTerminal, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

use http::{Method, Request, header};
use http_body_util::{BodyExt, Full};
use quantix_api::{MakeBackup, Problem, Secret, calls, connection};

use crate::{Failure, Session, ask_secret, sent::Sent};

/// No line of a form is this one.
const BOUNDARY: &str = "quantix-8f1d6c0a54b94b0f";
const MAX_PROBLEM_BYTES: usize = 64 * 1024;

/// Writes a backup into a new file. What was not written whole is not left there.
pub(crate) async fn make(session: &Session, path: &Path) -> Result<u64, Failure> {
    let passphrase = ask_secret("Passphrase of the backup: ")?;
    if io::stdin().is_terminal() && ask_secret("Passphrase again: ")? != passphrase {
        return Err(Failure::Said("the two passphrases differ".into()));
    }
    let call = calls::backup(&MakeBackup { passphrase }).as_session(&session.token);
    let request = call.request().map_err(|error| Failure::Said(error.to_string()))?;
    let answer = session.host.begin(request.map(Full::new)).await?;
    save(answer, path, "the backup").await
}

/// Writes what a host sends into a new file. What was not written whole is not left there.
pub(crate) async fn save(
    answer: http::Response<connection::Arriving>,
    path: &Path,
    what: &str,
) -> Result<u64, Failure> {
    let mut body = checked(answer).await?;
    let mut file = File::options()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .map_err(|error| Failure::Said(format!("{} cannot be made: {error}", path.display())))?;
    let written = async {
        let mut bytes = 0;
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| io::Error::other(format!("it broke off: {error}")))?;
            if let Ok(piece) = frame.into_data() {
                file.write_all(&piece)?;
                bytes += piece.len() as u64;
            }
        }
        file.sync_all()?;
        io::Result::Ok(bytes)
    };
    match written.await {
        Ok(bytes) => Ok(bytes),
        Err(error) => {
            std::fs::remove_file(path)?;
            Err(Failure::Said(format!("{what} was not written: {error}")))
        }
    }
}

/// Sends a backup to the host, which begins again from it.
pub(crate) async fn restore(session: &Session, path: &Path, name: &str) -> Result<(), Failure> {
    let file = File::open(path)
        .map_err(|error| Failure::Said(format!("{} cannot be read: {error}", path.display())))?;
    let passphrase = ask_secret("Passphrase of the backup: ")?;
    let form = form(file, name, &passphrase)?;
    let request = Request::builder()
        .method(Method::POST)
        .uri(calls::RESTORE_PATH)
        .header(header::AUTHORIZATION, format!("Bearer {}", session.token.expose()))
        .header(header::CONTENT_TYPE, format!("multipart/form-data; boundary={BOUNDARY}"))
        .body(form)
        .map_err(|error| Failure::Said(error.to_string()))?;
    checked(session.host.begin(request).await?).await.map(drop)
}

/// The body of a success; the problem, of anything else.
pub(crate) async fn checked(
    answer: http::Response<connection::Arriving>,
) -> Result<connection::Arriving, Failure> {
    if answer.status().is_success() {
        return Ok(answer.into_body());
    }
    let status = answer.status();
    let said = connection::collect(answer, MAX_PROBLEM_BYTES).await;
    let problem: Option<Problem> = said.ok().and_then(|said| serde_json::from_slice(said.body()).ok());
    Err(match problem {
        Some(problem) => Failure::Call(problem.into()),
        None => Failure::Said(format!("the host answered {status}")),
    })
}

/// The form that a host begins again from.
fn form(file: File, name: &str, passphrase: &Secret) -> io::Result<Sent> {
    let field = |name: &str, value: &str| {
        format!("--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n")
    };
    let head = format!(
        "--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"backup\"; filename=\"backup\"\r\n\r\n"
    );
    let before = field("name", name) + &field("passphrase", passphrase.expose()) + &head;
    Sent::around(before, file, format!("\r\n--{BOUNDARY}--\r\n"))
}
