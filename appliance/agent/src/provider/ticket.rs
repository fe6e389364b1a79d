//! What a browser keeps while somebody is at the identity provider, sealed so that only the cluster can read it.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use rand::TryRngCore;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::kept::Settings;
use crate::sessions::{new_token, now};

/// So long somebody may be at the provider, in seconds.
pub(super) const GOOD_FOR: u64 = 10 * 60;
const LONGEST: usize = 4000;
const WHAT: &[u8] = b"quantix sign-in with a provider";

/// What the way back is checked against.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Ticket {
    pub(super) state: String,
    pub(super) nonce: String,
    pub(super) verifier: String,
    pub(super) address: String,
    issuer: String,
    client_id: String,
    begun_at: u64,
}

impl Ticket {
    /// A new one; `None` when the system has no randomness to give.
    pub(super) fn new(settings: &Settings, address: &str) -> Option<Self> {
        let random = || new_token().map(|token| token.expose().to_owned());
        Some(Self {
            state: random()?,
            nonce: random()?,
            verifier: random()?,
            address: address.to_owned(),
            issuer: settings.shown.issuer.clone(),
            client_id: settings.shown.client_id.clone(),
            begun_at: now(),
        })
    }

    /// What the provider is shown of the verifier at first.
    pub(super) fn challenge(&self) -> String {
        BASE64_URL_SAFE_NO_PAD.encode(Sha256::digest(self.verifier.as_bytes()))
    }

    /// By what it is known that it was used.
    pub(crate) fn hash(&self) -> [u8; 32] {
        Sha256::digest(self.state.as_bytes()).into()
    }

    pub(super) fn seal(&self, key: &[u8]) -> Option<String> {
        let mut nonce = [0; NONCE_LEN];
        rand::rngs::OsRng.try_fill_bytes(&mut nonce).ok()?;
        let mut sealed = serde_json::to_vec(self).ok()?;
        let key = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, key).ok()?);
        key.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(WHAT), &mut sealed)
            .ok()?;
        Some(BASE64_URL_SAFE_NO_PAD.encode([&nonce[..], &sealed].concat()))
    }

    pub(super) fn open(text: &str, key: &[u8]) -> Option<Self> {
        let mut sealed = BASE64_URL_SAFE_NO_PAD.decode(text).ok().filter(|_| text.len() <= LONGEST)?;
        let (nonce, sealed) = sealed.split_at_mut_checked(NONCE_LEN)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let key = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, key).ok()?);
        let opened = key.open_in_place(nonce, Aad::from(WHAT), sealed).ok()?;
        serde_json::from_slice(opened).ok()
    }

    /// Whether it was made for this way back, and not too long ago. A clock that jumps ends it.
    pub(super) fn is_of(&self, settings: &Settings, address: &str, state: &str, now: u64) -> bool {
        let is_state = bool::from(self.state.as_bytes().ct_eq(state.as_bytes()));
        is_state
            && self.address == address
            && self.issuer == settings.shown.issuer
            && self.client_id == settings.shown.client_id
            && now.abs_diff(self.begun_at) < GOOD_FOR
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ticket_is_good_for_its_own_way_back_and_for_ten_minutes() {
        let (settings, here) = (Settings::for_test(), "https://here.example");
        let ticket = Ticket::new(&settings, here).unwrap();
        let sealed = ticket.seal(&settings.key).unwrap();
        let opened = Ticket::open(&sealed, &settings.key).unwrap();
        let (state, begun) = (ticket.state.as_str(), ticket.begun_at);
        assert!(opened.is_of(&settings, here, state, begun + GOOD_FOR - 1));
        assert!(!opened.is_of(&settings, here, state, begun + GOOD_FOR));
        assert!(!opened.is_of(&settings, here, state, begun - GOOD_FOR));
        assert!(!opened.is_of(&settings, "https://there.example", state, begun));
        assert!(!opened.is_of(&settings, here, &Ticket::new(&settings, here).unwrap().state, begun));
        let mut others = settings.clone();
        others.shown.issuer = "https://other.example".into();
        assert!(!opened.is_of(&others, here, state, begun));
    }

    #[test]
    fn nobody_else_can_make_or_change_one() {
        let settings = Settings::for_test();
        let sealed = Ticket::new(&settings, "https://here.example").unwrap().seal(&settings.key).unwrap();
        assert!(Ticket::open(&sealed, &[8; 32]).is_none());
        for at in [0, 20, sealed.len() - 2] {
            let mut turned = sealed.clone().into_bytes();
            turned[at] = if turned[at] == b'A' { b'B' } else { b'A' };
            assert!(Ticket::open(std::str::from_utf8(&turned).unwrap(), &settings.key).is_none(), "{at}");
        }
        for wrong in ["", "x", "AAAA", &"A".repeat(5000)] {
            assert!(Ticket::open(wrong, &settings.key).is_none());
        }
    }
}
