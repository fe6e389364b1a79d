//! Fetching the file of an image from an address. A line that breaks, or a host that restarts, costs what was on its way: the
//! next attempt goes on behind what has come, as long as it is still the same file.

use std::time::Duration;

use axum::http::{HeaderName, HeaderValue, Response, StatusCode, header};
use http_body_util::BodyExt;
use quantix_api::{FetchImage, connection::Arriving};
use quantix_storage::{Directory, VolumeId};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::time::{Instant, sleep, timeout};

use super::{
    Work,
    image::{most, own},
    volume::{going, tell},
};
use crate::{
    outside::{
        self,
        fetch::{self, NothingComes, SILENCE, Source, passes},
    },
    storage::{asked::Asked, catalogue::checksum_of},
    tasks::runner::{Did, Hand},
};

/// What comes is put on the disk in pieces of so many bytes.
const PIECE: usize = 4 << 20;
/// It is tried again for so long after anything has come.
const PATIENCE: Duration = Duration::from_secs(10 * 60);
const SHORTEST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
const LOOK: Duration = Duration::from_millis(200);
/// Whoever changes a file more often while it comes sends none.
const MOST_CHANGES: usize = 3;
/// The longest list of checksums.
const LONGEST_LIST: usize = 1 << 20;

/// What is known of the file that comes.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
struct Origin {
    /// By what it is known again: `ETag`, or else when it was last changed.
    known_by: Option<String>,
    length: Option<u64>,
}

/// What is to be fetched.
pub(super) fn wanted(work: &Work) -> Option<FetchImage> {
    let from = work.task.params.get("from").cloned().filter(|from| *from != Value::Null)?;
    serde_json::from_value(from).ok()
}

async fn source(wanted: &FetchImage, address: &str, may_be_plain: bool) -> Result<Source, String> {
    let trust = outside::trust_one_or_everybodys(&wanted.authority).await?;
    Ok(Source { address: address.to_owned(), may_be_private: wanted.allow_private, may_be_plain, trust })
}

