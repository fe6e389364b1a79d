//! The check of an ID token: signed with a key that the provider publishes, by a method that proves something, for this
//! cluster, for this one sign-in, and now.

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, EcdsaVerificationAlgorithm, RSA_PKCS1_2048_8192_SHA256,
    RSA_PKCS1_2048_8192_SHA384, RSA_PKCS1_2048_8192_SHA512, RSA_PSS_2048_8192_SHA256,
    RSA_PSS_2048_8192_SHA384, RSA_PSS_2048_8192_SHA512, RsaParameters, RsaPublicKeyComponents,
    UnparsedPublicKey,
};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use serde::Deserialize;
use serde_json::{Map, Value};
use subtle::ConstantTimeEq;

#[cfg(feature = "fuzz")]
pub(crate) mod fuzz;

use super::{
    discovery::{Found, Key, Known},
    kept::Settings,
};

/// So far, in seconds, the clocks may be apart.
const LEEWAY: u64 = 60;
const LONGEST: usize = 64 * 1024;

#[derive(Debug, Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
    /// Extensions that must be understood; none is.
    crit: Option<Value>,
}

/// How a token is signed. What is not here, `none` and shared secrets above all, proves nothing.
#[derive(Clone, Copy, Debug)]
enum Method {
    Rsa(&'static RsaParameters),
    Curve(&'static EcdsaVerificationAlgorithm, &'static str, usize),
}

impl Method {
    fn named(name: &str) -> Option<Self> {
        Some(match name {
            "RS256" => Self::Rsa(&RSA_PKCS1_2048_8192_SHA256),
            "RS384" => Self::Rsa(&RSA_PKCS1_2048_8192_SHA384),
            "RS512" => Self::Rsa(&RSA_PKCS1_2048_8192_SHA512),
            "PS256" => Self::Rsa(&RSA_PSS_2048_8192_SHA256),
            "PS384" => Self::Rsa(&RSA_PSS_2048_8192_SHA384),
            "PS512" => Self::Rsa(&RSA_PSS_2048_8192_SHA512),
            "ES256" => Self::Curve(&ECDSA_P256_SHA256_FIXED, "P-256", 32),
            "ES384" => Self::Curve(&ECDSA_P384_SHA384_FIXED, "P-384", 48),
            _ => return None,
        })
    }

    fn fits(self, key: &Key) -> bool {
        match self {
            Self::Rsa(_) => key.kty == "RSA",
            Self::Curve(_, curve, _) => key.kty == "EC" && key.crv.as_deref() == Some(curve),
        }
    }

    fn proves(self, key: &Key, message: &[u8], signature: &[u8]) -> bool {
        let number = |text: &str| BASE64_URL_SAFE_NO_PAD.decode(text).ok();
        match self {
            Self::Rsa(parameters) => {
                let (Some(n), Some(e)) = (number(&key.n), number(&key.e)) else { return false };
                RsaPublicKeyComponents { n, e }.verify(parameters, message, signature).is_ok()
            }
            Self::Curve(algorithm, _, length) => {
                let (Some(x), Some(y)) = (number(&key.x), number(&key.y)) else { return false };
                if x.len() != length || y.len() != length {
                    return false;
                }
                let point = [&[4_u8][..], &x, &y].concat();
                UnparsedPublicKey::new(algorithm, point).verify(message, signature).is_ok()
            }
        }
    }
}

/// Whether a key can sign what is taken here.
pub(super) fn is_usable(key: &Key) -> bool {
    let may_sign = key.usage.as_deref().is_none_or(|usage| usage == "sig");
    let names = ["RS256", "ES256", "ES384"];
    may_sign && names.iter().filter_map(|name| Method::named(name)).any(|method| method.fits(key))
}

/// The claims of a token that proves them; the error is a sentence.
pub(super) async fn check(
    settings: &Settings,
    known: &Known,
    found: &Found,
    token: &str,
    nonce: &str,
    now: u64,
) -> Result<Map<String, Value>, String> {
    let (header, signed) = Signed::read(token)?;
    let wanted = |key: &Key| signed.may_be_of(&header, key);
    let keys = known.keys(settings, found, wanted).await?;
    if !keys.iter().filter(|key| wanted(key)).any(|key| signed.is_by(key)) {
        return Err("Its ID token is not signed with a key of the provider's.".to_owned());
    }
    let claims = signed.claims()?;
    must_be_for(&claims, settings, nonce, now)?;
    Ok(claims)
}

/// A token in its parts.
struct Signed<'a> {
    method: Method,
    message: &'a str,
    claims: &'a str,
    signature: Vec<u8>,
}

