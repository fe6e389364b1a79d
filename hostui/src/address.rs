//! The address of a page as a person sees it: the path, and what is behind the question mark. Lists keep their sorting
//! and filters there, so that a list can be passed on, gone back to, and loaded again.

use std::fmt;

use axum::http::Uri;

/// Names a block of a page instead of the whole page.
pub(crate) const BLOCK: &str = "block";
/// More than any page has; the rest of an address is not looked at.
const MOST_PARAMETERS: usize = 20;

/// A path and its parameters, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Address {
    path: String,
    parameters: Vec<(String, String)>,
}

impl Address {
    pub(crate) fn of(uri: &Uri) -> Self {
        let parameters: Vec<_> =
            serde_urlencoded::from_str(uri.query().unwrap_or_default()).unwrap_or_default();
        let parameters = parameters.into_iter().take(MOST_PARAMETERS).collect();
        Self { path: uri.path().to_owned(), parameters }
    }

    pub(crate) fn path(&self) -> &str {
        &self.path
    }

    /// What a parameter says; nothing is the same as not there.
    pub(crate) fn get(&self, name: &str) -> &str {
        let found = self.parameters.iter().find(|(known, _)| known == name);
        found.map_or("", |(_, value)| value.as_str())
    }

    /// The same place with one parameter set; an empty value takes it away.
    #[must_use]
    pub(crate) fn with(&self, name: &str, value: &str) -> Self {
        let mut parameters = self.parameters.clone();
        parameters.retain(|(known, _)| known != name);
        if !value.is_empty() {
            parameters.push((name.to_owned(), value.to_owned()));
        }
        Self { path: self.path.clone(), parameters }
    }

    /// The same place without a parameter.
    #[must_use]
    pub(crate) fn without(&self, name: &str) -> Self {
        self.with(name, "")
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.path)?;
        if !self.parameters.is_empty() {
            let query = serde_urlencoded::to_string(&self.parameters).map_err(|_| fmt::Error)?;
            write!(f, "?{query}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(uri: &str) -> Address {
        Address::of(&uri.parse().unwrap())
    }

    #[test]
    fn a_parameter_is_read_set_and_taken_away() {
        let address = check("/hosts?sort=-name&text=a%20b");
        assert_eq!((address.get("sort"), address.get("text"), address.get("x")), ("-name", "a b", ""));
        assert_eq!(address.with("sort", "name").to_string(), "/hosts?text=a+b&sort=name");
        assert_eq!(address.without("sort").without("text").to_string(), "/hosts");
    }

    #[test]
    fn what_cannot_be_read_is_left_out() {
        assert_eq!(check("/hosts?%ff=%&&=").get("sort"), "");
    }

    proptest! {
        #[test]
        fn any_value_comes_back(value in "\\PC{1,40}") {
            let address = check("/x?a=1").with("text", &value);
            let back = check(&address.to_string());
            prop_assert_eq!(back.get("text"), value);
        }
    }
}
