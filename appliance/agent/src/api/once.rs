//! Requests that are done once, however often they are sent: whoever did not hear the answer sends the same request with
//! the same `Idempotency-Key` again and gets the answer of the first time.
//!
//! That a key is used is written in the same write as what the request changes. The answer follows in a write of its
//! own; if the host dies between the two, whoever asks again is told that it was done. Answers may hold a password that
//! is shown once, so they are kept sealed, and only the key and the token of whoever asked open them.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use axum::{
    body::{Body, Bytes, to_bytes},
    extract::{Request, State},
    http::{HeaderMap, HeaderValue, Method, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use quantix_api::{ANSWERED_HEADERS, MAX_BODY_BYTES, Problem, ProblemCode};
use rusqlite::{Connection, OptionalExtension, params};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{
    Agent,
    answer::{Failure, too_large},
    person::bearer,
};
use crate::{cluster::Refused, sessions::now};

const HEADER: &str = "idempotency-key";
const LONGEST_KEY: usize = 200;
/// So long a key is remembered, in seconds.
const REMEMBERED: u64 = 24 * 60 * 60;
/// Beyond this the oldest are forgotten.
const MOST: u32 = 10_000;
/// The longest answer that is kept.
const LONGEST_ANSWER: usize = 64 * 1024;

tokio::task_local! {
    /// The key of the request that is being answered.
    static KEY: Arc<Key>;
}

/// A key as it came with a request.
#[derive(Debug)]
struct Key {
    /// Of the key and the token of whoever asks: nobody else's request has it.
    hash: [u8; 32],
    /// Of what is asked.
    request: [u8; 32],
    is_written: AtomicBool,
}

/// An answer as it is kept, before it is sealed.
#[derive(Debug, Serialize, Deserialize)]
struct Answer {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

/// Writes down in this write that the key of the request is used, if it has one.
pub(crate) fn noting<R>(
    work: impl FnOnce(&Connection) -> Result<R, Refused> + Send + 'static,
) -> impl FnOnce(&Connection) -> Result<R, Refused> + Send + 'static {
    let key = KEY.try_with(Arc::clone).ok();
    move |connection| {
        if let Some(key) = key.filter(|key| !key.is_written.swap(true, Ordering::Relaxed)) {
            key.note(connection)?;
        }
        work(connection)
    }
}

impl Key {
    fn note(&self, connection: &Connection) -> Result<(), Refused> {
        let now = now();
        connection.execute(
            "DELETE FROM answered WHERE abs(?1 - at) >= ?2
             OR key_hash IN (SELECT key_hash FROM answered ORDER BY at DESC LIMIT -1 OFFSET ?3)",
            params![now, REMEMBERED, MOST - 1],
        )?;
        let is_new = connection.execute(
            "INSERT INTO answered (key_hash, request_hash, at) VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING",
            params![self.hash, self.request, now],
        )?;
        // The same request twice at once: the second comes too late to be done.
        if is_new == 0 { Err(is_done().into()) } else { Ok(()) }
    }
}

fn is_done() -> Problem {
    let sentence = "This request was done already, and its answer is not there. Look at what it has changed.";
    Problem::new(ProblemCode::KeyUsed, sentence)
}

/// The key of a request, if it has one that counts.
fn key(headers: &HeaderMap) -> Result<Option<(&str, &str)>, Problem> {
    let Some(key) = headers.get(HEADER) else { return Ok(None) };
    let key = key.to_str().ok().filter(|key| (1..=LONGEST_KEY).contains(&key.len()));
    let Some(key) = key else {
        let sentence = format!("An Idempotency-Key has 1 to {LONGEST_KEY} printable characters.");
        return Err(Problem::new(ProblemCode::Malformed, sentence));
    };
    Ok(bearer(headers).map(|token| (key, token)))
}

fn digest(parts: &[&[u8]]) -> [u8; 32] {
    let mut digest = Sha256::new();
    for part in parts {
        digest.update(u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
        digest.update(part);
    }
    digest.finalize().into()
}

/// What seals an answer. Each key is used once, so that its nonce may be always the same.
fn seal(key: &str, token: &str) -> Option<LessSafeKey> {
    let bytes = digest(&[b"quantix answer", key.as_bytes(), token.as_bytes()]);
    UnboundKey::new(&AES_256_GCM, &bytes).ok().map(LessSafeKey::new)
}

fn nonce() -> Nonce {
    Nonce::assume_unique_for_key([0; 12])
}

/// Answers a request whose key was used as it was answered the first time, and keeps the answers of those that are new.
pub(crate) async fn done_once(
    State(agent): State<Arc<Agent>>,
    request: Request,
    next: Next,
) -> Result<Response, Failure> {
    if request.method() != Method::POST {
        return Ok(next.run(request).await);
    }
    let Some((name, token)) =
        key(request.headers())?.map(|(name, token)| (name.to_owned(), token.to_owned()))
    else {
        return Ok(next.run(request).await);
    };
    let (parts, body) = request.into_parts();
    let body = to_bytes(body, MAX_BODY_BYTES).await.map_err(|_| too_large())?;
    let hash = digest(&[name.as_bytes(), token.as_bytes()]);
    let asked = digest(&[parts.uri.path().as_bytes(), &body]);
    let find = move |connection: &Connection| {
        let mut kept =
            connection.prepare_cached("SELECT request_hash, answer FROM answered WHERE key_hash = ?1")?;
        kept.query_row([hash], |row| Ok((row.get::<_, [u8; 32]>(0)?, row.get::<_, Option<Vec<u8>>>(1)?)))
            .optional()
    };
    match agent.cluster.read(find).await? {
        Some((other, _)) if other != asked => {
            let sentence = "This Idempotency-Key was used for another request. Take a new one for each.";
            return Err(Problem::new(ProblemCode::KeyUsed, sentence).into());
        }
        Some((_, answer)) => {
            return answer.and_then(|sealed| open(&name, &token, sealed)).ok_or_else(|| is_done().into());
        }
        None => {}
    }
    let key = Arc::new(Key { hash, request: asked, is_written: AtomicBool::new(false) });
    let answer = KEY.scope(Arc::clone(&key), next.run(Request::from_parts(parts, Body::from(body)))).await;
    if !answer.status().is_success() || !key.is_written.load(Ordering::Relaxed) {
        return Ok(answer);
    }
    let (head, body) = answer.into_parts();
    let Ok(body) = to_bytes(body, LONGEST_ANSWER).await else { return Err(too_large().into()) };
    if let Some(sealed) = sealed(&name, &token, head.status, &head.headers, &body) {
        let keep = move |connection: &Connection| {
            let sql = "UPDATE answered SET answer = ?2 WHERE key_hash = ?1";
            Ok(connection.execute(sql, params![hash, sealed]).map(drop)?)
        };
        if let Err(problem) = agent.cluster.write(keep).await {
            log::warn!("The answer to a request with a key is not kept: {problem}");
        }
    }
    Ok(Response::from_parts(head, Body::from(body)))
}

fn sealed(key: &str, token: &str, status: StatusCode, headers: &HeaderMap, body: &Bytes) -> Option<Vec<u8>> {
    let headers = ANSWERED_HEADERS.into_iter().filter_map(|name| {
        let value = headers.get(&name)?.to_str().ok()?.to_owned();
        Some((name.to_string(), value))
    });
    let answer = Answer { status: status.as_u16(), headers: headers.collect(), body: body.to_vec() };
    let mut bytes = serde_json::to_vec(&answer).ok()?;
    seal(key, token)?.seal_in_place_append_tag(nonce(), Aad::empty(), &mut bytes).ok()?;
    Some(bytes)
}

fn open(key: &str, token: &str, mut sealed: Vec<u8>) -> Option<Response> {
    let bytes = seal(key, token)?.open_in_place(nonce(), Aad::empty(), &mut sealed).ok()?;
    let answer: Answer = serde_json::from_slice(bytes).ok()?;
    let mut response = (StatusCode::from_u16(answer.status).ok()?, answer.body).into_response();
    response.headers_mut().remove(header::CONTENT_TYPE);
    for (name, value) in answer.headers {
        let name = header::HeaderName::from_bytes(name.as_bytes()).ok()?;
        response.headers_mut().insert(name, HeaderValue::from_str(&value).ok()?);
    }
    Some(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_who_asked_opens_the_answer() {
        let headers = HeaderMap::from_iter([(header::ETAG, HeaderValue::from_static("\"1\""))]);
        let kept =
            sealed("key", "token", StatusCode::CREATED, &headers, &Bytes::from_static(b"secret")).unwrap();
        assert!(!kept.windows(6).any(|bytes| bytes == b"secret"));
        assert!(
            open("key", "another", kept.clone()).is_none() && open("other", "token", kept.clone()).is_none()
        );
        let answer = open("key", "token", kept).unwrap();
        assert_eq!(
            (answer.status(), answer.headers()[header::ETAG].as_bytes()),
            (StatusCode::CREATED, &b"\"1\""[..])
        );
    }

    #[test]
    fn a_key_is_used_once_and_forgotten_in_time() {
        let connection = crate::cluster::tables();
        let key = |byte| Key { hash: [byte; 32], request: [0; 32], is_written: AtomicBool::new(false) };
        key(1).note(&connection).unwrap();
        assert!(key(1).note(&connection).is_err());
        connection.execute("UPDATE answered SET at = 0", []).unwrap();
        key(2).note(&connection).unwrap();
        let kept: i64 = connection.query_row("SELECT count(*) FROM answered", [], |row| row.get(0)).unwrap();
        assert_eq!(kept, 1);
    }
}
