//! A QR code as a drawing, for a phone to read from the screen.

use std::fmt::Write;

use askama::{Template, filters::HtmlSafe};
use qrcodegen::{QrCode as Code, QrCodeEcc};

/// The quiet zone that readers expect round a code.
const MARGIN: i32 = 4;

/// A QR code. It is dark on light in both themes, because not every reader takes the other way round.
#[derive(Debug, Template)]
#[template(
    ext = "html",
    source = r#"{% if size > 0 %}<svg class="qr" viewBox="0 0 {{ size }} {{ size }}" role="img" aria-label="QR code of the same"><rect class="light" width="{{ size }}" height="{{ size }}"/><path class="dark" d="{{ path }}"/></svg>{% endif %}"#
)]
pub(crate) struct QrCode {
    size: i32,
    path: String,
}

impl HtmlSafe for QrCode {}

impl QrCode {
    /// The code of a text. One that is too long for any code draws nothing: the text stands beside it.
    pub(crate) fn of(text: &str) -> Self {
        let Ok(code) = Code::encode_text(text, QrCodeEcc::Medium) else {
            return Self { size: 0, path: String::new() };
        };
        let mut path = String::new();
        for y in 0..code.size() {
            for x in (0..code.size()).filter(|x| code.get_module(*x, y)) {
                // Writing into a string does not fail.
                let _ = write!(path, "M{},{}h1v1h-1z", x + MARGIN, y + MARGIN);
            }
        }
        Self { size: code.size() + 2 * MARGIN, path }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_drawn_with_its_quiet_zone_and_one_that_is_too_long_is_not() {
        let code = QrCode::of("otpauth://totp/Quantix:ada?secret=ABC");
        let drawn = code.to_string();
        // The corner of the first finder pattern is dark, and nothing is beyond the margin.
        assert!(drawn.contains("d=\"M4,4h1") && code.size == 29 + 8, "{drawn}");
        assert_eq!(QrCode::of(&"a".repeat(4000)).to_string(), "");
    }
}
