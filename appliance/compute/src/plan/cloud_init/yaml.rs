//! YAML that somebody wrote, read as cloud-init reads it: with PyYAML, after version 1.1, where `yes` is true and `0644` is
//! octal. What JSON cannot say, or what is read in two ways, is refused and not guessed. Aliases, depth and size are bounded.

use std::collections::HashMap;

use granit_parser::{Event, Parser, ScalarStyle, Span, StrInput, Tag, options};
use serde_json::{Map, Number, Value};

use quantix_api::text::beginning;

const DEEPEST: usize = 32;
/// With everything that aliases stand for.
const MOST_NODES: usize = 20_000;
const MOST_BYTES: usize = 256 * 1024;
/// Readers of YAML look no further than 1,024 characters for the end of a key, and each may be written as six.
const LONGEST_KEY: usize = 128;

/// It is not read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("Line {line}: {what}")]
pub(super) struct Unread {
    line: usize,
    what: String,
}

/// Reads a document.
pub(super) fn read(text: &str) -> Result<Value, Unread> {
    let mut options = options! {
        flow_nesting_limit: DEEPEST,
        block_nesting_limit: DEEPEST,
        block_scalar_eof_without_line_feed: true,
    };
    options.set_emit_comments(false);
    let mut reader = Reader {
        parser: Parser::new_from_str_with_options(text, options),
        anchored: HashMap::new(),
        cost: Cost::default(),
    };
    reader.document()
}

type Next<'a> = (Event<'a>, usize);

/// What a value takes.
#[derive(Clone, Copy, Debug, Default)]
struct Cost {
    nodes: usize,
    bytes: usize,
}

struct Reader<'a> {
    parser: Parser<'a, StrInput<'a>>,
    /// What aliases stand for, what it takes, and how deep it is.
    anchored: HashMap<usize, (Value, Cost, usize)>,
    cost: Cost,
}

