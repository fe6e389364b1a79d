//! What libvirt tells by name.

/// A value that is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Told {
    /// A text.
    Text(String),
    /// A number.
    Number(u64),
}
