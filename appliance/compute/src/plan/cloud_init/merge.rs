//! Two configurations in one: lists are put together, maps are merged, and of what is neither, theirs holds.

use serde_json::{Map, Value};

use super::flaw;
use crate::model::check::Flaw;

/// Puts what they say into what we say.
pub(super) fn merge(
    ours: Map<String, Value>,
    theirs: Map<String, Value>,
) -> Result<Map<String, Value>, Flaw> {
    maps(ours, theirs, "")
}

fn maps(
    mut ours: Map<String, Value>,
    theirs: Map<String, Value>,
    place: &str,
) -> Result<Map<String, Value>, Flaw> {
    for (key, their) in theirs {
        let merged = match (ours.remove(&key), their) {
            (Some(our @ (Value::Array(_) | Value::Object(_))), their) => {
                both(our, their, &format!("{place}{key}"))?
            }
            (_, their) => their,
        };
        ours.insert(key, merged);
    }
    Ok(ours)
}

fn both(our: Value, their: Value, place: &str) -> Result<Value, Flaw> {
    match (our, their) {
        (Value::Object(ours), Value::Object(theirs)) => {
            maps(ours, theirs, &format!("{place}.")).map(Value::Object)
        }
        (Value::Array(ours), Value::Array(theirs)) => lists(ours, theirs, place).map(Value::Array),
        (our, _) => {
            let kind = if our.is_array() { "list" } else { "map" };
            flaw(
                "user_data",
                format!("“{place}” has to be a {kind} here, since there is something of ours in it."),
            )
        }
    }
}

/// Items of one name are one: cloud-init would only look at the last.
fn lists(mut ours: Vec<Value>, theirs: Vec<Value>, place: &str) -> Result<Vec<Value>, Flaw> {
    for their in theirs {
        let name = their.get("name").and_then(Value::as_str);
        let same =
            ours.iter_mut().find(|our| name.is_some() && our.get("name").and_then(Value::as_str) == name);
        match same {
            Some(our) => *our = both(our.take(), their, place)?,
            None => ours.push(their),
        }
    }
    Ok(ours)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn merged(ours: Value, theirs: Value) -> Result<Value, Flaw> {
        let map = |value: Value| value.as_object().cloned().unwrap();
        merge(map(ours), map(theirs)).map(Value::Object)
    }

    #[test]
    fn lists_come_together_maps_are_merged_and_their_word_holds() {
        let ours = json!({
            "hostname": "web-01",
            "users": [{ "name": "ops", "groups": ["adm"], "shell": "/bin/bash", "ssh_authorized_keys": ["one"] }],
            "chpasswd": { "expire": false, "users": [{ "name": "ops", "password": "$6$a" }] },
            "runcmd": [["a"]],
        });
        let theirs = json!({
            "hostname": "web-02",
            "users": [
                "default",
                { "name": "ops", "groups": ["docker"], "shell": "/bin/zsh", "ssh_authorized_keys": ["two"] },
                { "name": "guest" },
            ],
            "chpasswd": { "users": [{ "name": "guest", "type": "RANDOM" }] },
            "runcmd": ["b"],
            "packages": ["nginx"],
        });
        let expected = json!({
            "hostname": "web-02",
            "users": [
                {
                    "name": "ops",
                    "groups": ["adm", "docker"],
                    "shell": "/bin/zsh",
                    "ssh_authorized_keys": ["one", "two"],
                },
                "default",
                { "name": "guest" },
            ],
            "chpasswd": {
                "expire": false,
                "users": [{ "name": "ops", "password": "$6$a" }, { "name": "guest", "type": "RANDOM" }],
            },
            "runcmd": [["a"], "b"],
            "packages": ["nginx"],
        });
        assert_eq!(merged(ours, theirs), Ok(expected));
    }

    #[test]
    fn what_cannot_come_together_is_refused() {
        let ours =
            json!({ "users": [{ "name": "ops", "groups": ["adm"] }], "chpasswd": { "expire": false } });
        for theirs in [
            json!({ "users": "alice" }),
            json!({ "users": null }),
            json!({ "users": [{ "name": "ops", "groups": "docker" }] }),
            json!({ "chpasswd": [] }),
        ] {
            assert_eq!(merged(ours.clone(), theirs.clone()).unwrap_err().field, "user_data", "{theirs}");
        }
    }
}
