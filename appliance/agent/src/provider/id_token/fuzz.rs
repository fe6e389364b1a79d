//! What the fuzz target reaches: what an identity provider, or somebody in its place, answers.

use serde_json::json;

use super::{BASE64_URL_SAFE_NO_PAD, Engine, Found, Settings, Signed, is_usable, must_be_for};
use crate::provider::discovery;

/// An ID token, keys, or what a provider says of itself; the first byte says which.
pub fn answer(bytes: &[u8]) {
    let Some((kind, bytes)) = bytes.split_first() else { return };
    match kind % 3 {
        0 => token(bytes),
        1 => keys(bytes),
        _ => drop(serde_json::from_slice::<Found>(bytes)),
    }
}

/// Nobody has the key that belongs to this one: whatever is taken was forged.
fn token(bytes: &[u8]) {
    let Ok(token) = std::str::from_utf8(bytes) else { return };
    let Ok((header, signed)) = Signed::read(token) else { return };
    let lost = json!({"keys": [{"kty": "EC", "crv": "P-256", "use": "sig",
        "x": "WsT0ndtrm_KpUuEJ7tawArmDS16xlI8uIEzendsYFeY", "y": "A0vYIaS-b9iVMm-cZZrFppqrq__jmaUDgkaPliFeBp4"}]});
    for key in discovery::keys(lost.to_string().as_bytes()).unwrap_or_default() {
        assert!(!signed.may_be_of(&header, &key) || !signed.is_by(&key), "a forged token is taken");
    }
    if let Ok(claims) = signed.claims()
        && must_be_for(&claims, &Settings::for_test(), "nonce", 1_800_000_000).is_ok()
    {
        assert_eq!(claims["nonce"], "nonce");
    }
}

/// Keys of any kind, and a signature that is by none of them.
fn keys(bytes: &[u8]) {
    let header = "eyJhbGciOiJFUzI1NiJ9";
    let token = format!("{header}.e30.{}", BASE64_URL_SAFE_NO_PAD.encode([1; 64]));
    for key in discovery::keys(bytes).unwrap_or_default() {
        let usable = is_usable(&key);
        if let Ok((header, signed)) = Signed::read(&token)
            && signed.may_be_of(&header, &key)
        {
            assert!(usable && !signed.is_by(&key), "an empty signature is taken");
        }
    }
}
