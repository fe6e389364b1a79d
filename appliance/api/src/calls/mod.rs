//! Every call the agent answers, by what it is about.

mod audit;
mod certificate;
mod cluster;
mod host;
mod images;
mod people;
mod session;
mod settings;
mod storage;
mod tasks;
mod vms;

pub use audit::*;
pub use certificate::*;
pub use cluster::*;
pub use host::*;
pub use images::*;
pub use people::*;
pub use session::*;
pub use settings::*;
pub use storage::*;
pub use tasks::*;
pub use vms::*;

use std::borrow::Cow;

use crate::list::to_query;

/// An address with a query behind it.
fn asking(path: impl Into<Cow<'static, str>>, query: &impl serde::Serialize) -> Cow<'static, str> {
    let (path, query) = (path.into(), to_query(query));
    if query.is_empty() { path } else { format!("{path}?{query}").into() }
}

/// A name as a part of a path: whatever it holds, it stays one part.
fn part(name: &str) -> String {
    let mut part = String::with_capacity(name.len());
    for byte in name.bytes() {
        // A part that is only dots leads elsewhere.
        if byte.is_ascii_alphanumeric() || b"-_~".contains(&byte) || (byte == b'.' && !part.is_empty()) {
            part.push(char::from(byte));
        } else {
            part.push_str(&format!("%{byte:02X}"));
        }
    }
    part
}

#[cfg(test)]
mod tests {
    use super::part;

    #[test]
    fn a_name_stays_one_part_of_a_path() {
        assert_eq!(part("ada.l-2_x"), "ada.l-2_x");
        assert_eq!(part("../x y?"), "%2E.%2Fx%20y%3F");
        assert_eq!(part(".."), "%2E.");
    }
}
