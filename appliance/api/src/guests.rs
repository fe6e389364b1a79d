//! The guests of virtual machines, as their agents tell of them.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::Secret;

/// What a guest tells of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct VmGuest {
    /// What it calls itself.
    pub hostname: String,
    /// What runs in it: `Debian GNU/Linux 13 (trixie)`.
    pub os: String,
    /// Its network cards.
    pub cards: Vec<GuestCard>,
}

impl VmGuest {
    /// All its addresses, without how big their networks are.
    pub fn addresses(&self) -> impl Iterator<Item = &str> {
        let all = self.cards.iter().flat_map(|card| &card.addresses);
        all.map(|address| address.split('/').next().unwrap_or(address))
    }
}

/// A network card as the guest sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct GuestCard {
    /// What the guest calls it.
    pub name: String,
    /// Its hardware address.
    pub mac: String,
    /// Its addresses, as in `192.0.2.10/24`.
    pub addresses: Vec<String>,
}

/// `POST /api/v1/vms/{vm}/guest/password`
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SetGuestPassword {
    /// A user of the guest.
    #[schema(min_length = 1, max_length = 64)]
    pub user: String,
    /// The password.
    #[schema(value_type = String, min_length = 1, max_length = 256)]
    pub password: Secret,
}
