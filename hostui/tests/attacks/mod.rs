//! Attacks on the page server itself, byte by byte. What needs a browser is in `tests/browser`.
#![expect(
    clippy::expect_used,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "what goes wrong in a test ends it; the figures are what is looked for"
)]

mod connections;
mod http2;
mod requests;
mod sign_in;
