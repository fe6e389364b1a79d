//! The identity provider as it is kept, as SQL.

use std::sync::Arc;

use base64::{Engine, prelude::BASE64_STANDARD};
use quantix_api::{Problem, ProblemCode, Provider, Secret, SetProvider, to_query};
use quantix_host::blocking;
use rusqlite::{Connection, OptionalExtension, params};
use rustls::ClientConfig;

use super::ticket::GOOD_FOR;
use crate::{cluster::Refused, outside, text, version::Version};

/// So many ways in can be used within ten minutes.
const MOST_USED: i64 = 10_000;

/// What is set, with what nobody is shown.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) shown: Provider,
    pub(super) secret: Secret,
    /// Seals the tickets.
    pub(super) key: Vec<u8>,
}

impl Settings {
    /// Whom the provider's certificate must come from.
    pub(super) async fn trust(&self) -> Result<Arc<ClientConfig>, String> {
        if !self.shown.certificate.is_empty() {
            return outside::trust(&self.shown.certificate);
        }
        blocking(outside::trust_everybodys).await.unwrap_or_else(|| Err("Reading broke off.".to_owned()))
    }

    /// Client id and secret as a header, each encoded as in a form (RFC 6749, 2.3.1).
    pub(super) fn basic(&self) -> String {
        let encoded = |text: &str| to_query(&[("", text)]).trim_start_matches('=').to_owned();
        let both = format!("{}:{}", encoded(&self.shown.client_id), encoded(self.secret.expose()));
        format!("Basic {}", BASE64_STANDARD.encode(both))
    }

    #[cfg(any(test, feature = "fuzz"))]
    pub(super) fn for_test() -> Self {
        let shown = Provider {
            on: true,
            title: "Example".into(),
            issuer: "https://id.example".into(),
            client_id: "quantix".into(),
            addresses: vec!["https://here.example".into()],
            name_claim: "preferred_username".into(),
            groups_claim: "groups".into(),
            version: 1,
            ..Provider::default()
        };
        Self { shown, secret: Secret::new("s:%"), key: vec![7; 32] }
    }
}

/// What is set, if anything is.
pub(crate) fn read(connection: &Connection) -> rusqlite::Result<Option<Settings>> {
    let list = |text: String| serde_json::from_str(&text).unwrap_or_default();
    connection
        .prepare_cached(
            "SELECT is_on, title, issuer, client_id, client_secret, scopes, name_claim, groups_claim, certificate,
                 addresses, ticket_key, version FROM provider",
        )?
        .query_row([], |row| {
            let secret: String = row.get(4)?;
            let shown = Provider {
                on: row.get(0)?,
                title: row.get(1)?,
                issuer: row.get(2)?,
                client_id: row.get(3)?,
                has_secret: !secret.is_empty(),
                scopes: list(row.get(5)?),
                name_claim: row.get(6)?,
                groups_claim: row.get(7)?,
                certificate: row.get(8)?,
                addresses: list(row.get(9)?),
                version: row.get(11)?,
            };
            Ok(Settings { shown, secret: Secret::new(secret), key: row.get(10)? })
        })
        .optional()
}

/// What people may see of it.
pub(crate) fn show(connection: &Connection) -> rusqlite::Result<Provider> {
    Ok(read(connection)?.map(|settings| settings.shown).unwrap_or_default())
}

/// The settings of a provider that is turned on.
pub(crate) fn in_use(connection: &Connection) -> Result<Settings, Refused> {
    let settings = read(connection)?.filter(|settings| settings.shown.on);
    let sentence = "Nobody signs in with an identity provider here.";
    settings.ok_or_else(|| Problem::new(ProblemCode::Forbidden, sentence).into())
}

