//! Parts of a whole: a meter for what is in use, progress for what is being done, and the steps of something longer.

use std::borrow::Cow;

use askama::{Template, filters::HtmlSafe};

use super::Level;
use crate::words;

/// From here on a meter is amber, and from the second on red.
const WARN_PERCENT: u64 = 80;
const BAD_PERCENT: u64 = 90;

/// How much of something is in use. It stays grey until it is nearly full.
#[derive(Clone, Debug, Template)]
#[template(
    ext = "html",
    source = r#"<div class="meter {{ self.level().class() }}"><svg class="track" viewBox="0 0 100 5" preserveAspectRatio="none" role="img" aria-label="{{ label }}: {{ percent }} %"><rect class="fill" width="{{ percent }}" height="5"/></svg><span class="val" aria-hidden="true">{{ percent }} %</span></div>"#
)]
pub(crate) struct Meter {
    label: &'static str,
    percent: u64,
}

impl HtmlSafe for Meter {}

impl Meter {
    pub(crate) fn of(label: &'static str, used: u64, total: u64) -> Self {
        Self { label, percent: words::percent(used, total) }
    }

    pub(crate) fn level(&self) -> Level {
        match self.percent {
            BAD_PERCENT.. => Level::Bad,
            WARN_PERCENT.. => Level::Warn,
            _ => Level::Idle,
        }
    }
}

/// How far something has come, with words for the figures: `412 of 586 MiB`.
#[derive(Clone, Debug, Template)]
#[template(path = "components/progress.html")]
pub(crate) struct Progress {
    title: String,
    /// Nothing while it is not known how long it takes.
    percent: Option<u8>,
    words: String,
}

impl HtmlSafe for Progress {}

impl Progress {
    pub(crate) fn of(title: impl Into<String>, percent: Option<u8>, words: impl Into<String>) -> Self {
        Self { title: title.into(), percent: percent.map(|percent| percent.min(100)), words: words.into() }
    }
}

/// How far one has come in something of several steps.
#[derive(Clone, Debug, Template)]
#[template(
    ext = "html",
    source = r#"<ol class="steps" aria-label="{{ label }}">{% for (title, link) in steps %}<li{% if loop.index0 < now %} class="done"{% endif %}{% if loop.index0 == now %} aria-current="step"{% endif %}>{% if link.is_empty() || loop.index0 >= now %}<span>{{ title }}</span>{% else %}<a href="{{ link }}">{{ title }}</a>{% endif %}</li>{% endfor %}</ol>"#
)]
pub(crate) struct Steps {
    label: &'static str,
    /// What each is called, and where it can be gone back to.
    steps: Vec<(Cow<'static, str>, String)>,
    now: usize,
}

impl HtmlSafe for Steps {}

impl Steps {
    /// `now` counts from nought.
    pub(crate) fn of(label: &'static str, steps: &[(&'static str, &str)], now: usize) -> Self {
        let steps = steps.iter().map(|(title, link)| (Cow::Borrowed(*title), (*link).to_owned()));
        Self { label, steps: steps.collect(), now }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_meter_is_quiet_until_it_is_nearly_full() {
        let level = |used: u64| Meter::of("Memory in use", used, 100).level();
        let (idle, warn, bad) = (Level::Idle, Level::Warn, Level::Bad);
        assert_eq!([0, 79, 80, 89, 90, 100].map(level), [idle, idle, warn, warn, bad, bad]);
        assert_eq!(Meter::of("Memory in use", 0, 0).level(), Level::Idle);
        insta::assert_snapshot!(Meter::of("Memory in use", 3, 4), @r#"<div class="meter "><svg class="track" viewBox="0 0 100 5" preserveAspectRatio="none" role="img" aria-label="Memory in use: 75 %"><rect class="fill" width="75" height="5"/></svg><span class="val" aria-hidden="true">75 %</span></div>"#);
    }

    #[test]
    fn progress_is_read_out() {
        insta::assert_snapshot!(Progress::of("Back up", Some(70), "412 of 586 MiB"), @r#"<div class="progress"><span class="title">Back up</span><div class="meter accent"><svg class="track" viewBox="0 0 100 5" preserveAspectRatio="none" role="progressbar" aria-label="Back up" aria-valuenow="70" aria-valuemin="0" aria-valuemax="100" aria-valuetext="412 of 586 MiB"><rect class="fill" width="70" height="5"/></svg><span class="val" aria-hidden="true">70 %</span></div><span class="words faint">412 of 586 MiB</span></div>"#);
        insta::assert_snapshot!(Progress::of("Join", None, "Waiting for qx-02"), @r#"<div class="progress"><span class="title">Join</span><div class="meter accent"><svg class="track" viewBox="0 0 100 5" preserveAspectRatio="none" role="progressbar" aria-label="Join" aria-valuetext="Waiting for qx-02"><rect class="fill endless" width="30" height="5"/></svg></div><span class="words faint">Waiting for qx-02</span></div>"#);
    }

    #[test]
    fn steps_say_which_is_now() {
        insta::assert_snapshot!(Steps::of("New VM", &[("Name", "/a"), ("Disks", "/b"), ("Check", "/c")], 1), @r#"<ol class="steps" aria-label="New VM"><li class="done"><a href="/a">Name</a></li><li aria-current="step"><span>Disks</span></li><li><span>Check</span></li></ol>"#);
    }
}
