//! Join tokens: 80 random bits that a person carries from a member to a new host.
//!
//! Neither end sends the token. Each proves to the other that it knows it, over what only the two ends of their
//! connection know, so whoever sits between them learns nothing and can be neither. The cluster keeps what it needs
//! to check such a proof; from that nobody can make one.

use hmac::{Hmac, Mac};
use rand::TryRngCore;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::transport::Binding;

/// Crockford's: no I, L, O, U.
const LETTERS: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
const PREFIX: &str = "QUANTIX";
const GROUPS: usize = 4;
const GROUP: usize = 4;

type Key = [u8; 32];

/// A token as the person sees it.
pub(crate) struct JoinToken(String);

/// What the cluster keeps of a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Kept {
    /// By this it is found; it tells nothing about the rest.
    pub(crate) id: [u8; 8],
    pub(crate) stored_key: Key,
    pub(crate) server_key: Key,
}

impl JoinToken {
    /// A new one; `None` when the system has no randomness to give.
    pub(crate) fn new() -> Option<Self> {
        let mut bytes = [0; GROUPS * GROUP];
        rand::rngs::OsRng.try_fill_bytes(&mut bytes).ok()?;
        Some(Self(bytes.iter().map(|byte| char::from(LETTERS[usize::from(byte % 32)])).collect()))
    }

    /// Reads what a person typed: in any case, with or without the prefix and the dashes, and with the letters that
    /// are easily taken for others.
    pub(super) fn read(typed: &str) -> Option<Self> {
        let typed = typed.trim().to_ascii_uppercase();
        let typed = typed.strip_prefix(PREFIX).unwrap_or(&typed);
        let letters: String = typed.chars().filter(|letter| !matches!(letter, '-' | ' ')).collect();
        let letters = letters.replace('O', "0").replace(['I', 'L'], "1");
        let is_token =
            letters.len() == GROUPS * GROUP && letters.bytes().all(|letter| LETTERS.contains(&letter));
        is_token.then_some(Self(letters))
    }

    /// As it is shown.
    pub(crate) fn shown(&self) -> String {
        let groups = self.0.as_bytes().chunks(GROUP).map(String::from_utf8_lossy);
        std::iter::once(PREFIX.into()).chain(groups).collect::<Vec<_>>().join("-")
    }

    pub(crate) fn kept(&self) -> Kept {
        let mut id = [0; 8];
        id.copy_from_slice(&self.key(b"id")[..8]);
        Kept { id, stored_key: Sha256::digest(self.key(b"client")).into(), server_key: self.key(b"server") }
    }

    fn key(&self, purpose: &[u8]) -> Key {
        mac(self.0.as_bytes(), &[b"quantix join ", purpose])
    }

    /// Proves to the cluster that this host knows the token.
    pub(super) fn proof(&self, binding: &Binding, message: &[u8]) -> Key {
        let mut proof = self.key(b"client");
        let mask = mac(&self.kept().stored_key, &[binding, message]);
        proof.iter_mut().zip(mask).for_each(|(byte, mask)| *byte ^= mask);
        proof
    }

    /// Whether the answer came from somebody who has what the cluster keeps of the token.
    pub(super) fn is_answer(
        &self,
        binding: &Binding,
        message: &[u8],
        answer: &[u8],
        signature: &[u8],
    ) -> bool {
        self.kept().answer(binding, message, answer).ct_eq(signature).into()
    }
}

impl Kept {
    /// Whether whoever sent this knows the token.
    pub(super) fn is_proof(&self, binding: &Binding, message: &[u8], proof: &[u8]) -> bool {
        let Ok(mut key) = Key::try_from(proof) else { return false };
        let mask = mac(&self.stored_key, &[binding, message]);
        key.iter_mut().zip(mask).for_each(|(byte, mask)| *byte ^= mask);
        Sha256::digest(key).ct_eq(&self.stored_key).into()
    }

    /// Proves to the new host that the answer is the cluster's.
    pub(super) fn answer(&self, binding: &Binding, message: &[u8], answer: &[u8]) -> Key {
        mac(&self.server_key, &[binding, &Sha256::digest(message), answer])
    }
}

fn mac(key: &[u8], parts: &[&[u8]]) -> Key {
    // HMAC takes keys of every length.
    let mut mac = <Hmac<Sha256> as Mac>::new_from_slice(key).unwrap_or_else(|_| unreachable!());
    parts.iter().for_each(|part| mac.update(part));
    mac.finalize().into_bytes().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_read_as_people_type_it() {
        let token = JoinToken::new().unwrap();
        let shown = token.shown();
        assert_eq!(shown.len(), 7 + 4 * 5);
        for typed in [shown.clone(), shown.to_lowercase(), format!(" {} ", shown.replace('-', " "))] {
            assert_eq!(JoinToken::read(&typed).unwrap().shown(), shown);
        }
        assert_eq!(
            JoinToken::read("quantix-oil1-0000-0000-0000").unwrap().shown(),
            "QUANTIX-0111-0000-0000-0000"
        );
        assert!(JoinToken::read("QUANTIX-0000-0000-0000").is_none());
        assert!(JoinToken::read("QUANTIX-0000-0000-0000-000Ü").is_none());
    }

    #[test]
    fn only_who_knows_the_token_proves_it_and_only_on_this_connection() {
        let (token, other) = (JoinToken::new().unwrap(), JoinToken::new().unwrap());
        let (here, elsewhere) = ([1; 32], [2; 32]);
        let proof = token.proof(&here, b"a host");
        let kept = token.kept();
        assert!(kept.is_proof(&here, b"a host", &proof));
        assert!(!kept.is_proof(&elsewhere, b"a host", &proof));
        assert!(!kept.is_proof(&here, b"another host", &proof));
        assert!(!kept.is_proof(&here, b"a host", &other.proof(&here, b"a host")));
        assert!(!kept.is_proof(&here, b"a host", &proof[1..]));
        let answer = kept.answer(&here, b"a host", b"welcome");
        assert!(token.is_answer(&here, b"a host", b"welcome", &answer));
        assert!(!token.is_answer(&elsewhere, b"a host", b"welcome", &answer));
        assert!(!token.is_answer(&here, b"a host", b"another", &answer));
        assert!(!other.is_answer(&here, b"a host", b"welcome", &answer));
    }
}
