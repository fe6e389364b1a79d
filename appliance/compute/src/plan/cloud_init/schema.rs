//! Whether cloud-init knows what a configuration says, by cloud-init's own schema.

use std::sync::LazyLock;

use jsonschema::{
    Draft, JsonType, ValidationError, Validator,
    error::{TypeKind, ValidationErrorKind},
};
use quantix_api::text::beginning;
use serde_json::Value;

/// As cloud-init publishes it; `schema/README.md` says from where.
const SCHEMA: &str = include_str!("schema/schema-cloud-config-v1.json");
/// Of what somebody wrote, and of what a schema allows.
const LONGEST_QUOTE: usize = 60;
const LONGEST_CHOICE: usize = 200;
const LONGEST_SENTENCE: usize = 400;

/// It is part of the program, and a test reads it; none only if it were damaged.
static VALIDATOR: LazyLock<Option<Validator>> = LazyLock::new(|| {
    let schema = serde_json::from_str(SCHEMA).ok()?;
    jsonschema::options()
        .with_draft(Draft::Draft4)
        .should_validate_formats(true)
        // cloud-init does not look at these either: mirrors may have variables in them.
        .with_format("uri", |_: &str| true)
        .build(&schema)
        .ok()
});

/// What is wrong first in a configuration, in a sentence.
pub(super) fn check(config: &Value) -> Result<(), String> {
    let Some(validator) = VALIDATOR.as_ref() else {
        return Err("cloud-init's schema cannot be read. This is an error in Quantix.".into());
    };
    match validator.iter_errors(config).next() {
        None => Ok(()),
        Some(error) => Err(beginning(&sentence(&error), LONGEST_SENTENCE)),
    }
}

fn sentence(error: &ValidationError<'_>) -> String {
    let mut causes = Vec::new();
    collect(error, &mut causes);
    let deepest = causes.iter().map(|cause| depth(cause)).max().unwrap_or_default();
    causes.retain(|cause| depth(cause) == deepest);
    let options: Vec<_> = causes.iter().flat_map(|cause| options(cause)).collect();
    let types: Vec<_> = causes.iter().flat_map(|cause| types(cause)).collect();
    let has_choice = |cause: &ValidationError<'_>| {
        matches!(cause.kind(), ValidationErrorKind::Type { .. } | ValidationErrorKind::Enum { .. })
    };
    match causes.iter().find(|cause| !has_choice(cause)).or(causes.first()) {
        Some(cause) if !has_choice(cause) => one(cause),
        Some(cause) if !options.is_empty() => format!("{} has to be {}.", place(cause), choice(options)),
        Some(cause) => {
            let is_unquoted = cause.instance().is_number() || cause.instance().is_boolean();
            let quotes = if is_unquoted && types.contains(&"text") { " Put it in quotes." } else { "" };
            format!("{} has to be {}.{quotes}", place(cause), choice(types))
        }
        None => one(error),
    }
}

/// Each of them once.
fn choice<T: AsRef<str> + Ord>(mut words: Vec<T>) -> String {
    words.sort_unstable();
    words.dedup();
    let words: Vec<_> = words.iter().map(AsRef::as_ref).collect();
    beginning(&words.join(" or "), LONGEST_CHOICE)
}

/// Where there are several ways to say something, what is wrong with each.
fn collect<'a>(error: &'a ValidationError<'_>, causes: &mut Vec<&'a ValidationError<'a>>) {
    match error.kind() {
        ValidationErrorKind::AnyOf { context } | ValidationErrorKind::OneOfNotValid { context } => {
            context.iter().flatten().for_each(|cause| collect(cause, causes));
        }
        _ => causes.push(error),
    }
}

fn depth(error: &ValidationError<'_>) -> usize {
    error.instance_path().as_str().matches('/').count()
}

