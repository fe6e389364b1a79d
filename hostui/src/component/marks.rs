//! Small marks: an icon, a state as a dot with a word, a badge, a button that does one thing.

use std::borrow::Cow;

use askama::{Template, filters::HtmlSafe};

/// A picture of the sprite, for the eye only: what it means is said in words beside it.
#[derive(Clone, Copy, Debug, Template)]
#[template(
    ext = "html",
    source = r##"<svg class="i" aria-hidden="true"><use href="{{ crate::assets::address("icons.svg") }}#{{ self.0 }}"/></svg>"##
)]
pub(crate) struct Icon(pub(crate) &'static str);

impl HtmlSafe for Icon {}

/// What a colour means.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Level {
    /// Nothing to say.
    #[default]
    Idle,
    Ok,
    Warn,
    Bad,
    /// Something is going on.
    Busy,
    /// It stands out: selected, leading.
    Accent,
}

impl Level {
    pub(crate) fn class(self) -> &'static str {
        match self {
            Self::Idle => "",
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Bad => "bad",
            Self::Busy => "busy",
            Self::Accent => "accent",
        }
    }

    /// The icon that goes with it.
    pub(crate) fn icon(self) -> Icon {
        match self {
            Self::Ok => Icon("circle-check"),
            Self::Warn => Icon("triangle-alert"),
            Self::Bad => Icon("circle-alert"),
            Self::Idle | Self::Busy | Self::Accent => Icon("info"),
        }
    }
}

/// A dot with a word: colour never speaks alone.
#[derive(Clone, Debug, PartialEq, Eq, Template)]
#[template(
    ext = "html",
    source = r#"<span class="state {{ level.class() }}{% if wraps %} wraps{% endif %}">{{ words }}</span>"#
)]
pub(crate) struct Standing {
    level: Level,
    words: Cow<'static, str>,
    wraps: bool,
}

impl HtmlSafe for Standing {}

impl Standing {
    pub(crate) fn new(level: Level, words: impl Into<Cow<'static, str>>) -> Self {
        Self { level, words: words.into(), wraps: false }
    }

    pub(crate) fn idle(words: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Level::Idle, words)
    }

    pub(crate) fn ok(words: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Level::Ok, words)
    }

    pub(crate) fn warn(words: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Level::Warn, words)
    }

    pub(crate) fn bad(words: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Level::Bad, words)
    }

    pub(crate) fn busy(words: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Level::Busy, words)
    }

    /// May take more than one line.
    pub(crate) fn wraps(mut self) -> Self {
        self.wraps = true;
        self
    }

    pub(crate) fn level(&self) -> Level {
        self.level
    }
}

/// A word in a box.
#[derive(Clone, Debug, Template)]
#[template(ext = "html", source = r#"<span class="badge {{ level.class() }}">{{ words }}</span>"#)]
pub(crate) struct Badge {
    level: Level,
    words: Cow<'static, str>,
}

impl HtmlSafe for Badge {}

impl Badge {
    pub(crate) fn new(level: Level, words: impl Into<Cow<'static, str>>) -> Self {
        Self { level, words: words.into() }
    }

    pub(crate) fn plain(words: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Level::Idle, words)
    }

    pub(crate) fn accent(words: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Level::Accent, words)
    }
}

/// A button that does one thing at once.
#[derive(Clone, Debug, Template)]
#[template(path = "components/post.html")]
pub(crate) struct Post {
    action: String,
    words: Cow<'static, str>,
    class: &'static str,
    hidden: Vec<(&'static str, String)>,
    icon: Option<Icon>,
}

impl HtmlSafe for Post {}

impl Post {
    pub(crate) fn to(action: impl Into<String>, words: impl Into<Cow<'static, str>>) -> Self {
        Self { action: action.into(), words: words.into(), class: "", hidden: Vec::new(), icon: None }
    }

    /// `primary`, `quiet`, `danger`, or two of them.
    pub(crate) fn class(mut self, class: &'static str) -> Self {
        self.class = class;
        self
    }

    /// Sends a value along.
    pub(crate) fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.hidden.push((name, value.into()));
        self
    }

    pub(crate) fn icon(mut self, name: &'static str) -> Self {
        self.icon = Some(Icon(name));
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_print_themselves() {
        insta::assert_snapshot!(Standing::bad("Not heard for 9 s").wraps(), @r#"<span class="state bad wraps">Not heard for 9 s</span>"#);
        insta::assert_snapshot!(Badge::accent("vDC role"), @r#"<span class="badge accent">vDC role</span>"#);
        insta::assert_snapshot!(Post::to("/x", "Go").class("danger").with("host", "a"), @r#"<form class="inline" method="post" action="/x"><input type="hidden" name="host" value="a"><button class="btn danger" type="submit">Go</button></form>"#);
    }

    #[test]
    fn what_others_wrote_is_text() {
        let hostile = "<img src=x onerror=alert(1)>\"".to_owned();
        for html in [
            Standing::ok(hostile.clone()).to_string(),
            Badge::plain(hostile.clone()).to_string(),
            Post::to(hostile.clone(), hostile.clone()).with("a", hostile.clone()).to_string(),
        ] {
            assert!(!html.contains("<img") && !html.contains("\"\""), "{html}");
        }
    }
}
