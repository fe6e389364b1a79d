//! Lists: asked for in parts, sorted and filtered where they are kept.

use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

/// A part of a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Page<T> {
    /// What is on it, in order.
    pub items: Vec<T>,
    /// What to ask for `after` to get the next part, if there is one.
    pub next: Option<String>,
}

impl<T> Page<T> {
    /// A list that is short enough to come whole.
    pub fn whole(items: Vec<T>) -> Self {
        Self { items, next: None }
    }
}

/// Which part of a list.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ListQuery {
    /// The part after the one whose `next` this was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(max_length = 1000)]
    pub after: Option<String>,
    /// So many at most; 50 unless said otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(minimum = 1, maximum = 1000)]
    pub limit: Option<u32>,
    /// By which field; with a minus before it the other way round.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(max_length = 40)]
    pub sort: Option<String>,
    /// Only what has this text somewhere, in capitals or not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(max_length = 100)]
    pub text: Option<String>,
}

/// The same as the part of an address behind the question mark.
pub fn to_query(query: &impl Serialize) -> String {
    // Numbers and texts always have a form.
    serde_urlencoded::to_string(query).unwrap_or_default()
}
