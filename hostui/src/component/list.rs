//! What goes with a list: heads to sort by, chips to filter with, a search, and the way to what is older. All of it is
//! in the address bar.

use std::fmt::Display;

use askama::{Template, filters::HtmlSafe};

use super::Icon;
use crate::address::Address;

/// Where sorting is in the address: a field's name, with a minus before it the other way round.
const SORT: &str = "sort";
/// Where the place in the list is.
const AFTER: &str = "after";

#[derive(Debug)]
struct Head {
    words: &'static str,
    /// Aligned with the figures below it.
    figure: bool,
    /// Where it leads, and how the list is sorted by it now.
    sort: Option<(String, Option<&'static str>)>,
}

/// The heads of a table's columns.
#[derive(Debug, Template)]
#[template(path = "components/heads.html")]
pub(crate) struct Heads {
    heads: Vec<Head>,
}

impl HtmlSafe for Heads {}

impl Heads {
    /// Heads that only say what is below them; an empty one is of a column of buttons.
    pub(crate) fn of(words: &[&'static str]) -> Self {
        let heads = words.iter().map(|words| Head { words, figure: false, sort: None });
        Self { heads: heads.collect() }
    }

    /// Makes the head of this name stand over figures.
    pub(crate) fn figures(mut self, words: &str) -> Self {
        for head in self.heads.iter_mut().filter(|head| head.words == words) {
            head.figure = true;
        }
        self
    }

    /// Makes the head of this name sort by `field`; `default` is how a list is sorted that the address says nothing of.
    pub(crate) fn sorts(mut self, words: &str, field: &str, address: &Address, default: &str) -> Self {
        let now = address.get(SORT);
        let now = if now.is_empty() { default } else { now };
        let direction = match now.strip_prefix('-') {
            Some(descending) if descending == field => Some("descending"),
            None if now == field => Some("ascending"),
            _ => None,
        };
        let next = if direction == Some("ascending") { format!("-{field}") } else { field.to_owned() };
        let link = address.without(AFTER).with(SORT, &next).to_string();
        for head in self.heads.iter_mut().filter(|head| head.words == words) {
            head.sort = Some((link.clone(), direction));
        }
        self
    }
}

#[derive(Debug)]
struct Chip {
    title: String,
    link: String,
    on: bool,
}

/// Filters of a list, each a link; one of them is on.
#[derive(Debug, Template)]
#[template(
    ext = "html",
    source = r#"<nav class="cluster" aria-label="{{ label }}">{% for chip in chips %}<a class="chip" href="{{ chip.link }}"{% if chip.on %} aria-current="true"{% endif %}>{{ chip.title }}</a>{% endfor %}</nav>"#
)]
pub(crate) struct Chips {
    label: &'static str,
    chips: Vec<Chip>,
}

impl HtmlSafe for Chips {}