impl<'a> Signed<'a> {
    fn read(token: &'a str) -> Result<(Header, Self), String> {
        let unreadable = || "Its ID token cannot be read.".to_owned();
        if token.len() > LONGEST {
            return Err(unreadable());
        }
        let (message, signature) = token.rsplit_once('.').ok_or_else(unreadable)?;
        let (header, claims) = message.split_once('.').ok_or_else(unreadable)?;
        let part = |text: &str| BASE64_URL_SAFE_NO_PAD.decode(text).map_err(|_| unreadable());
        let header: Header = serde_json::from_slice(&part(header)?).map_err(|_| unreadable())?;
        let method = Method::named(&header.alg).filter(|_| header.crit.is_none());
        let method = method.ok_or("Its ID token is signed in a way that is not taken here.")?;
        let signature = part(signature)?;
        Ok((header, Self { method, message, claims, signature }))
    }

    fn may_be_of(&self, header: &Header, key: &Key) -> bool {
        self.method.fits(key)
            && key.usage.as_deref().is_none_or(|usage| usage == "sig")
            && key.alg.as_ref().is_none_or(|alg| *alg == header.alg)
            && (header.kid.is_none() || header.kid == key.kid)
    }

    fn is_by(&self, key: &Key) -> bool {
        self.method.proves(key, self.message.as_bytes(), &self.signature)
    }

    fn claims(&self) -> Result<Map<String, Value>, String> {
        let claims = BASE64_URL_SAFE_NO_PAD.decode(self.claims).ok();
        claims
            .and_then(|claims| serde_json::from_slice(&claims).ok())
            .ok_or_else(|| "Its ID token cannot be read.".to_owned())
    }
}

