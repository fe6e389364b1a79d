//! Who is signed in. Only a hash of each token is kept, in memory: a restart of the agent signs everybody out.
//! Time is the monotonic clock's, so that a jump of the wall clock neither ends nor prolongs a session.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use quantix_api::Secret;
use rand::TryRngCore;
use sha2::{Digest, Sha256};

const IDLE: Duration = Duration::from_secs(30 * 60);
const LONGEST: Duration = Duration::from_secs(12 * 60 * 60);
/// Beyond this the one idle for longest makes room.
const MOST: usize = 1000;

type TokenHash = [u8; 32];

#[derive(Debug)]
struct Open {
    username: String,
    since: Instant,
    used: Instant,
}

/// The open sessions.
#[derive(Debug, Default)]
pub(crate) struct Sessions {
    open: HashMap<TokenHash, Open>,
}

impl Sessions {
    /// Opens a session; `None` when the system has no randomness to give.
    pub(crate) fn open(&mut self, username: &str, now: Instant) -> Option<Secret> {
        let mut token = [0_u8; 32];
        rand::rngs::OsRng.try_fill_bytes(&mut token).ok()?;
        let token: String = token.iter().map(|byte| format!("{byte:02x}")).collect();
        self.open.retain(|_, session| session.is_alive(now));
        if self.open.len() >= MOST
            && let Some(idlest) =
                self.open.iter().min_by_key(|(_, session)| session.used).map(|(hash, _)| *hash)
        {
            self.open.remove(&idlest);
        }
        self.open.insert(hash(&token), Open { username: username.to_owned(), since: now, used: now });
        Some(Secret::new(token))
    }

    /// Whose session the token is, if it is open; using it keeps it open.
    pub(crate) fn username(&mut self, token: &str, now: Instant) -> Option<String> {
        // Looked up by hash: the time it takes tells nothing about the tokens there are.
        let hash = hash(token);
        let session = self.open.get_mut(&hash)?;
        if !session.is_alive(now) {
            self.open.remove(&hash);
            return None;
        }
        session.used = now;
        Some(session.username.clone())
    }

    /// Ends a session.
    pub(crate) fn close(&mut self, token: &str) {
        self.open.remove(&hash(token));
    }

    /// Ends all sessions of an account but the one with this token.
    pub(crate) fn close_others(&mut self, username: &str, token: &str) {
        let kept = hash(token);
        self.open.retain(|hash, session| *hash == kept || session.username != username);
    }
}

impl Open {
    fn is_alive(&self, now: Instant) -> bool {
        now.duration_since(self.used) < IDLE && now.duration_since(self.since) < LONGEST
    }
}

fn hash(token: &str) -> TokenHash {
    Sha256::digest(token.as_bytes()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_ends_when_it_is_idle_or_old() {
        let mut sessions = Sessions::default();
        let start = Instant::now();
        let token = sessions.open("admin", start).unwrap();
        assert_eq!(sessions.username(token.expose(), start + IDLE / 2).as_deref(), Some("admin"));
        assert_eq!(sessions.username(token.expose(), start + IDLE / 2 + IDLE), None);
        let token = sessions.open("admin", start).unwrap();
        let mut now = start;
        while now < start + LONGEST - IDLE / 2 {
            now += IDLE / 2;
            sessions.username(token.expose(), now);
        }
        assert_eq!(sessions.username(token.expose(), start + LONGEST), None);
    }

    #[test]
    fn a_changed_password_ends_the_other_sessions_only() {
        let mut sessions = Sessions::default();
        let now = Instant::now();
        let (kept, other) = (sessions.open("admin", now).unwrap(), sessions.open("admin", now).unwrap());
        sessions.close_others("admin", kept.expose());
        assert!(sessions.username(kept.expose(), now).is_some());
        assert!(sessions.username(other.expose(), now).is_none());
    }

    #[test]
    fn there_are_never_more_than_the_most() {
        let mut sessions = Sessions::default();
        let now = Instant::now();
        for _ in 0..MOST + 10 {
            sessions.open("admin", now).unwrap();
        }
        assert_eq!(sessions.open.len(), MOST);
    }
}