/// Fetches its file.
pub(super) async fn fetch(work: &Work, hand: &Hand) -> Result<Did, String> {
    let (id, pool) = own(work)?;
    let wanted = wanted(work).ok_or("The task does not say from where.")?;
    let dir = work.agent.directory(pool);
    let file = |failed: quantix_storage::Failed| failed.to_string();
    if dir.has_image(id).await.map_err(file)? {
        return Ok(Did::Done);
    }
    let source = source(&wanted, &wanted.url, !wanted.checksum.is_empty()).await?;
    let (mut heard, mut pause, mut changes) = (Instant::now(), SHORTEST_PAUSE, 0);
    loop {
        let before = dir.arrived(id).await.map_err(file)?;
        let why = match attempt(work, &dir, id, &source, &mut changes, hand).await {
            Ok(did) => return Ok(did),
            Err(NothingComes::Ever(why)) => return Err(why),
            Err(NothingComes::Now(why)) => why,
        };
        if dir.arrived(id).await.map_err(file)? > before {
            (heard, pause) = (Instant::now(), SHORTEST_PAUSE);
        }
        if heard.elapsed() > PATIENCE {
            return Err(format!("{why} It was tried for ten minutes."));
        }
        log::info!("{} is fetched again in {} s: {why}", work.task.object_name, pause.as_secs());
        let again = Instant::now() + pause;
        while Instant::now() < again {
            if hand.is_to_end() {
                return Ok(Did::Stopped);
            }
            sleep(LOOK).await;
        }
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

fn now(why: impl ToString) -> NothingComes {
    NothingComes::Now(why.to_string())
}

/// Notes that what comes is another file than what had come.
fn has_changed(changes: &mut usize) -> Result<(), NothingComes> {
    *changes += 1;
    if *changes <= MOST_CHANGES {
        return Ok(());
    }
    Err(NothingComes::Ever("The file changes again and again while it comes.".to_owned()))
}

/// Goes on where the last attempt ended, if it is still the same file.
async fn attempt(
    work: &Work,
    dir: &Directory,
    id: VolumeId,
    source: &Source,
    changes: &mut usize,
    hand: &Hand,
) -> Result<Did, NothingComes> {
    // What cannot be written will not be written later either.
    let disk = |failed: quantix_storage::Failed| NothingComes::Ever(failed.to_string());
    let mut at = dir.arrived(id).await.map_err(disk)?;
    let known: Origin = dir
        .origin(id)
        .await
        .map_err(disk)?
        .and_then(|origin| serde_json::from_slice(&origin).ok())
        .unwrap_or_default();
    if at > 0 && known.length == Some(at) {
        return Ok(Did::Done);
    }
    let asked = match &known.known_by {
        Some(known_by) if at > 0 => behind(at, known_by),
        _ => Vec::new(),
    };
    let answer = fetch::get(source, &asked).await?;
    let total = match answer.status() {
        StatusCode::PARTIAL_CONTENT if goes_on(&answer, at) => known.length,
        StatusCode::OK => {
            let origin = origin(&answer);
            if at > 0 && origin != known {
                has_changed(changes)?;
            }
            dir.forget_arrived(id).await.map_err(disk)?;
            at = 0;
            let length = origin.length;
            dir.keep_origin(id, serde_json::to_vec(&origin).unwrap_or_default()).await.map_err(disk)?;
            length
        }
        // It is shorter than what has come, or begins elsewhere than was asked.
        StatusCode::RANGE_NOT_SATISFIABLE | StatusCode::PARTIAL_CONTENT => {
            if at > 0 {
                has_changed(changes)?;
            }
            dir.forget_arrived(id).await.map_err(disk)?;
            return Err(now("The file has changed while it came."));
        }
        status if passes(status) => {
            return Err(now(format!("The answer was {status}.")));
        }
        status => {
            return Err(NothingComes::Ever(format!(
                "There is no file at this address: the answer was {status}."
            )));
        }
    };
    let room = most(work, dir).await.map_err(NothingComes::Ever)?;
    let no_room = || {
        let sentence = "There is not so much room in the pool. Remove something, or choose another pool.";
        NothingComes::Ever(sentence.to_owned())
    };
    if total.is_some_and(|total| total.saturating_sub(at) > room) {
        return Err(no_room());
    }
    if let Some(total) = total {
        let asked = Asked::ImageHasLength { image: id.to_string(), length: total };
        tell(&work.agent, asked).await.map_err(NothingComes::Now)?;
    }
    let end = at.saturating_add(room);
    let arrived = take(dir, id, at, end, answer, hand, total).await?;
    match arrived {
        None => Ok(Did::Stopped),
        Some(arrived) if arrived > end => Err(no_room()),
        Some(arrived) if total.is_some_and(|total| total != arrived) => Err(now("It was cut off.")),
        Some(0) => Err(NothingComes::Ever("The file is empty.".to_owned())),
        Some(_) => Ok(Did::Done),
    }
}

/// Takes in what comes: how much there is then, or nothing if it was stopped.
async fn take(
    dir: &Directory,
    id: VolumeId,
    mut at: u64,
    end: u64,
    answer: Response<Arriving>,
    hand: &Hand,
    total: Option<u64>,
) -> Result<Option<u64>, NothingComes> {
    let disk = |failed: quantix_storage::Failed| NothingComes::Ever(failed.to_string());
    let (mut body, told) = (answer.into_body(), going(hand));
    let mut piece = Vec::with_capacity(PIECE);
    loop {
        let frame = timeout(SILENCE, body.frame()).await;
        let (is_end, why) = match frame {
            Ok(Some(Ok(frame))) => {
                piece.extend_from_slice(frame.data_ref().map_or(&[], |data| data));
                (false, None)
            }
            Ok(None) => (true, None),
            Ok(Some(Err(error))) => (true, Some(format!("It was cut off: {error}."))),
            Err(_) => (true, Some(format!("Nothing came for {} seconds.", SILENCE.as_secs()))),
        };
        let is_stopped = hand.is_to_end();
        if piece.len() >= PIECE || (!piece.is_empty() && (is_end || is_stopped)) {
            let count = piece.len() as u64;
            dir.take_piece(id, at, vec![std::mem::replace(&mut piece, Vec::with_capacity(PIECE))])
                .await
                .map_err(disk)?;
            at += count;
        }
        told(at + piece.len() as u64, total);
        match why {
            Some(why) => return Err(now(why)),
            None if is_stopped => return Ok(None),
            None if is_end || at > end => return Ok(Some(at)),
            None => {}
        }
    }
}

/// Asks for what is behind so many bytes, if it is still the same file.
fn behind(at: u64, known_by: &str) -> Vec<(HeaderName, HeaderValue)> {
    let range = HeaderValue::from_str(&format!("bytes={at}-"));
    match (range, HeaderValue::from_str(known_by)) {
        (Ok(range), Ok(known_by)) => vec![(header::RANGE, range), (header::IF_RANGE, known_by)],
        _ => Vec::new(),
    }
}

/// Whether an answer goes on behind so many bytes.
fn goes_on(answer: &Response<Arriving>, at: u64) -> bool {
    let range = answer.headers().get(header::CONTENT_RANGE).and_then(|range| range.to_str().ok());
    let begin = range.and_then(|range| range.strip_prefix("bytes ")?.split_once('-')?.0.parse().ok());
    begin == Some(at)
}

fn origin(answer: &Response<Arriving>) -> Origin {
    let text = |name| answer.headers().get(name).and_then(|value| Some(value.to_str().ok()?.to_owned()));
    // A weak one says that it is much the same, which is not enough.
    let tag = text(header::ETAG).filter(|tag| !tag.starts_with("W/"));
    Origin {
        known_by: tag.or_else(|| text(header::LAST_MODIFIED)),
        length: text(header::CONTENT_LENGTH).and_then(|length| length.parse().ok()),
    }
}

/// The checksum that its file shall have, if one was given or is in a list.
pub(super) async fn checksum(wanted: &FetchImage) -> Result<Option<String>, String> {
    if !wanted.checksum.is_empty() {
        return Ok(Some(wanted.checksum.to_ascii_lowercase()));
    }
    if wanted.checksums.is_empty() {
        return Ok(None);
    }
    let source = source(wanted, &wanted.checksums, false).await?;
    let begun = Instant::now();
    let list = loop {
        match fetch::whole(&source, LONGEST_LIST).await {
            Ok(list) => break list,
            Err(NothingComes::Now(why)) if begun.elapsed() < SILENCE => {
                log::info!("The list of checksums is asked for again: {why}");
                sleep(SHORTEST_PAUSE).await;
            }
            Err(NothingComes::Now(why) | NothingComes::Ever(why)) => {
                return Err(format!("The list of checksums could not be fetched. {why}"));
            }
        }
    };
    let file = fetch::file_name(&wanted.url);
    let found = checksum_of(&String::from_utf8_lossy(&list), file);
    found.map(Some).ok_or_else(|| format!("The list of checksums has none for {file}."))
}