fn must_be_for(
    claims: &Map<String, Value>,
    settings: &Settings,
    nonce: &str,
    now: u64,
) -> Result<(), String> {
    let text = |name: &str| claims.get(name).and_then(Value::as_str);
    let time = |name: &str| claims.get(name).and_then(Value::as_f64);
    let us = settings.shown.client_id.as_str();
    let refuse = |is_right: bool, why: &str| if is_right { Ok(()) } else { Err(why.to_owned()) };
    refuse(text("iss") == Some(&settings.shown.issuer), "Its ID token is another provider's.")?;
    let (is_ours, others) = match claims.get("aud") {
        Some(Value::String(audience)) => (audience == us, false),
        Some(Value::Array(all)) => (all.iter().any(|one| one == us), all.len() > 1),
        _ => (false, false),
    };
    refuse(is_ours, "Its ID token is for somebody else.")?;
    let party = text("azp");
    refuse(party.map_or(!others, |party| party == us), "Its ID token was made for somebody else.")?;
    let is_nonce = text("nonce").is_some_and(|given| bool::from(given.as_bytes().ct_eq(nonce.as_bytes())));
    refuse(is_nonce, "Its ID token belongs to another sign-in.")?;
    #[expect(clippy::cast_precision_loss, reason = "times are far below what a float holds exactly")]
    let (now, leeway) = (now as f64, LEEWAY as f64);
    let clocks = "Its ID token is not valid now. Are the clocks of the provider and of the cluster right?";
    refuse(time("exp").is_some_and(|end| now < end + leeway), clocks)?;
    refuse(time("iat").is_some_and(|made| made <= now + leeway), clocks)?;
    refuse(time("nbf").is_none_or(|begin| begin <= now + leeway), clocks)?;
    let subject = text("sub").unwrap_or_default();
    refuse((1..=255).contains(&subject.len()), "Its ID token does not say who you are.")
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::{
        rand::SystemRandom,
        signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair},
    };
    use serde_json::json;

    use super::*;

    struct Signer(EcdsaKeyPair);

    impl Signer {
        fn new() -> Self {
            let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
            Self(EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &key.serialize_der()).unwrap())
        }

        fn key(&self, kid: &str) -> Key {
            let point = self.0.public_key().as_ref();
            let number = |bytes: &[u8]| BASE64_URL_SAFE_NO_PAD.encode(bytes);
            serde_json::from_value(json!({"kty": "EC", "crv": "P-256", "kid": kid, "use": "sig",
                "x": number(&point[1..33]), "y": number(&point[33..])}))
            .unwrap()
        }

        fn sign(&self, header: &Value, claims: &Value) -> String {
            let part = |value: &Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
            let message = format!("{}.{}", part(header), part(claims));
            let signature = self.0.sign(&SystemRandom::new(), message.as_bytes()).unwrap();
            format!("{message}.{}", BASE64_URL_SAFE_NO_PAD.encode(signature))
        }
    }

    fn taken(token: &str, keys: &[Key]) -> bool {
        Signed::read(token).is_ok_and(|(header, signed)| {
            keys.iter().any(|key| signed.may_be_of(&header, key) && signed.is_by(key))
        })
    }

    #[test]
    fn only_a_key_of_the_providers_signs_and_only_in_ways_that_prove_it() {
        let (ours, other) = (Signer::new(), Signer::new());
        let keys = [ours.key("one")];
        let header = json!({"alg": "ES256", "kid": "one"});
        let token = ours.sign(&header, &json!({"sub": "ada"}));
        assert!(taken(&token, &keys));
        assert!(!taken(&other.sign(&header, &json!({"sub": "ada"})), &keys));
        assert!(!taken(&token, &[ours.key("two")]));
        for (alg, crit) in
            [("none", None), ("HS256", None), ("ES384", None), ("RS256", None), ("ES256", Some("x"))]
        {
            let mut header = json!({"alg": alg, "kid": "one"});
            if let Some(crit) = crit {
                header["crit"] = json!([crit]);
            }
            assert!(!taken(&ours.sign(&header, &json!({"sub": "ada"})), &keys), "{alg}");
        }
        let (message, signature) = token.rsplit_once('.').unwrap();
        let (header, _) = message.split_once('.').unwrap();
        let other = BASE64_URL_SAFE_NO_PAD.encode(json!({"sub": "eve"}).to_string());
        for wrong in
            [&format!("{header}.{other}.{signature}"), &format!("{message}."), message, "", "..", "a.b.c"]
        {
            assert!(!taken(wrong, &keys), "{wrong}");
        }
        let mut encrypts = ours.key("one");
        encrypts.usage = Some("enc".into());
        assert!(!taken(&token, &[encrypts]));
    }

    #[test]
    fn a_token_is_for_one_sign_in_here_and_now() {
        let (settings, now) = (Settings::for_test(), 1_800_000_000_u64);
        let good = json!({"iss": settings.shown.issuer, "aud": settings.shown.client_id, "sub": "1", "nonce": "n",
            "iat": now - 5, "exp": now + 300});
        let check = |change: &[(&str, Value)]| {
            let mut claims = good.as_object().unwrap().clone();
            for (name, value) in change {
                claims.insert((*name).to_owned(), value.clone());
            }
            claims.retain(|_, value| !value.is_null());
            must_be_for(&claims, &settings, "n", now).is_ok()
        };
        let us = settings.shown.client_id.as_str();
        assert!(check(&[]));
        assert!(check(&[("aud", json!([us]))]) && check(&[("aud", json!([us, "x"])), ("azp", json!(us))]));
        assert!(check(&[("exp", json!(now - LEEWAY + 1))]) && check(&[("iat", json!(now + LEEWAY))]));
        for wrong in [
            ("iss", json!("https://evil.example")),
            ("iss", Value::Null),
            ("aud", json!("x")),
            ("aud", json!([us, "x"])),
            ("aud", Value::Null),
            ("azp", json!("x")),
            ("nonce", json!("m")),
            ("nonce", Value::Null),
            ("exp", json!(now - LEEWAY)),
            ("exp", json!("soon")),
            ("exp", Value::Null),
            ("iat", json!(now + LEEWAY + 1)),
            ("iat", Value::Null),
            ("nbf", json!(now + LEEWAY + 1)),
            ("sub", json!("")),
            ("sub", json!("a".repeat(256))),
            ("sub", Value::Null),
        ] {
            assert!(!check(std::slice::from_ref(&wrong)), "{wrong:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn whatever_a_token_is_it_is_read_without_harm(token in ".{0,200}", parts in "[A-Za-z0-9_-]{0,80}\\.[A-Za-z0-9_-]{0,80}\\.[A-Za-z0-9_-]{0,80}") {
            proptest::prop_assert!(!taken(&token, &[]) && !taken(&parts, &[]));
        }
    }
}
