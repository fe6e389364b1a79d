//! A line of the audit log as a syslog message, in its frame.

use quantix_api::AuditLine;

/// The facility for audit logs.
const AUDIT: u8 = 13;
const WARNING: u8 = 4;
const INFORMATIONAL: u8 = 6;
/// The number that stands for an enterprise without one of its own (RFC 5612).
const ID: &str = "quantix@32473";
/// So much of a value is sent: with all of them escaped, a message stays below the 8 KiB that receivers take.
const LONGEST: usize = 700;

/// The message, with its length before it.
pub(super) fn frame(line: &AuditLine, host: &str) -> String {
    let message = message(line, host);
    format!("{} {message}", message.len())
}

fn message(line: &AuditLine, host: &str) -> String {
    let severity = if line.outcome == "done" { INFORMATIONAL } else { WARNING };
    let priority = AUDIT * 8 + severity;
    let (host, at) = (host_name(host), line.at);
    let values = [
        ("actor", &line.actor),
        ("address", &line.address),
        ("action", &line.action),
        ("object", &line.object),
        ("outcome", &line.outcome),
    ];
    let data: String = values.iter().map(|(name, value)| format!(" {name}=\"{}\"", escaped(value))).collect();
    // With this mark before it, the text is UTF-8.
    let text = plain(&format!("{}: {} {} ({})", line.actor, line.action, line.object, line.outcome));
    format!("<{priority}>1 {at} {host} quantix - audit [{ID} number=\"{}\"{data}] \u{feff}{text}", line.id)
}

/// Names of hosts are printable ASCII here.
fn host_name(name: &str) -> String {
    let name: String = name.chars().filter(char::is_ascii_graphic).take(255).collect();
    if name.is_empty() { "-".to_owned() } else { name }
}

/// What would end a line somewhere on its way is shown for what it is.
fn plain(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    for letter in text.chars() {
        if plain.len() + letter.len_utf8() > LONGEST {
            break;
        }
        plain.push(if letter.is_control() { '\u{fffd}' } else { letter });
    }
    plain
}

fn escaped(value: &str) -> String {
    let mut escaped = String::with_capacity(value.len());
    for letter in plain(value).chars() {
        if matches!(letter, '"' | '\\' | ']') {
            escaped.push('\\');
        }
        escaped.push(letter);
    }
    escaped
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;

    fn line(object: &str, outcome: &str) -> AuditLine {
        AuditLine {
            id: 7,
            at: Timestamp::from_second(1_795_649_000).unwrap(),
            actor: "ada".into(),
            address: "192.0.2.1".into(),
            action: "make user".into(),
            object: object.into(),
            outcome: outcome.into(),
            before: None,
            after: None,
        }
    }

    #[test]
    fn a_line_is_a_message_in_its_frame() {
        let framed = frame(&line("ben", "done"), "qx-01");
        let (length, message) = framed.split_once(' ').unwrap();
        assert_eq!(length.parse::<usize>().unwrap(), message.len());
        assert_eq!(
            message,
            "<110>1 2026-11-25T23:23:20Z qx-01 quantix - audit [quantix@32473 number=\"7\" actor=\"ada\" \
             address=\"192.0.2.1\" action=\"make user\" object=\"ben\" outcome=\"done\"] \u{feff}ada: make user ben (done)"
        );
        assert!(frame(&line("ben", "May not."), "qx-01").contains("<108>1 "));
    }

    #[test]
    fn a_value_cannot_be_more_than_a_value() {
        let message = message(&line("x\"] [evil@1 a=\"\\\n<0>1 ", "done"), "a b\n\u{e4}");
        assert!(message.contains(r#" ab quantix "#));
        assert!(message.contains("object=\"x\\\"\\] [evil@1 a=\\\"\\\\\u{fffd}<0>1 \""), "{message}");
        assert!(!message.contains('\n'));
    }

    proptest::proptest! {
        #[test]
        fn a_message_fits_and_gives_its_values_back(object in ".{0,3000}", outcome in ".{0,300}") {
            let message = message(&line(&object, &outcome), "qx-01");
            assert!(message.len() < 8192);
            let (_, rest) = message.split_once("object=\"").unwrap();
            let (mut value, mut letters) = (String::new(), rest.chars());
            loop {
                match letters.next().unwrap() {
                    '"' => break,
                    '\\' => value.push(letters.next().unwrap()),
                    ']' => panic!("the data ends in a value"),
                    letter => value.push(letter),
                }
            }
            assert_eq!(value, plain(&object));
        }
    }
}