impl<'a> Reader<'a> {
    fn next(&mut self) -> Result<Next<'a>, Unread> {
        let line = |span: Span| span.start.line();
        match self.parser.next_event() {
            Some(Ok((event, span))) => Ok((event, line(span))),
            Some(Err(error)) => {
                let what = beginning(&error.kind().to_string(), 200);
                Err(Unread { line: error.marker().line(), what: format!("This is no YAML: {what}.") })
            }
            None => Err(unread(1, "This ends too early.")),
        }
    }

    fn document(&mut self) -> Result<Value, Unread> {
        loop {
            let (event, line) = self.next()?;
            match event {
                Event::StreamStart | Event::DocumentStart(..) => {}
                Event::StreamEnd | Event::DocumentEnd => return Ok(Value::Null),
                event => {
                    let (value, _) = self.value((event, line), 0)?;
                    return self.end().map(|()| value);
                }
            }
        }
    }

    fn end(&mut self) -> Result<(), Unread> {
        loop {
            match self.next()? {
                (Event::DocumentEnd, _) => {}
                (Event::StreamEnd, _) => return Ok(()),
                (_, line) => return Err(unread(line, "Another document begins here; only one can be.")),
            }
        }
    }

    /// A value, and how deep it is.
    fn value(&mut self, (event, line): Next<'a>, depth: usize) -> Result<(Value, usize), Unread> {
        if depth > DEEPEST {
            return Err(unread(line, "This is nested too deep."));
        }
        let before = self.cost;
        let (value, deep, anchor) = match event {
            Event::Alias(id) => return self.alias(id, line, depth),
            Event::Scalar(text, style, anchor, tag) => {
                self.pay(Cost { nodes: 1, bytes: text.len() }, line)?;
                (scalar(&text, style, tag.as_deref(), line)?, 0, anchor)
            }
            Event::SequenceStart(_, anchor, tag) => {
                check_tag(tag.as_deref(), "seq", line)?;
                self.pay(Cost { nodes: 1, bytes: 0 }, line)?;
                let (items, deep) = self.items(depth)?;
                (Value::Array(items), deep, anchor)
            }
            Event::MappingStart(_, anchor, tag) => {
                check_tag(tag.as_deref(), "map", line)?;
                self.pay(Cost { nodes: 1, bytes: 0 }, line)?;
                let (entries, deep) = self.entries(depth)?;
                (Value::Object(entries), deep, anchor)
            }
            _ => return Err(unread(line, "This is no value.")),
        };
        if anchor != 0 {
            let cost = Cost { nodes: self.cost.nodes - before.nodes, bytes: self.cost.bytes - before.bytes };
            // It is kept beside its place in the document.
            self.pay(cost, line)?;
            self.anchored.insert(anchor, (value.clone(), cost, deep));
        }
        Ok((value, deep))
    }

    fn alias(&mut self, id: usize, line: usize, depth: usize) -> Result<(Value, usize), Unread> {
        let (cost, deep) = match self.anchored.get(&id) {
            Some((_, cost, deep)) => (*cost, *deep),
            None => return Err(unread(line, "This alias stands for what it is in itself.")),
        };
        if depth + deep > DEEPEST {
            return Err(unread(line, "This is nested too deep."));
        }
        self.pay(cost, line)?;
        let value = self.anchored.get(&id).map(|(value, ..)| value.clone());
        Ok((value.unwrap_or_default(), deep))
    }

    fn items(&mut self, depth: usize) -> Result<(Vec<Value>, usize), Unread> {
        let (mut items, mut deepest) = (Vec::new(), 0);
        loop {
            let next = self.next()?;
            if next.0 == Event::SequenceEnd {
                return Ok((items, deepest + 1));
            }
            let (item, deep) = self.value(next, depth + 1)?;
            deepest = deepest.max(deep);
            items.push(item);
        }
    }

    fn entries(&mut self, depth: usize) -> Result<(Map<String, Value>, usize), Unread> {
        let (mut entries, mut deepest) = (Map::new(), 0);
        loop {
            let next = self.next()?;
            if next.0 == Event::MappingEnd {
                return Ok((entries, deepest + 1));
            }
            let line = next.1;
            if matches!(&next.0, Event::Scalar(text, ScalarStyle::Plain, ..) if text == "<<") {
                return Err(unread(line, "Merge keys (<<) are not read. Write out what they stand for."));
            }
            let (key, _) = self.value(next, depth + 1)?;
            let Value::String(key) = key else {
                return Err(unread(line, "This key is no text. Put it in quotes."));
            };
            if key.chars().count() > LONGEST_KEY {
                let what = format!("This key is too long; at most {LONGEST_KEY} characters can be.");
                return Err(Unread { line, what });
            }
            if entries.contains_key(&key) {
                let what = format!("“{}” is there twice.", beginning(&key, 60));
                return Err(Unread { line, what });
            }
            let next = self.next()?;
            let (value, deep) = self.value(next, depth + 1)?;
            deepest = deepest.max(deep);
            entries.insert(key, value);
        }
    }

    fn pay(&mut self, cost: Cost, line: usize) -> Result<(), Unread> {
        self.cost.nodes = self.cost.nodes.saturating_add(cost.nodes);
        self.cost.bytes = self.cost.bytes.saturating_add(cost.bytes);
        if self.cost.nodes > MOST_NODES || self.cost.bytes > MOST_BYTES {
            return Err(unread(line, "Here it becomes too much, with what the aliases stand for."));
        }
        Ok(())
    }
}

fn unread(line: usize, what: &str) -> Unread {
    Unread { line, what: what.to_owned() }
}

fn check_tag(tag: Option<&Tag>, expected: &str, line: usize) -> Result<(), Unread> {
    match tag {
        Some(tag) if !tag.is_yaml_core_schema_tag(expected) => {
            Err(unread(line, "Tags other than !!str are not read. For bytes, use encoding: b64."))
        }
        _ => Ok(()),
    }
}

fn scalar(text: &str, style: ScalarStyle, tag: Option<&Tag>, line: usize) -> Result<Value, Unread> {
    check_tag(tag, "str", line)?;
    if tag.is_some() || style != ScalarStyle::Plain {
        return Ok(Value::String(text.to_owned()));
    }
    plain(text).map_err(|what| unread(line, what))
}

/// What a plain scalar is for PyYAML.
fn plain(text: &str) -> Result<Value, &'static str> {
    const QUOTES: &str = "This is read as a number or a date by some. Put it in quotes.";
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Ok(Value::Null),
        "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" => return Ok(true.into()),
        "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off" | "OFF" => return Ok(false.into()),
        "=" => return Err("Put this in quotes."),
        _ => {}
    }
    let (negative, digits) = match text.as_bytes() {
        [b'-', ..] => (true, text.get(1..).unwrap_or_default()),
        [b'+', ..] => (false, text.get(1..).unwrap_or_default()),
        _ => (false, text),
    };
    if let Some((base, digits)) = integer(digits) {
        let digits = digits.replace('_', "");
        let number = i128::from_str_radix(if digits.is_empty() { "0" } else { &digits }, base);
        let number = number.map(|number| if negative { -number } else { number }).map_err(|_| QUOTES)?;
        return Number::from_i128(number).map(Value::Number).ok_or(QUOTES);
    }
    if is_float(text, digits) {
        let number: f64 = text.replace('_', "").parse().map_err(|_| QUOTES)?;
        // What is written with an exponent is no number any more when it is read again.
        let number =
            Number::from_f64(number).filter(|number| !number.to_string().contains('e')).ok_or(QUOTES)?;
        return Ok(number.into());
    }
    let is_no_number = matches!(digits, ".inf" | ".Inf" | ".INF") || matches!(text, ".nan" | ".NaN" | ".NAN");
    if is_no_number || is_sexagesimal(digits) || is_date(text) {
        return Err(QUOTES);
    }
    Ok(Value::String(text.to_owned()))
}

