//! User-data that somebody wrote: whether it is any that cloud-init takes, and what it says.

use quantix_api::text::beginning;
use serde_json::{Map, Value};

use super::{emit::HEADER, flaw, schema, yaml};
use crate::model::check::Flaw;

const FIELD: &str = "user_data";
const LONGEST: usize = 64 * 1024;
/// With which words other user-data begins that cloud-init takes.
const OTHERS: &[&str] = &[
    "#cloud-boothook",
    "#cloud-config-archive",
    "#cloud-config-jsonp",
    "#include",
    "#include-once",
    "#part-handler",
    "## template: jinja",
];
/// The first header of several parts in one, in any case.
const PARTS: &[&str] = &["content-type: multipart/", "mime-version: 1.0"];

/// Whether cloud-init takes it. What a script or a template comes to is not looked at.
pub(super) fn check(text: &str) -> Result<(), Flaw> {
    read(text).map(drop)
}

/// What a configuration says.
pub(super) fn config(text: &str) -> Result<Map<String, Value>, Flaw> {
    match read(text)? {
        Some(config) => Ok(config),
        None => flaw(FIELD, "Only a #cloud-config can be merged with ours. Let this replace ours instead."),
    }
}

/// What a configuration says; of anything else that cloud-init takes, nothing.
fn read(text: &str) -> Result<Option<Map<String, Value>>, Flaw> {
    if text.len() > LONGEST {
        return flaw(FIELD, format!("User-data is at most {} KiB.", LONGEST / 1024));
    }
    if text.contains('\0') {
        return flaw(FIELD, "User-data is text, and this has a zero byte in it.");
    }
    let first = text.lines().next().unwrap_or_default().trim_end();
    if first == HEADER {
        return parse(text).map(Some);
    }
    let lower = first.to_ascii_lowercase();
    let begins = |header: &&&str| {
        let rest = first.strip_prefix(**header);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t']))
    };
    let is_parts = PARTS.iter().any(|header| lower.starts_with(header));
    if first.starts_with("#!") || is_parts || OTHERS.iter().any(|header| begins(&header)) {
        return Ok(None);
    }
    flaw(FIELD, "The first line says what user-data is: #cloud-config, or #! and a program for a script.")
}

fn parse(text: &str) -> Result<Map<String, Value>, Flaw> {
    let refused = |sentence: String| Flaw { field: FIELD.into(), sentence };
    let config = match yaml::read(text).map_err(|why| refused(why.to_string()))? {
        Value::Null => Value::Object(Map::new()),
        config => config,
    };
    if config.is_object() {
        schema::check(&config).map_err(refused)?;
    }
    if let Some(place) = plain_password(&config) {
        return flaw(
            FIELD,
            format!(
                "“{}” is a password that everybody could read. Give its hash; openssl passwd -6 makes one.",
                beginning(&place, 60)
            ),
        );
    }
    match config {
        Value::Object(config) => Ok(config),
        _ => flaw(FIELD, "A configuration is a map: names with a colon behind them, and what they are."),
    }
}

/// Where a password stands in plain text. None is ever kept.
fn plain_password(config: &Value) -> Option<String> {
    let users = config.get("users").and_then(Value::as_array).into_iter().flatten();
    let users = users.enumerate().map(|(at, user)| (format!("users.{at}"), user));
    let user = config.get("user").map(|user| ("user".to_owned(), user));
    for (place, user) in users.chain(user) {
        for (key, value) in user.as_object().into_iter().flatten() {
            let is_wrong = match key.replace('-', "_").as_str() {
                "plain_text_passwd" => true,
                "passwd" | "hashed_passwd" => !is_hash(value),
                _ => false,
            };
            if is_wrong {
                return Some(format!("{place}.{key}"));
            }
        }
    }
    if config.get("password").is_some_and(|password| !is_hash(password)) {
        return Some("password".into());
    }
    let changed = config.get("chpasswd")?;
    for (at, user) in changed.get("users").and_then(Value::as_array).into_iter().flatten().enumerate() {
        let is_text = user.get("type").and_then(Value::as_str) == Some("text");
        if user.get("password").is_some_and(|password| is_text || !is_hash(password)) {
            return Some(format!("chpasswd.users.{at}.password"));
        }
    }
    let lines: Vec<&str> = match changed.get("list") {
        Some(Value::String(lines)) => lines.lines().collect(),
        Some(Value::Array(lines)) => lines.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    };
    // A random one is made by the guest.
    let is_open = |line: &str| {
        line.split_once(':')
            .is_some_and(|(_, word)| !matches!(word, "R" | "RANDOM") && !is_hash(&Value::from(word)))
    };
    lines.into_iter().any(is_open).then(|| "chpasswd.list".into())
}