/// Sets it. With `ticket_key` what browsers keep is sealed from now on, unless there is one already.
pub(crate) fn set(
    connection: &Connection,
    new: &SetProvider,
    ticket_key: &[u8; 32],
    seen: Version,
) -> Result<Provider, Refused> {
    let before = read(connection)?;
    seen.must_be(before.as_ref().map_or(0, |before| before.shown.version))?;
    check(new)?;
    let secret = match (new.client_secret.expose(), &before) {
        // Another provider must not be told the secret of the one before.
        ("", Some(before)) if before.shown.issuer == new.issuer => before.secret.expose(),
        ("", _) => {
            return Err(
                wrong("client_secret", "Give the secret that the provider made for this cluster.").into()
            );
        }
        (secret, _) => secret,
    };
    let list = |list: &[String]| serde_json::to_string(list).unwrap_or_default();
    connection.execute(
        "INSERT INTO provider (one, is_on, title, issuer, client_id, client_secret, scopes, name_claim, groups_claim,
             certificate, addresses, ticket_key) VALUES (1, ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)
         ON CONFLICT DO UPDATE SET is_on = excluded.is_on, title = excluded.title, issuer = excluded.issuer,
             client_id = excluded.client_id, client_secret = excluded.client_secret, scopes = excluded.scopes,
             name_claim = excluded.name_claim, groups_claim = excluded.groups_claim,
             certificate = excluded.certificate, addresses = excluded.addresses, version = version + 1",
        params![
            new.on,
            new.title.trim(),
            new.issuer,
            new.client_id,
            secret,
            list(&new.scopes),
            new.name_claim,
            new.groups_claim,
            new.certificate.trim(),
            list(&new.addresses),
            ticket_key,
        ],
    )?;
    Ok(show(connection)?)
}

fn wrong(field: &str, sentence: &str) -> Problem {
    Problem::new(ProblemCode::Invalid, sentence).in_field(field)
}

fn check(new: &SetProvider) -> Result<(), Problem> {
    let is_line = |line: &str, longest: usize| !line.trim().is_empty() && text::is_line(line, longest);
    let is_word = |text: &str| is_line(text, 100) && text.bytes().all(|byte| byte.is_ascii_graphic());
    let is_address = |text: &str, longest: usize| text.len() <= longest && outside::https(text).is_some();
    if !is_line(&new.title, 60) {
        return Err(wrong("title", "Say what the provider is called, in at most 60 characters."));
    }
    if !is_address(&new.issuer, 500) || new.issuer.contains(['?', '#']) {
        return Err(wrong("issuer", "The provider's address begins with https:// and has no question mark."));
    }
    if !is_line(&new.client_id, 200) {
        return Err(wrong("client_id", "Give the client id that the provider knows this cluster by."));
    }
    if new.client_secret.expose().len() > 500 || new.client_secret.expose().chars().any(char::is_control) {
        return Err(wrong("client_secret", "A client secret has at most 500 characters."));
    }
    if new.scopes.len() > 20 || !new.scopes.iter().all(|scope| is_word(scope)) {
        return Err(wrong("scopes", "Scopes are at most 20 words, as in: profile groups."));
    }
    for (field, claim) in [("name_claim", &new.name_claim), ("groups_claim", &new.groups_claim)] {
        if !is_word(claim) {
            return Err(wrong(field, "A claim is one word, as in preferred_username or groups."));
        }
    }
    if !new.certificate.trim().is_empty() {
        outside::trust(&new.certificate).map_err(|sentence| wrong("certificate", &sentence))?;
    }
    // An address as browsers write it: nothing behind name and port.
    let is_origin =
        |text: &String| is_address(text, 300) && text.matches('/').count() == 2 && !text.contains(['?', '#']);
    if !(1..=20).contains(&new.addresses.len()) || !new.addresses.iter().all(is_origin) {
        let sentence = "Say where the pages are reached, as in https://cluster.example, up to 20 times and without a path.";
        return Err(wrong("addresses", sentence));
    }
    Ok(())
}

/// Forgets it. Who signed in with it keeps an account that nobody can sign in with.
pub(crate) fn remove(connection: &Connection, seen: Version) -> Result<(), Refused> {
    seen.must_be(show(connection)?.version)?;
    connection.execute("DELETE FROM provider", [])?;
    Ok(())
}

