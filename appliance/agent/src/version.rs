//! Which state of an object somebody saw who now changes it. Two people who change the same thing at once are told,
//! instead of one undoing unseen what the other did.

use axum::{
    extract::FromRequestParts,
    http::{HeaderMap, HeaderValue, header, request::Parts},
};
use quantix_api::{Problem, ProblemCode};
use rusqlite::Connection;

use crate::api::answer::Failure;

/// What `If-Match` says: a version, or nothing for whichever it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Version(Option<u64>);

impl Version {
    #[cfg(test)]
    pub(crate) const ANY: Self = Self(None);

    /// Refuses a change to what is not what was seen.
    pub(crate) fn must_be(self, present: u64) -> Result<(), Problem> {
        if self.0.is_none_or(|seen| seen == present) {
            return Ok(());
        }
        let sentence =
            "Somebody else has changed this since you read it. Look at it again, and then change it.";
        Err(Problem::new(ProblemCode::ChangedMeanwhile, sentence))
    }

    pub(crate) fn read(headers: &HeaderMap) -> Result<Self, Problem> {
        let Some(text) = headers.get(header::IF_MATCH) else { return Ok(Self(None)) };
        let text = text.to_str().unwrap_or_default().trim();
        if text == "*" {
            return Ok(Self(None));
        }
        let number = text.strip_prefix('"').and_then(|text| text.strip_suffix('"')?.parse().ok());
        number.map(|number| Self(Some(number))).ok_or_else(|| {
            let sentence = "If-Match holds the ETag of what was read, as in \"3\".";
            Problem::new(ProblemCode::Malformed, sentence)
        })
    }
}

impl<S: Sync> FromRequestParts<S> for Version {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Failure> {
        Self::read(&parts.headers).map_err(Failure)
    }
}

/// The header that says which version an answer holds.
pub(crate) fn tag(version: u64) -> [(header::HeaderName, HeaderValue); 1] {
    // Digits between quotes are always a value.
    let value = HeaderValue::from_str(&format!("\"{version}\"")).unwrap_or(HeaderValue::from_static("\"0\""));
    [(header::ETAG, value)]
}

/// Counts a change of a row. Table and column are names from the program.
pub(crate) fn count(connection: &Connection, table: &str, column: &str, key: &str) -> rusqlite::Result<()> {
    let sql = format!("UPDATE {table} SET version = version + 1 WHERE {column} = ?1");
    connection.prepare_cached(&sql)?.execute([key]).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_version_that_was_seen_is_changed() {
        let read = |text: &str| {
            let headers = HeaderMap::from_iter([(header::IF_MATCH, text.parse().unwrap())]);
            Version::read(&headers)
        };
        assert!(read("\"3\"").unwrap().must_be(3).is_ok());
        assert_eq!(read("\"3\"").unwrap().must_be(4).unwrap_err().code, ProblemCode::ChangedMeanwhile);
        assert!(read("*").unwrap().must_be(4).is_ok());
        assert_eq!(Version::read(&HeaderMap::new()).unwrap(), Version::ANY);
        for wrong in ["3", "W/\"3\"", "\"x\"", "\"3\", \"4\"", ""] {
            assert_eq!(read(wrong).unwrap_err().code, ProblemCode::Malformed, "{wrong}");
        }
    }
}
