//! Values as guests read them: JSON, which is YAML too, so that nothing in a value can become anything else.

use std::fmt::Write as _;

use serde_json::Value;

/// The line by which cloud-init knows what follows.
pub(super) const HEADER: &str = "#cloud-config";

/// A configuration for cloud-init.
pub(super) fn cloud_config(value: &Value) -> String {
    format!("{HEADER}\n{}", json(value))
}

/// A value.
pub(super) fn json(value: &Value) -> String {
    let mut text = String::new();
    for letter in format!("{value:#}\n").chars() {
        if is_plain(letter) {
            text.push(letter);
        } else {
            // Outside of strings there is nothing but ASCII, and in them this says the same.
            let _ = write!(text, "\\u{:04x}", u32::from(letter));
        }
    }
    text
}

/// Whether readers of YAML take it as it is. They end lines at some, and refuse others that JSON allows; and what turns the
/// direction of text hides from people what a guest is told.
fn is_plain(letter: char) -> bool {
    !matches!(
        letter,
        '\u{7f}'..='\u{a0}'
            | '\u{200b}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{feff}'
            | '\u{fff0}'..='\u{ffff}'
    )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::plan::cloud_init::yaml;

    #[test]
    fn what_readers_of_yaml_stumble_over_is_escaped() {
        let text = json(&json!("a\u{7f}\u{85}\u{2028}\u{202e}\u{feff}\u{ffff}😀ä"));
        assert_eq!(text, "\"a\\u007f\\u0085\\u2028\\u202e\\ufeff\\uffff😀ä\"\n");
        assert_eq!(cloud_config(&json!({})), "#cloud-config\n{}\n");
    }

    proptest! {
        #[test]
        fn a_value_is_read_again_as_it_was(key in any::<String>(), text in any::<String>()) {
            let value = json!({ "users": [{ "name": text, "more": { key.clone(): text } }], key: text });
            prop_assert_eq!(&serde_json::from_str::<Value>(&json(&value)).unwrap(), &value);
            if let Ok(read) = yaml::read(&cloud_config(&value)) {
                prop_assert_eq!(read, value);
            }
        }
    }
}