/// Notes that a way in was used: it is good once.
pub(crate) fn use_once(connection: &Connection, ticket: &[u8; 32], now: u64) -> Result<(), Refused> {
    connection.execute(
        "DELETE FROM provider_ticket WHERE abs(?1 - at) >= ?2
         OR ticket_hash IN (SELECT ticket_hash FROM provider_ticket ORDER BY at DESC LIMIT -1 OFFSET ?3)",
        params![now, 2 * GOOD_FOR, MOST_USED],
    )?;
    let is_new = connection.execute(
        "INSERT INTO provider_ticket (ticket_hash, at) VALUES (?1, ?2) ON CONFLICT DO NOTHING",
        params![ticket, now],
    )?;
    if is_new == 0 {
        let sentence = "This way in was used already. Begin again.";
        return Err(Problem::new(ProblemCode::Forbidden, sentence).into());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::tables;

    fn good() -> SetProvider {
        SetProvider {
            on: true,
            title: "Example".into(),
            issuer: "https://id.example/realms/x".into(),
            client_id: "quantix".into(),
            client_secret: Secret::new("secret"),
            scopes: vec!["profile".into()],
            name_claim: "preferred_username".into(),
            groups_claim: "groups".into(),
            certificate: String::new(),
            addresses: vec!["https://here.example:8443".into()],
        }
    }

    fn field(connection: &Connection, new: &SetProvider) -> Option<String> {
        match set(connection, new, &[1; 32], Version::ANY).err()? {
            Refused::Problem(problem) => problem.field,
            Refused::Sqlite(error) => panic!("{error}"),
        }
    }

    #[test]
    fn the_secret_is_kept_for_the_same_provider_only_and_shown_to_nobody() {
        let connection = tables();
        let is = set(&connection, &good(), &[1; 32], Version::ANY).unwrap();
        assert!(is.has_secret && is.version == 1);
        assert!(!format!("{}", serde_json::to_value(&is).unwrap()).contains("secret\":\""));
        let none = SetProvider { client_secret: Secret::new(""), ..good() };
        set(&connection, &none, &[2; 32], Version::ANY).unwrap();
        let kept = read(&connection).unwrap().unwrap();
        assert_eq!((kept.secret.expose(), kept.key.as_slice()), ("secret", &[1; 32][..]));
        let other = SetProvider { issuer: "https://other.example".into(), ..none };
        assert_eq!(field(&connection, &other).as_deref(), Some("client_secret"));
        assert!(in_use(&connection).is_ok());
        set(&connection, &SetProvider { on: false, ..good() }, &[1; 32], Version::ANY).unwrap();
        assert!(in_use(&connection).is_err());
        remove(&connection, Version::ANY).unwrap();
        assert_eq!(show(&connection).unwrap(), Provider::default());
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let connection = tables();
        let long = "a".repeat(600);
        let (spaces, plain) = ("a b".to_owned(), "http://id.example".to_owned());
        let wrong = [
            ("title", SetProvider { title: " ".into(), ..good() }),
            ("issuer", SetProvider { issuer: plain.clone(), ..good() }),
            ("issuer", SetProvider { issuer: "https://id.example?x".into(), ..good() }),
            ("client_id", SetProvider { client_id: long.clone(), ..good() }),
            ("client_secret", SetProvider { client_secret: Secret::new(long), ..good() }),
            ("client_secret", SetProvider { client_secret: Secret::new(""), ..good() }),
            ("scopes", SetProvider { scopes: vec![spaces.clone()], ..good() }),
            ("name_claim", SetProvider { name_claim: spaces.clone(), ..good() }),
            ("groups_claim", SetProvider { groups_claim: spaces, ..good() }),
            ("certificate", SetProvider { certificate: "x".into(), ..good() }),
            ("addresses", SetProvider { addresses: Vec::new(), ..good() }),
            ("addresses", SetProvider { addresses: vec![plain], ..good() }),
            ("addresses", SetProvider { addresses: vec!["https://here.example/".into()], ..good() }),
        ];
        for (name, wrong) in wrong {
            assert_eq!(field(&connection, &wrong).as_deref(), Some(name), "{wrong:?}");
        }
    }

    #[test]
    fn a_way_in_is_good_once() {
        let connection = tables();
        use_once(&connection, &[1; 32], 1000).unwrap();
        assert!(use_once(&connection, &[1; 32], 1000 + GOOD_FOR).is_err());
        use_once(&connection, &[2; 32], 1001).unwrap();
    }

    #[test]
    fn id_and_secret_are_encoded_before_they_are_joined() {
        assert_eq!(
            Settings::for_test().basic(),
            format!("Basic {}", BASE64_STANDARD.encode("quantix:s%3A%25"))
        );
    }
}
