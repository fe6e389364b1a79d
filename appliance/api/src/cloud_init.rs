//! What the guest of a virtual machine is told when it starts for the first time, as cloud-init reads it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::Secret;

/// `POST /api/v1/ssh-keys/fetch`
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct FetchSshKeys {
    /// The https address at which they are, one in each line.
    #[schema(max_length = 2000)]
    pub url: String,
    /// Whether that may be in a private network; this takes the right to manage storage, as for images.
    #[serde(default)]
    pub allow_private: bool,
    /// The certificate, as PEM, of an authority that vouches for whoever has them; nothing for those that everybody trusts.
    #[serde(default)]
    #[schema(max_length = 32768)]
    pub authority: String,
}

/// Keys that were found at an address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SshKeysFound {
    /// The keys, as in files that end in `.pub`.
    pub keys: Vec<String>,
}

/// What a guest is told. What is told back is as it can be sent again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CloudInit {
    /// Who gets in; nothing for nobody but those whom user-data lets in. Of a machine that begins as a copy of an image, nothing
    /// means whom the image is made for.
    #[serde(default)]
    #[schema(max_length = 32)]
    pub user: String,
    /// The password. It is never told back, and only what it is checked with is kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<Secret>,
    /// Whether the password stays that there is. As it is told: whether there is one.
    #[serde(default)]
    pub keep_password: bool,
    /// The keys that let somebody in, as in files that end in `.pub`.
    #[serde(default)]
    #[schema(max_items = 64)]
    pub ssh_keys: Vec<String>,
    /// Whether sudo asks for no password. Where there is none, it never does.
    #[serde(default)]
    pub sudo_without_password: bool,
    /// What the machine calls itself; nothing for its name here.
    #[serde(default)]
    #[schema(max_length = 63)]
    pub hostname: String,
    /// The domain it is in.
    #[serde(default)]
    pub domain: String,
    /// The addresses of its network cards, in their order. A card that is not named, or has none, asks by DHCP.
    #[serde(default)]
    #[schema(max_items = 16)]
    pub network: Vec<CardAddresses>,
    /// Whether it gets the QEMU guest agent from its distribution.
    #[serde(default = "yes")]
    pub install_guest_agent: bool,
    /// Whether it asks for fresh lists of packages first.
    #[serde(default = "yes")]
    pub package_update: bool,
    /// User-data of one's own.
    #[serde(default)]
    #[schema(max_length = 65536)]
    pub user_data: String,
    /// Whether that is there instead of what is made of all this, and not together with it.
    #[serde(default)]
    pub user_data_replaces: bool,
}

fn yes() -> bool {
    true
}

impl Default for CloudInit {
    fn default() -> Self {
        Self {
            user: String::new(),
            password: None,
            keep_password: false,
            ssh_keys: Vec::new(),
            sudo_without_password: false,
            hostname: String::new(),
            domain: String::new(),
            network: Vec::new(),
            install_guest_agent: true,
            package_update: true,
            user_data: String::new(),
            user_data_replaces: false,
        }
    }
}

impl CloudInit {
    /// Whether somebody gets in with what is asked here, apart from what user-data says.
    pub fn lets_in(&self) -> bool {
        self.password.is_some() || self.keep_password || !self.ssh_keys.is_empty()
    }

    /// Whether it may let somebody in: what user-data says is not known here.
    pub fn may_let_in(&self) -> bool {
        self.lets_in() || !self.user_data.is_empty()
    }
}

/// The addresses of a network card.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CardAddresses {
    /// Its addresses, as in 192.0.2.10/24.
    #[serde(default)]
    #[schema(max_items = 16)]
    pub addresses: Vec<String>,
    /// The way to everywhere else over IPv4.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub gateway4: Option<Ipv4Addr>,
    /// The way to everywhere else over IPv6.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub gateway6: Option<Ipv6Addr>,
    /// Who is asked for names.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(value_type = Vec<String>, max_items = 16)]
    pub name_servers: Vec<IpAddr>,
    /// The domains in which names without one are looked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(max_items = 16)]
    pub search: Vec<String>,
}