/// The base and the digits of what PyYAML reads as a whole number, without its sign.
fn integer(text: &str) -> Option<(u32, &str)> {
    let all = |text: &str, base: u32| text.chars().all(|letter| letter == '_' || letter.is_digit(base));
    for (prefix, base) in [("0b", 2), ("0x", 16), ("0", 8)] {
        if let Some(digits) = text.strip_prefix(prefix).filter(|digits| !digits.is_empty()) {
            return all(digits, base).then_some((base, digits));
        }
    }
    let begins = text == "0" || text.starts_with(|first: char| matches!(first, '1'..='9'));
    (begins && all(text, 10)).then_some((10, text))
}

/// Whether PyYAML reads a number with a point: one without digits in front of it has no sign, and an exponent has one.
fn is_float(text: &str, unsigned: &str) -> bool {
    let is_digit = |letter: char| letter.is_ascii_digit();
    let are_digits = |text: &str| text.chars().all(|letter| letter == '_' || is_digit(letter));
    let Some((whole, rest)) = unsigned.split_once('.') else { return false };
    let (fraction, exponent) = match rest.split_once(['e', 'E']) {
        Some((fraction, exponent)) => (fraction, Some(exponent)),
        None => (rest, None),
    };
    let is_exponent = exponent.is_none_or(|exponent| {
        let digits = exponent.strip_prefix(['+', '-']).unwrap_or_default();
        !digits.is_empty() && digits.chars().all(is_digit)
    });
    let begins = if whole.is_empty() {
        text == unsigned && fraction.starts_with(is_digit)
    } else {
        whole.starts_with(is_digit)
    };
    begins && are_digits(whole) && are_digits(fraction) && is_exponent
}

/// Numbers of base 60, which times and the addresses of network cards look like.
fn is_sexagesimal(unsigned: &str) -> bool {
    let are_digits = |text: &str| text.bytes().all(|byte| byte == b'_' || byte.is_ascii_digit());
    let (whole, fraction) = match unsigned.split_once('.') {
        Some((whole, fraction)) => (whole, Some(fraction)),
        None => (unsigned, None),
    };
    let Some((first, rest)) = whole.split_once(':') else { return false };
    let least = if fraction.is_some() { '0' } else { '1' };
    let is_part = |part: &str| match part.as_bytes() {
        [one] => one.is_ascii_digit(),
        [ten, one] => (b'0'..=b'5').contains(ten) && one.is_ascii_digit(),
        _ => false,
    };
    first.starts_with(|digit| (least..='9').contains(&digit))
        && are_digits(first)
        && rest.split(':').all(is_part)
        && fraction.is_none_or(are_digits)
}

