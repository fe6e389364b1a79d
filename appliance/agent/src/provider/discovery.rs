//! What a provider says about itself: where its pages are, and with which keys it signs. Both are kept for a while; a key
//! that is not among those that are kept is asked for anew, but not at every token that names one.

use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use serde::Deserialize;

use super::kept::Settings;
use crate::{lock, outside, text};

const KEPT: Duration = Duration::from_secs(10 * 60);
/// No sooner than this the keys are asked for again.
const AGAIN: Duration = Duration::from_secs(5);
const MOST_KEYS: usize = 100;

/// Where a provider does what.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Found {
    pub(super) issuer: String,
    pub(super) authorization_endpoint: String,
    pub(super) token_endpoint: String,
    pub(super) jwks_uri: String,
    pub(super) userinfo_endpoint: Option<String>,
    #[serde(default)]
    token_endpoint_auth_methods_supported: Vec<String>,
}

/// A key of the provider's, as it is published.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Key {
    pub(super) kty: String,
    pub(super) kid: Option<String>,
    #[serde(rename = "use")]
    pub(super) usage: Option<String>,
    pub(super) alg: Option<String>,
    pub(super) crv: Option<String>,
    #[serde(default)]
    pub(super) n: String,
    #[serde(default)]
    pub(super) e: String,
    #[serde(default)]
    pub(super) x: String,
    #[serde(default)]
    pub(super) y: String,
}

#[derive(Debug, Deserialize)]
struct Keys {
    keys: Vec<serde_json::Value>,
}

#[derive(Debug)]
struct Seen {
    /// Of the settings: others are about another provider.
    version: u64,
    at: Instant,
    found: Found,
    keys: Arc<Vec<Key>>,
    keys_at: Instant,
}

/// What is known about the provider.
#[derive(Debug, Default)]
pub(crate) struct Known(Mutex<Option<Seen>>);

impl Found {
    /// Unless a provider says otherwise, it takes the client secret there.
    pub(super) fn takes_secret_in_header(&self) -> bool {
        let takes = &self.token_endpoint_auth_methods_supported;
        takes.is_empty() || takes.iter().any(|method| method == "client_secret_basic")
    }
}

impl Known {
    /// What the provider says about itself.
    pub(super) async fn discovered(&self, settings: &Settings) -> Result<Found, String> {
        if let Some(seen) = &*lock(&self.0)
            && seen.version == settings.shown.version
            && seen.at.elapsed() < KEPT
        {
            return Ok(seen.found.clone());
        }
        let (found, keys) = look(settings).await?;
        let (version, at) = (settings.shown.version, Instant::now());
        let seen = Seen { version, at, found: found.clone(), keys: Arc::new(keys), keys_at: at };
        *lock(&self.0) = Some(seen);
        Ok(found)
    }

    /// The keys among which one is `wanted`.
    pub(super) async fn keys(
        &self,
        settings: &Settings,
        found: &Found,
        wanted: impl Fn(&Key) -> bool,
    ) -> Result<Arc<Vec<Key>>, String> {
        let kept = lock(&self.0)
            .as_ref()
            .filter(|seen| seen.version == settings.shown.version)
            .map(|seen| (Arc::clone(&seen.keys), seen.keys_at));
        if let Some((keys, at)) = kept
            && (keys.iter().any(&wanted) && at.elapsed() < KEPT || at.elapsed() < AGAIN)
        {
            return Ok(keys);
        }
        let keys = Arc::new(fetch_keys(settings, found).await?);
        if let Some(seen) = &mut *lock(&self.0)
            && seen.version == settings.shown.version
        {
            (seen.keys, seen.keys_at) = (Arc::clone(&keys), Instant::now());
        }
        Ok(keys)
    }
}

/// Asks the provider about itself.
async fn look(settings: &Settings) -> Result<(Found, Vec<Key>), String> {
    let issuer = &settings.shown.issuer;
    let address = format!("{}/.well-known/openid-configuration", issuer.trim_end_matches('/'));
    let found: Found = serde_json::from_slice(&fetch(settings, &address).await?)
        .map_err(|_| format!("{address} does not describe an identity provider."))?;
    if found.issuer != *issuer {
        return Err(format!(
            "The provider at {issuer} calls itself {}.",
            text::beginning(&found.issuer, 200)
        ));
    }
    let all = [&found.authorization_endpoint, &found.token_endpoint, &found.jwks_uri];
    for endpoint in all.into_iter().chain(&found.userinfo_endpoint) {
        if outside::https(endpoint).is_none() {
            return Err(format!(
                "The provider names {}, which is no https address.",
                text::beginning(endpoint, 200)
            ));
        }
    }
    let keys = fetch_keys(settings, &found).await?;
    Ok((found, keys))
}

async fn fetch_keys(settings: &Settings, found: &Found) -> Result<Vec<Key>, String> {
    let answer = fetch(settings, &found.jwks_uri).await?;
    keys(&answer).ok_or_else(|| format!("{} holds no keys.", found.jwks_uri))
}

/// The keys in an answer. Those of kinds that are not known here are left out.
pub(super) fn keys(answer: &[u8]) -> Option<Vec<Key>> {
    let all: Keys = serde_json::from_slice(answer).ok()?;
    let known = all.keys.into_iter().take(MOST_KEYS);
    Some(known.filter_map(|key| serde_json::from_value(key).ok()).collect())
}

async fn fetch(settings: &Settings, address: &str) -> Result<axum::body::Bytes, String> {
    let request = axum::http::Request::get("/");
    let answer = outside::ask(address, settings.trust().await?, request, String::new()).await?;
    if !answer.status().is_success() {
        return Err(format!("{address} answered {}.", answer.status().as_u16()));
    }
    Ok(answer.into_body())
}

/// What a test of the settings found; the error is why they do not work.
pub(crate) async fn test(settings: &Settings) -> Result<String, String> {
    let (found, keys) = look(settings).await?;
    let signing = keys.iter().filter(|key| super::id_token::is_usable(key)).count();
    if signing == 0 {
        return Err(
            "The provider publishes no key that signs with RS256, PS256 or ES256 or better.".to_owned()
        );
    }
    let keys = if signing == 1 { "one key".to_owned() } else { format!("{signing} keys") };
    Ok(format!(
        "{} answers and signs with {keys}. People are sent to {}.",
        found.issuer, found.authorization_endpoint
    ))
}
