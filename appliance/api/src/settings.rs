//! What is set for the whole cluster.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::Secret;

/// Where the audit log is sent, over TLS, as syslog.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Syslog {
    /// Whether it is sent.
    pub on: bool,
    /// Name or address of the receiver and its port; empty where nothing was set yet.
    pub address: String,
    /// The authority that vouches for the receiver, as PEM.
    pub certificate: String,
    /// The number of the newest line that has arrived.
    pub sent: i64,
    /// So many lines wait to be sent.
    pub waiting: i64,
    /// Counts the changes; 0 where nothing was set yet.
    pub version: u64,
}

/// `PUT /api/v1/settings/syslog`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SetSyslog {
    /// Whether the audit log is sent from now on.
    pub on: bool,
    /// Name or address of the receiver, and its port if it is not 6514.
    #[schema(min_length = 1, max_length = 300)]
    pub address: String,
    /// The authority that vouches for the receiver, as PEM; empty to keep the one that is there.
    #[serde(default)]
    #[schema(max_length = 32768)]
    pub certificate: String,
}

/// How people sign in with an identity provider (OpenID Connect).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Provider {
    /// Whether people can.
    pub on: bool,
    /// What the button on the sign-in page says after "Sign in with".
    pub title: String,
    /// The provider's address, as it stands in its tokens; empty where nothing was set yet.
    pub issuer: String,
    /// By what the provider knows this cluster.
    pub client_id: String,
    /// Whether a client secret is kept. It is never shown.
    pub has_secret: bool,
    /// What is asked for, besides `openid`.
    pub scopes: Vec<String>,
    /// The claim that names a new user.
    pub name_claim: String,
    /// The claim that holds the groups.
    pub groups_claim: String,
    /// The authority that vouches for the provider, as PEM; empty for those that everybody trusts.
    pub certificate: String,
    /// Where the pages are reached, as in `https://cluster.example`: the provider sends people back there only.
    pub addresses: Vec<String>,
    /// Counts the changes; 0 where nothing was set yet.
    pub version: u64,
}

/// `PUT /api/v1/settings/sign-in`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SetProvider {
    /// Whether people can sign in with it from now on.
    pub on: bool,
    /// What the button on the sign-in page says after "Sign in with".
    #[schema(min_length = 1, max_length = 60)]
    pub title: String,
    /// The provider's address, as it stands in its tokens.
    #[schema(min_length = 1, max_length = 500)]
    pub issuer: String,
    /// By what the provider knows this cluster.
    #[schema(min_length = 1, max_length = 200)]
    pub client_id: String,
    /// The secret that the provider gave; empty to keep the one that is there.
    #[serde(default = "nothing")]
    #[schema(max_length = 500)]
    pub client_secret: Secret,
    /// What is asked for, besides `openid`.
    #[schema(max_items = 20)]
    pub scopes: Vec<String>,
    /// The claim that names a new user.
    #[schema(min_length = 1, max_length = 100)]
    pub name_claim: String,
    /// The claim that holds the groups.
    #[schema(min_length = 1, max_length = 100)]
    pub groups_claim: String,
    /// The authority that vouches for the provider, as PEM; empty for those that everybody trusts.
    #[serde(default)]
    #[schema(max_length = 32768)]
    pub certificate: String,
    /// Where the pages are reached, as in `https://cluster.example`.
    #[schema(min_items = 1, max_items = 20)]
    pub addresses: Vec<String>,
}

fn nothing() -> Secret {
    Secret::new("")
}

/// With what people can sign in besides a password.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct WaysIn {
    /// What the identity provider is called, if there is one.
    pub provider: Option<String>,
}

/// Begins to sign in with the identity provider.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct BeginAtProvider {
    /// Where the page is reached, as in `https://cluster.example`.
    #[schema(max_length = 300)]
    pub address: String,
}

/// Where somebody goes to sign in with the identity provider.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct BegunAtProvider {
    /// The provider's page.
    pub go_to: String,
    /// What the browser keeps for ten minutes; only with it the way back is open.
    pub ticket: Secret,
}

/// What the identity provider sent somebody back with.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct BackFromProvider {
    /// What the browser kept.
    #[schema(max_length = 4000)]
    pub ticket: Secret,
    /// Where the page is reached.
    #[schema(max_length = 300)]
    pub address: String,
    /// `state` of the address.
    #[schema(max_length = 200)]
    pub state: String,
    /// `code` of the address.
    #[schema(max_length = 4000)]
    pub code: Secret,
    /// `iss` of the address, where the provider names itself there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 500)]
    pub issuer: Option<String>,
}

/// What came of trying a setting.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Tried {
    /// Whether it works.
    pub works: bool,
    /// What was seen, and if it does not work, what to do: a sentence.
    pub detail: String,
}