impl Chips {
    /// A chip for each value of a parameter, with its title; the empty value stands for all.
    pub(crate) fn of<T: Display>(
        address: &Address,
        label: &'static str,
        parameter: &str,
        values: impl AsRef<[(&'static str, T)]>,
    ) -> Self {
        let chip = |(value, title): &(&str, T)| Chip {
            title: title.to_string(),
            link: address.without(AFTER).with(parameter, value).to_string(),
            on: address.get(parameter) == *value,
        };
        Self { label, chips: values.as_ref().iter().map(chip).collect() }
    }
}

/// A search in a list.
#[derive(Debug, Template)]
#[template(path = "components/search.html")]
pub(crate) struct Search {
    path: String,
    label: &'static str,
    placeholder: &'static str,
    text: String,
    /// What else is in the address, so that it stays.
    hidden: Vec<(&'static str, String)>,
}

impl HtmlSafe for Search {}

impl Search {
    /// Finds by the parameter `text`; the parameters that `keeps` names stay.
    pub(crate) fn of(
        address: &Address,
        label: &'static str,
        placeholder: &'static str,
        keeps: &[&'static str],
    ) -> Self {
        let kept = keeps.iter().map(|name| (*name, address.get(name).to_owned()));
        Self {
            path: address.path().to_owned(),
            label,
            placeholder,
            text: address.get("text").to_owned(),
            hidden: kept.filter(|(_, value)| !value.is_empty()).collect(),
        }
    }
}

/// The way through a list that comes in parts.
#[derive(Debug, Template)]
#[template(
    ext = "html",
    source = r#"{% if first.is_some() || next.is_some() %}<nav class="cluster pager" aria-label="Pages">{% if let Some(first) = first %}<a class="btn" href="{{ first }}">{{ words.0 }}</a>{% endif %}{% if let Some(next) = next %}<a class="btn" href="{{ next }}" rel="next">{{ words.1 }}</a>{% endif %}</nav>{% endif %}"#
)]
pub(crate) struct Pager {
    first: Option<String>,
    next: Option<String>,
    words: (&'static str, &'static str),
}

impl HtmlSafe for Pager {}

impl Pager {
    /// `next` is the agent's word for the place where the next part begins.
    pub(crate) fn new(address: &Address, next: Option<&str>) -> Self {
        Self {
            first: (!address.get(AFTER).is_empty()).then(|| address.without(AFTER).to_string()),
            next: next.map(|next| address.with(AFTER, next).to_string()),
            words: ("First", "Next"),
        }
    }

    /// The newest comes first.
    pub(crate) fn by_time(mut self) -> Self {
        self.words = ("Newest", "Older");
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(uri: &str) -> Address {
        Address::of(&uri.parse().unwrap())
    }

    #[test]
    fn heads_sort_one_way_and_the_other() {
        let heads = |uri: &str| {
            Heads::of(&["Host", "Size", ""]).sorts("Host", "name", &address(uri), "name").figures("Size")
        };
        let html = heads("/hosts?after=x").to_string();
        assert!(html.contains(r#"aria-sort="ascending"><a href="/hosts?sort=-name">Host<svg"#), "{html}");
        assert!(html.contains(r#"<th scope="col" class="num">Size</th>"#), "{html}");
        assert!(html.contains(r#"<span class="visually-hidden">Actions</span>"#), "{html}");
        assert!(
            heads("/hosts?sort=-name")
                .to_string()
                .contains(r#"aria-sort="descending"><a href="/hosts?sort=name""#)
        );
        assert!(!heads("/hosts?sort=size").to_string().contains("aria-sort"));
    }

    #[test]
    fn one_chip_is_on() {
        let chips = Chips::of(
            &address("/hosts?state=lost&after=x"),
            "State",
            "state",
            [("", "All"), ("lost", "Lost")],
        );
        insta::assert_snapshot!(chips, @r#"<nav class="cluster" aria-label="State"><a class="chip" href="/hosts">All</a><a class="chip" href="/hosts?state=lost" aria-current="true">Lost</a></nav>"#);
    }

    #[test]
    fn a_search_keeps_the_rest_of_the_address() {
        let search = Search::of(
            &address("/hosts?text=%22%3E&state=lost&after=x"),
            "Find a host",
            "Name",
            &["state", "sort"],
        );
        insta::assert_snapshot!(search, @r#"<form class="cluster search" method="get" action="/hosts" role="search"><input type="hidden" name="state" value="lost"><label class="visually-hidden" for="text">Find a host</label><input class="input auto" id="text" name="text" type="search" value="&#34;&#62;" maxlength="100" placeholder="Name"><button class="btn" type="submit">Find</button></form>"#);
    }

    #[test]
    fn a_short_list_has_no_pages() {
        assert_eq!(Pager::new(&address("/hosts"), None).to_string(), "");
        let pager = Pager::new(&address("/activity?after=7&text=a"), Some("3")).by_time();
        insta::assert_snapshot!(pager, @r#"<nav class="cluster pager" aria-label="Pages"><a class="btn" href="/activity?text=a">Newest</a><a class="btn" href="/activity?text=a&#38;after=3" rel="next">Older</a></nav>"#);
    }
}
