//! By what a volume is known, here and in its pool.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};
use uuid::Uuid;

/// The id of a volume, which is a part of its name in the pool too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VolumeId(Uuid);

impl VolumeId {
    /// A new one. Ids that were made later sort behind earlier ones.
    pub fn new() -> Self {
        Self(Uuid::now_v7())
    }

    /// The id of another that belongs to this one: the same for the same number, and for the number 0 its own.
    #[must_use]
    pub fn beside(self, number: u8) -> Self {
        let mut bytes = self.0.into_bytes();
        bytes[15] ^= number;
        Self(Uuid::from_bytes(bytes))
    }
}

impl Default for VolumeId {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Display for VolumeId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.hyphenated().fmt(formatter)
    }
}

impl FromStr for VolumeId {
    type Err = NoId;

    /// Only as it is written here.
    fn from_str(text: &str) -> Result<Self, NoId> {
        let id = Self(Uuid::try_parse(text).map_err(|_| NoId)?);
        (id.to_string() == text).then_some(id).ok_or(NoId)
    }
}

impl Serialize for VolumeId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for VolumeId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

/// It is not the id of a volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this is not the id of a volume")]
pub struct NoId;
