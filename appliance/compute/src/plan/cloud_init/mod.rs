//! What a guest is told when it starts for the first time, as cloud-init reads it from a NoCloud volume.
//!
//! Who the machine is and who gets in goes into user-data. There it holds even where somebody switches vendor-data off, and
//! what somebody adds is merged with it by us: a guest would take one list or the other. What makes the machine more
//! comfortable, its agent and fresh package lists, goes into vendor-data, which gives way to whatever user-data says, so
//! that user-data that replaces ours stays theirs to the letter. A list of ours that theirs would hide, packages for
//! instance, moves to user-data and is merged there.

mod asked;
mod draw;
mod emit;
mod merge;
mod network;
mod schema;
mod seed;
mod theirs;
mod yaml;

use std::fmt;

pub use network::{Address, Addressing, CardNetwork, StaticAddresses};
pub use seed::seed;

use crate::model::{access::Access, check::Flaw};

/// What a guest is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CloudInit {
    /// By another one a guest sees that it has become another machine, and does again what it does once.
    pub instance_id: String,
    /// What the machine calls itself.
    pub hostname: String,
    /// The domain it is in.
    pub domain: Option<String>,
    /// Who gets in.
    pub access: Option<Access>,
    /// Its network cards. Without any, the guest asks on its first one by DHCP.
    pub network: Vec<CardNetwork>,
    /// Whether it gets the QEMU guest agent.
    pub install_guest_agent: bool,
    /// Whether it asks for the lists of packages first.
    pub package_update: bool,
    /// What somebody wrote.
    pub user_data: Option<UserData>,
}

/// User-data that somebody wrote. It is not shown when it is debugged: there may be secrets in it.
#[derive(Clone, PartialEq, Eq)]
pub enum UserData {
    /// It is merged with ours: lists are put together, maps merged, and of what is neither, theirs holds.
    Merged(String),
    /// It is there instead of ours.
    Replacing(String),
}

impl UserData {
    /// Whether cloud-init would take it. Passwords in plain text are refused wherever they can be seen.
    pub fn check(&self) -> Result<(), Flaw> {
        match self {
            Self::Merged(text) => theirs::config(text).map(drop),
            Self::Replacing(text) => theirs::check(text),
        }
    }
}

impl fmt::Debug for UserData {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Merged(_) => "Merged(…)",
            Self::Replacing(_) => "Replacing(…)",
        })
    }
}

/// The texts of a NoCloud volume. They are not shown when they are debugged: there are secrets in them.
#[derive(Clone, PartialEq, Eq)]
pub struct Texts {
    user_data: String,
    meta_data: String,
    network_config: Option<String>,
    vendor_data: Option<String>,
}

impl Texts {
    /// What the machine is to be, and what somebody wants it to do.
    pub fn user_data(&self) -> &str {
        &self.user_data
    }

    /// By what the machine is known.
    pub fn meta_data(&self) -> &str {
        &self.meta_data
    }

    /// How its cards come to their addresses.
    pub fn network_config(&self) -> Option<&str> {
        self.network_config.as_deref()
    }

    /// What gives way to user-data.
    pub fn vendor_data(&self) -> Option<&str> {
        self.vendor_data.as_deref()
    }

    /// All of them, with their names and their short names.
    fn files(&self) -> impl Iterator<Item = (&'static str, &'static [u8; 11], &str)> {
        [
            ("user-data", b"USER-D~1   ", Some(self.user_data.as_str())),
            ("meta-data", b"META-D~1   ", Some(&self.meta_data)),
            ("network-config", b"NETWOR~1   ", self.network_config.as_deref()),
            ("vendor-data", b"VENDOR~1   ", self.vendor_data.as_deref()),
        ]
        .into_iter()
        .filter_map(|(name, short, text)| Some((name, short, text?)))
    }
}

impl fmt::Debug for Texts {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Texts(…)")
    }
}

fn flaw<T>(field: impl Into<String>, sentence: impl Into<String>) -> Result<T, Flaw> {
    Err(Flaw { field: field.into(), sentence: sentence.into() })
}

/// Whether it is one part of a name in the DNS that a machine can have.
fn is_label(text: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    (1..=63).contains(&text.len())
        && text.bytes().all(is_plain)
        && !text.starts_with('-')
        && !text.ends_with('-')
}

/// Whether it is a domain.
fn is_domain(text: &str) -> bool {
    text.len() <= 253 && text.split('.').all(is_label)
}