fn types(error: &ValidationError<'_>) -> Vec<&'static str> {
    let name = |kind| match kind {
        JsonType::Array => "a list",
        JsonType::Boolean => "true or false",
        JsonType::Integer => "a whole number",
        JsonType::Null => "nothing",
        JsonType::Number => "a number",
        JsonType::Object => "a map",
        JsonType::String => "text",
    };
    match error.kind() {
        ValidationErrorKind::Type { kind: TypeKind::Single(kind) } => vec![name(*kind)],
        ValidationErrorKind::Type { kind: TypeKind::Multiple(kinds) } => kinds.iter().map(name).collect(),
        _ => Vec::new(),
    }
}

fn options(error: &ValidationError<'_>) -> Vec<String> {
    let ValidationErrorKind::Enum { options } = error.kind() else { return Vec::new() };
    let options = options.as_array().into_iter().flatten();
    options.map(|option| option.as_str().map_or_else(|| option.to_string(), str::to_owned)).collect()
}

/// What is wrong at one place. The value there is not repeated: it may be a secret.
fn one(error: &ValidationError<'_>) -> String {
    let place = place(error);
    let quoted = |text: &str| format!("“{}”", beginning(text, LONGEST_QUOTE));
    match error.kind() {
        ValidationErrorKind::AdditionalProperties { unexpected } => {
            let name = unexpected.first().map(String::as_str).unwrap_or_default();
            format!("{place} has {}, which cloud-init does not know.", quoted(name))
        }
        ValidationErrorKind::Required { property } => {
            format!("{place} lacks {}.", quoted(property.as_str().unwrap_or_default()))
        }
        ValidationErrorKind::Pattern { pattern } => {
            format!("{place} does not look as cloud-init wants it: {}.", quoted(pattern))
        }
        ValidationErrorKind::Format { format } => format!("{place} is no {format}."),
        ValidationErrorKind::MinItems { .. }
        | ValidationErrorKind::MinLength { .. }
        | ValidationErrorKind::MinProperties { .. } => format!("{place} has too little in it."),
        ValidationErrorKind::UniqueItems => format!("{place} has something twice."),
        ValidationErrorKind::OneOfMultipleValid { .. } => {
            format!("{place} says two things of which cloud-init takes one.")
        }
        _ => format!("{place} is not as cloud-init wants it ({}).", error.kind().keyword()),
    }
}

/// Where it is, as people write it.
fn place(error: &ValidationError<'_>) -> String {
    let path = error.instance_path().as_str();
    if path.is_empty() {
        return "This".into();
    }
    let dotted = path.trim_start_matches('/').replace('/', ".").replace("~1", "/").replace("~0", "~");
    format!("“{}”", beginning(&dotted, LONGEST_QUOTE))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_cloud_init_knows_is_taken() {
        for config in [
            json!({}),
            json!({ "package_update": true, "packages": ["nginx", ["curl", "8"]] }),
            json!({ "users": ["default", { "name": "ops", "sudo": "ALL=(ALL) ALL", "groups": ["adm"] }] }),
            json!({ "runcmd": ["a", ["b", "c"]], "write_files": [{ "path": "/a", "content": "b" }] }),
            json!({ "apt": { "primary": [{ "arches": ["default"], "uri": "$MIRROR" }] } }),
        ] {
            assert_eq!(check(&config), Ok(()), "{config}");
        }
    }

    #[test]
    fn what_is_wrong_is_said_with_its_place() {
        let wrong = |config: Value| check(&config).unwrap_err();
        let sentences = [
            json!({ "pakages": ["nginx"] }),
            json!({ "packages": "nginx" }),
            json!({ "users": [{ "name": "ops", "sudo": 5 }] }),
            json!({ "users": [{ "name": "ops", "shel": "/bin/sh" }] }),
            json!({ "users": [{ "gecos": "Nobody" }] }),
            json!({ "users": [{ "name": "ops", "expiredate": "soon" }] }),
            json!({ "write_files": [{ "content": "a" }] }),
            json!({ "write_files": [{ "path": "/a", "permissions": 420 }] }),
            json!({ "write_files": [{ "path": "/a", "encoding": "rot13" }] }),
            json!({ "power_state": { "mode": "explode" } }),
            json!({ "runcmd": [] }),
            json!({ "chpasswd": { "users": [{ "name": "ops", "password": "x", "type": "md5" }] } }),
            json!([]),
        ]
        .map(wrong)
        .join("\n");
        insta::assert_snapshot!(sentences);
    }

    #[test]
    fn a_sentence_is_short_and_repeats_no_secret() {
        let secret = "correct horse ".repeat(1000);
        let sentence =
            check(&json!({ "users": [{ "name": "ops", "lock_passwd": secret.clone() }] })).unwrap_err();
        assert!(!sentence.contains("horse"), "{sentence}");
        let sentence = check(&json!({ secret: 1 })).unwrap_err();
        assert!(sentence.chars().count() < 150, "{sentence}");
    }
}
