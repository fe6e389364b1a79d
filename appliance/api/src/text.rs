//! Text that somebody wrote: whether it is a line that shows what it says, and as much of it as can be shown.

/// Whether it is one line of at most so many characters, none of which misleads.
pub fn is_line(text: &str, longest: usize) -> bool {
    text.chars().count() <= longest && !text.chars().any(misleads)
}

/// The beginning of what others wrote, without what misleads.
pub fn beginning(text: &str, longest: usize) -> String {
    text.chars().filter(|letter| !misleads(*letter)).take(longest).collect()
}

/// What moves a cursor, ends a line, turns the direction of what stands around it, or is nothing that a text can have. Letters
/// of every script are welcome, and so are the marks of direction that they need.
fn misleads(letter: char) -> bool {
    letter.is_control()
        || matches!(letter, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{fffe}' | '\u{ffff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_script_is_welcome_and_no_trick_is() {
        for text in ["", "Rack 4", "שלום \u{200f}", "日本語", "👩‍👧 Zoë"] {
            assert!(is_line(text, 10), "{text:?}");
        }
        for text in [
            "a\nb",
            "a\u{0}",
            "\u{1b}[2J",
            "\u{202e}gnp.exe",
            "\u{2066}x\u{2069}",
            "a\u{2028}b",
            "a\u{ffff}",
            "eleven long",
        ] {
            assert!(!is_line(text, 10), "{text:?}");
        }
        assert_eq!(beginning("\u{202e}gnp.exe\n\u{7}", 6), "gnp.ex");
    }
}