/// Whether it is a date, alone or with a time behind it.
fn is_date(text: &str) -> bool {
    let mut parts = text.splitn(3, '-');
    let mut next = || parts.next().unwrap_or_default();
    let are_digits = |text: &str, lengths: std::ops::RangeInclusive<usize>| {
        lengths.contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit())
    };
    let (year, month, rest) = (next(), next(), next());
    let (day, time) = rest.split_at(rest.bytes().take_while(u8::is_ascii_digit).count());
    let has_time = || {
        let hour = time.trim_start_matches(['T', 't', ' ', '\t']);
        hour.len() < time.len() && hour.split_once(':').is_some_and(|(hour, _)| are_digits(hour, 1..=2))
    };
    are_digits(year, 4..=4)
        && are_digits(month, 1..=2)
        && are_digits(day, 1..=2)
        && (has_time() || time.is_empty() && month.len() == 2 && day.len() == 2)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn refused(text: &str) -> String {
        read(text).unwrap_err().to_string()
    }

    #[test]
    fn scalars_are_what_they_are_for_cloud_init() {
        let text = "{a: yes, b: 'yes', c: y, d: 0644, e: 0x1F, f: 1_000, g: 1.50, h: 1e3, i: 08, j: ~, k: -7, l: !!str 5}";
        let expected = json!({
            "a": true, "b": "yes", "c": "y", "d": 420, "e": 31, "f": 1000, "g": 1.5, "h": "1e3", "i": "08",
            "j": null, "k": -7, "l": "5",
        });
        assert_eq!(read(text), Ok(expected));
        assert_eq!(read("a: |\n  one\n  two"), Ok(json!({ "a": "one\ntwo" })));
        assert_eq!(read(""), Ok(Value::Null));
        assert_eq!(read("# only a remark\n---\n"), Ok(Value::Null));
    }

    #[test]
    fn what_is_read_in_two_ways_is_refused() {
        for scalar in [
            "12:30",
            "52:54:00:12:34:56",
            "1:30.5",
            "2024-01-31",
            "2024-1-31 10:00:00",
            "2024-01-31T10:00:00Z",
            ".inf",
            "-.INF",
            ".nan",
            "1.0e+300",
            "99999999999999999999999999999999999999999999",
            "18446744073709551616",
        ] {
            assert_eq!(refused(&format!("a: {scalar}")).lines().count(), 1);
            assert!(refused(&format!("a:\n  {scalar}")).contains("Line 2: This is read as"), "{scalar}");
            assert_eq!(read(&format!("a: '{scalar}'")), Ok(json!({ "a": scalar })));
        }
        for scalar in ["08:30", "12:99", "2024-01-31 was a Wednesday", "1.2.3", "10.0.0.1", "fe80::1", "a:1"]
        {
            assert_eq!(read(&format!("a: {scalar}")), Ok(json!({ "a": scalar })));
        }
    }

    #[test]
    fn what_json_cannot_say_is_refused() {
        for text in ["1: a", "yes: a", "? [a]\n: b", "? {a: b}\n: c", "~: a"] {
            assert!(refused(text).contains("key is no text"), "{text}");
        }
        for text in
            ["a: !!binary aGk=", "a: !!python/object:os.system id", "a: !x b", "!!set {a}", "a: !!int '5'"]
        {
            assert!(refused(text).contains("Tags"), "{text}");
        }
        assert!(refused("a: 1\nb: 2\na: 3").starts_with("Line 3: “a” is there twice"));
        assert!(refused("x: &x {a: 1}\ny:\n  <<: *x").starts_with("Line 3: Merge keys"));
        assert!(refused("a: 1\n---\nb: 2").contains("Another document"));
        assert!(refused("a: *b").starts_with("Line 1: This is no YAML"));
        assert!(refused("a: &a [*a]").contains("in itself"));
        assert!(refused("a: =").contains("quotes"));
        assert!(refused(&format!("{}: 1", "a".repeat(129))).contains("key is too long"));
        assert!(refused("a: \u{1}").starts_with("Line 1"));
        assert!(refused("a: \u{feff}b").starts_with("Line 1"));
    }

    #[test]
    fn aliases_stand_for_what_they_name_but_not_for_a_billion_laughs() {
        assert_eq!(read("a: &a [x, y]\nb: *a"), Ok(json!({ "a": ["x", "y"], "b": ["x", "y"] })));
        let mut laughs = "a0: &a0 [ha, ha]\n".to_owned();
        for level in 1..30 {
            let again = vec![format!("*a{}", level - 1); 10].join(", ");
            laughs += &format!("a{level}: &a{level} [{again}]\n");
        }
        assert!(refused(&laughs).contains("becomes too much"));
        let long = format!("a: &a {}\nb: [{}]", "x".repeat(60_000), ["*a"; 500].join(", "));
        assert!(refused(&long).contains("becomes too much"));
        let mut deep = "a0: &a0 [x]\n".to_owned();
        for level in 1..40 {
            deep += &format!("a{level}: &a{level} [*a{}]\n", level - 1);
        }
        assert!(refused(&deep).contains("too deep"));
    }

    #[test]
    fn depth_is_bounded_in_every_style() {
        let flow = |depth: usize| format!("a: {}{}", "[".repeat(depth), "]".repeat(depth));
        assert!(read(&flow(20)).is_ok());
        let block: String = (0..10_000).map(|level| format!("{}a:\n", " ".repeat(level))).take(300).collect();
        for text in
            [flow(40), flow(30_000), "- ".repeat(30_000), "? ".repeat(30_000), "[".repeat(60_000), block]
        {
            assert!(refused(&text).chars().count() < 300);
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_reading_fall_over(text in "[-:?*&!|>'\"{}\\[\\],#%@` \n\ta-c0-9.~<=\u{85}\u{feff}]{0,80}") {
            if let Err(why) = read(&text) {
                prop_assert!(why.to_string().chars().count() < 400);
            }
        }
    }
}
