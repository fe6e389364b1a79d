//! Folders of virtual machines.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{Right, vms::even_null};

/// A folder of virtual machines.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Folder {
    /// Its number, which it keeps.
    pub id: i64,
    /// Its name.
    pub name: String,
    /// The folder it is in; nothing for none.
    pub parent: Option<i64>,
    /// How many virtual machines are in it, without those in folders in it.
    pub vms: u32,
    /// Counts the changes; for `If-Match`.
    pub version: u64,
    /// What whoever asks may do in it.
    pub rights: BTreeSet<Right>,
}

/// All folders.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Folders {
    /// They, by their names.
    pub items: Vec<Folder>,
}

/// `POST /api/v1/folders`
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewFolder {
    /// Its name.
    #[schema(min_length = 1, max_length = 63)]
    pub name: String,
    /// The folder it goes into.
    #[serde(default)]
    pub parent: Option<i64>,
}

/// `PATCH /api/v1/folders/{folder}`: what is not named stays.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ChangeFolder {
    /// Its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(min_length = 1, max_length = 63)]
    pub name: Option<String>,
    /// The folder it shall be in; null for none.
    #[serde(default, deserialize_with = "even_null", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<i64>)]
    pub parent: Option<Option<i64>>,
}