/// Whether it is what a password is checked with, or what no password fits.
fn is_hash(value: &Value) -> bool {
    let text = value.as_str().unwrap_or_default();
    text.trim_matches(['!', '*']).is_empty() || text.starts_with('$') && text.matches('$').count() >= 3
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sentence(text: &str) -> String {
        let flaw = check(text).unwrap_err();
        assert_eq!(flaw.field, FIELD);
        flaw.sentence
    }

    #[test]
    fn the_first_line_says_what_it_is() {
        for text in ["#cloud-config", "#cloud-config\n", "#cloud-config \r\npackages: [a]\r\n"] {
            assert!(config(text).is_ok(), "{text:?}");
        }
        for text in [
            "#!/bin/sh\nid",
            "#include https://example.com/a",
            "#include-once\nhttps://example.com/a",
            "#part-handler\n",
            "#cloud-boothook\n",
            "#cloud-config-archive\n- a",
            "## template: jinja\n#cloud-config\n{{ a",
            "Content-Type: multipart/mixed; boundary=a\n",
            "MIME-Version: 1.0\n",
        ] {
            assert_eq!(check(text), Ok(()), "{text:?}");
            assert!(config(text).is_err(), "{text:?}");
        }
        for text in ["", "\n#cloud-config", "packages: [a]", "#cloud-configs", "# cloud-config", "#included"]
        {
            assert!(sentence(text).starts_with("The first line"), "{text:?}");
        }
        assert!(sentence("#!/bin/sh\n\0").contains("zero byte"));
        assert!(sentence(&format!("#!/bin/sh\n{}", "a".repeat(LONGEST))).contains("64 KiB"));
        assert!(sentence("#cloud-config\n- a").contains("is a map"));
        assert!(sentence("#cloud-config\npackages: nginx").contains("“packages” has to be a list"));
        assert!(sentence("#cloud-config\n\na: [").starts_with("Line 3: "));
    }

    #[test]
    fn no_password_is_kept_in_plain_text() {
        const HASH: &str = "$6$salt$aaaa";
        for config in [
            "users: [{name: a, plain_text_passwd: horse}]",
            "users: [{name: a, plain-text-passwd: horse}]",
            "users: [{name: a, passwd: horse}]",
            "users: [default, {name: a, hashed_passwd: horse}]",
            "user: {name: a, plain_text_passwd: horse}",
            "password: horse",
            "chpasswd: {users: [{name: a, password: horse, type: text}]}",
            "chpasswd: {users: [{name: a, password: horse}]}",
            "chpasswd: {list: ['a:horse']}",
            "chpasswd: {list: \"b:R\\na:horse\"}",
        ] {
            let sentence = sentence(&format!("#cloud-config\n{config}"));
            assert!(
                sentence.contains("is a password") && !sentence.contains("horse"),
                "{config}: {sentence}"
            );
        }
        for config in [
            format!("users: [{{name: a, passwd: {HASH}}}, {{name: b, hashed_passwd: '*'}}]"),
            format!("password: {HASH}"),
            format!("chpasswd: {{users: [{{name: a, password: {HASH}}}, {{name: b, type: RANDOM}}]}}"),
            format!("chpasswd: {{list: ['a:{HASH}', 'b:RANDOM']}}"),
        ] {
            assert_eq!(check(&format!("#cloud-config\n{config}")), Ok(()));
        }
    }
}
