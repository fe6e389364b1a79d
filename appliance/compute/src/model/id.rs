//! By what a virtual machine is known, here and to libvirt.

use std::{fmt, str::FromStr};

use uuid::Uuid;

/// The id of a virtual machine, which is libvirt's UUID of the domain too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VmId(pub Uuid);

impl VmId {
    /// A new one. Ids that were made later sort behind earlier ones.
    pub fn new() -> Self {
        Self(Uuid::now_v7())
    }

    /// By what a network knows one of its cards: the same for the same card of the same machine, and for no other.
    pub(crate) fn interface(self, mac: &str) -> String {
        let mut bytes = self.0.into_bytes();
        // Its beginning is a time, which others may share; how it ends is its own, and so is the card's address.
        let octets = mac.split(':').filter_map(|octet| u8::from_str_radix(octet, 16).ok());
        for (byte, octet) in bytes.iter_mut().zip(octets) {
            *byte ^= octet;
        }
        Uuid::from_bytes(bytes).hyphenated().to_string()
    }

    /// What tells it from others of the same name.
    pub fn short(self) -> String {
        let text = self.0.simple().to_string();
        // The beginning is the time, and the same for all that were made within a minute.
        text[text.len() - 8..].to_owned()
    }
}

impl Default for VmId {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Display for VmId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.hyphenated().fmt(formatter)
    }
}

impl FromStr for VmId {
    type Err = NoId;

    /// Only as it is written here: one machine has one address.
    fn from_str(text: &str) -> Result<Self, NoId> {
        let id = Self(Uuid::try_parse(text).map_err(|_| NoId)?);
        (id.to_string() == text).then_some(id).ok_or(NoId)
    }
}

/// It is not the id of a virtual machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this is not the id of a virtual machine")]
pub struct NoId;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_read_as_it_is_written_and_in_no_other_way() {
        let id = VmId::new();
        assert_eq!(id.to_string().parse(), Ok(id));
        for wrong in
            [id.to_string().to_uppercase(), id.0.simple().to_string(), format!("{{{id}}}"), "..".into()]
        {
            assert_eq!(wrong.parse::<VmId>(), Err(NoId), "{wrong}");
        }
    }
}
