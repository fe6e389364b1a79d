//! A field of a form: its label, what it takes, a hint, and what was wrong with it. The rules here are for the browser
//! to check early; the agent's hold.

use std::fmt::Display;

use askama::{Template, filters::HtmlSafe};
use quantix_api::Problem;

use super::Icon;

#[derive(Debug, PartialEq, Eq)]
enum Kind {
    /// One line, of the type HTML knows it by.
    Line(&'static str),
    /// Several lines.
    Lines(u8),
    /// One of several: value and title.
    Choice(Vec<(String, String)>),
    /// Yes or no.
    Check,
}

/// A field. Built in the template that shows it: `{{ Field::text("purpose", "What for").most(200).told(problem) }}`.
#[derive(Debug, Template)]
#[template(path = "components/field.html")]
pub(crate) struct Field {
    kind: Kind,
    name: &'static str,
    label: String,
    /// A part of the label in bold monospace: the name to be typed.
    label_name: String,
    value: String,
    hint: &'static str,
    error: Option<String>,
    placeholder: &'static str,
    autocomplete: &'static str,
    accept: &'static str,
    least: Option<u32>,
    most: Option<u32>,
    mono: bool,
    raw: bool,
    required: bool,
    focus: bool,
    disabled: bool,
    checked: bool,
}

impl HtmlSafe for Field {}

impl Field {
    fn new(kind: Kind, name: &'static str, label: impl Into<String>) -> Self {
        Self {
            kind,
            name,
            label: label.into(),
            label_name: String::new(),
            value: String::new(),
            hint: "",
            error: None,
            placeholder: "",
            autocomplete: "",
            accept: "",
            least: None,
            most: None,
            mono: false,
            raw: false,
            required: true,
            focus: false,
            disabled: false,
            checked: false,
        }
    }

    /// One line of text.
    pub(crate) fn text(name: &'static str, label: &str) -> Self {
        Self::new(Kind::Line("text"), name, label)
    }

    /// A name, an address, a token: characters as they are, in monospace, untouched by the keyboard of a phone.
    pub(crate) fn code(name: &'static str, label: &str) -> Self {
        let mut field = Self::new(Kind::Line("text"), name, label);
        field.mono = true;
        field.raw = true;
        field.autocomplete = "off";
        field
    }

    /// A password; what was typed does not come back.
    pub(crate) fn password(name: &'static str, label: &str, autocomplete: &'static str) -> Self {
        let mut field = Self::new(Kind::Line("password"), name, label).most(512);
        field.autocomplete = autocomplete;
        field
    }

    /// A whole number from `least` to `most`.
    pub(crate) fn number(name: &'static str, label: &str, least: u32, most: u32) -> Self {
        Self::new(Kind::Line("number"), name, label).least(least).most(most)
    }

    /// A file. It can also be dropped there.
    pub(crate) fn file(name: &'static str, label: &str, accept: &'static str) -> Self {
        let mut field = Self::new(Kind::Line("file"), name, label);
        field.accept = accept;
        field
    }

    /// Several lines of text.
    pub(crate) fn lines(name: &'static str, label: &str, rows: u8) -> Self {
        Self::new(Kind::Lines(rows), name, label)
    }

    /// One of several, each with the value that is sent and the title that is shown.
    pub(crate) fn choice<V: Display, T: Display>(
        name: &'static str,
        label: &str,
        choices: impl AsRef<[(V, T)]>,
    ) -> Self {
        let choices = choices.as_ref().iter().map(|(value, title)| (value.to_string(), title.to_string()));
        Self::new(Kind::Choice(choices.collect()), name, label)
    }

    /// Yes or no; a box that is not ticked sends nothing.
    pub(crate) fn check(name: &'static str, label: &str, checked: bool) -> Self {
        let mut field = Self::new(Kind::Check, name, label).optional();
        field.value = "true".to_owned();
        field.checked = checked;
        field
    }

    /// The name of a thing that is about to be lost, typed once more.
    pub(crate) fn confirmation(sentence: &str, expected: &str) -> Self {
        let mut field = Self::code("name", sentence).most(64).focus();
        expected.clone_into(&mut field.label_name);
        field
    }

    pub(crate) fn value(mut self, value: impl Display) -> Self {
        self.value = value.to_string();
        self
    }

    pub(crate) fn hint(mut self, hint: &'static str) -> Self {
        self.hint = hint;
        self
    }

    /// What was wrong, if it was with this field.
    pub(crate) fn told(mut self, problem: &Option<Problem>) -> Self {
        self.error = problem.as_ref().and_then(|problem| problem.about(self.name)).map(str::to_owned);
        self
    }

    pub(crate) fn placeholder(mut self, example: &'static str) -> Self {
        self.placeholder = example;
        self
    }

    pub(crate) fn autocomplete(mut self, what: &'static str) -> Self {
        self.autocomplete = what;
        self
    }

    /// Is left as it is typed: no capitals, no corrections.
    pub(crate) fn raw(mut self) -> Self {
        self.raw = true;
        self
    }

    /// The fewest characters, or the smallest number.
    pub(crate) fn least(mut self, least: u32) -> Self {
        self.least = Some(least);
        self
    }

    /// The most characters, or the greatest number.
    pub(crate) fn most(mut self, most: u32) -> Self {
        self.most = Some(most);
        self
    }

    /// May be left empty.
    pub(crate) fn optional(mut self) -> Self {
        self.required = false;
        self
    }

    /// Is where typing begins.
    pub(crate) fn focus(mut self) -> Self {
        self.focus = true;
        self
    }

    /// As [`Field::focus`], if so.
    pub(crate) fn focus_if(mut self, focus: bool) -> Self {
        self.focus = focus;
        self
    }

    pub(crate) fn disabled(mut self, disabled: bool) -> Self {
        self.disabled = disabled;
        self
    }

    fn describes(&self) -> bool {
        !self.hint.is_empty() || self.error.is_some()
    }

    fn is_number(&self) -> bool {
        self.kind == Kind::Line("number")
    }

    fn is_check(&self) -> bool {
        self.kind == Kind::Check
    }

    fn is_password(&self) -> bool {
        self.kind == Kind::Line("password")
    }

    /// Whether it is one that is just being chosen, and not the same once more.
    fn is_chosen(&self) -> bool {
        self.autocomplete == "new-password" && !self.name.ends_with("again")
    }
}

/// What was wrong with a form that none of its fields is about. A problem about a field that the form does not show is
/// said here too, so that none is ever lost.
#[derive(Debug, Template)]
#[template(
    ext = "html",
    source = r#"{% if let Some(sentence) = sentence %}<p class="notice bad" role="alert">{{ Icon("circle-alert") }}<span>{{ sentence }}</span></p>{% endif %}"#
)]
pub(crate) struct Fault {
    sentence: Option<String>,
}

impl HtmlSafe for Fault {}

impl Fault {
    pub(crate) fn of(problem: &Option<Problem>, fields: &[&str]) -> Self {
        let shown =
            |problem: &&Problem| problem.field.as_deref().is_none_or(|field| !fields.contains(&field));
        Self { sentence: problem.as_ref().filter(shown).map(|problem| problem.detail.clone()) }
    }
}

#[cfg(test)]
mod tests {
    use quantix_api::ProblemCode;

    use super::*;

    fn wrong(field: &str) -> Option<Problem> {
        Some(Problem::new(ProblemCode::Invalid, "“<b>” cannot be used.").in_field(field))
    }

    #[test]
    fn an_error_stands_beside_its_field_and_is_read_out_with_it() {
        let field =
            Field::code("username", "Name").value("<b>").most(32).hint("Letters.").told(&wrong("username"));
        insta::assert_snapshot!(field, @r#"<div class="field"><label for="username">Name</label><input class="input mono" id="username" name="username" type="text" value="&#60;b&#62;" autocapitalize="none" spellcheck="false" autocomplete="off" maxlength="32" required aria-invalid="true" aria-describedby="username-hint username-error"><span class="hint" id="username-hint">Letters.</span><span class="error" id="username-error" role="alert">“&#60;b&#62;” cannot be used.</span></div>"#);
        assert!(!Field::code("role", "Role").told(&wrong("username")).to_string().contains("error"));
    }

    #[test]
    fn kinds_of_fields() {
        let choice = Field::choice("hours", "For", [(1, "1 hour"), (24, "1 day")]).value(24);
        insta::assert_snapshot!(choice, @r#"<div class="field"><label for="hours">For</label><select class="input" id="hours" name="hours" required><option value="1">1 hour</option><option value="24" selected>1 day</option></select></div>"#);
        insta::assert_snapshot!(Field::check("locked", "Locked", true), @r#"<div class="field check"><input id="locked" name="locked" type="checkbox" value="true" checked><label for="locked">Locked</label></div>"#);
        insta::assert_snapshot!(Field::number("uses", "Uses", 1, 1000).value(2), @r#"<div class="field"><label for="uses">Uses</label><input class="input" id="uses" name="uses" type="number" value="2" min="1" max="1000" required></div>"#);
        insta::assert_snapshot!(Field::lines("chain", "Chain", 6).optional().value("</textarea>"), @r#"<div class="field"><label for="chain">Chain <span class="faint">optional</span></label><textarea class="input" id="chain" name="chain" rows="6">&#60;/textarea&#62;</textarea></div>"#);
        insta::assert_snapshot!(Field::confirmation("To go on, type", "qx-01"), @r#"<div class="field"><label for="name">To go on, type <b class="mono">qx-01</b></label><input class="input mono" id="name" name="name" type="text" autocapitalize="none" spellcheck="false" autocomplete="off" maxlength="64" required autofocus></div>"#);
        insta::assert_snapshot!(Field::file("backup", "Backup", ".age"), @r#"<div class="field"><label for="backup">Backup</label><input class="input" id="backup" name="backup" type="file" accept=".age" required></div>"#);
    }

    #[test]
    fn a_password_never_comes_back() {
        let field = Field::password("new", "New password", "new-password").value("secret");
        assert!(!field.to_string().contains("secret"));
        let shows = |field: Field| {
            let drawn = field.to_string();
            (drawn.contains("data-show"), drawn.contains("strength"))
        };
        assert_eq!(shows(field), (true, true));
        assert_eq!(shows(Field::password("again", "Again", "new-password")), (true, false));
        assert_eq!(shows(Field::password("password", "Password", "current-password")), (true, false));
        assert_eq!(shows(Field::text("name", "Name")), (false, false));
    }

    #[test]
    fn a_problem_of_no_field_or_of_one_that_is_not_shown_stands_above() {
        let none = Some(Problem::new(ProblemCode::Forbidden, "Only administrators may do this."));
        assert!(Fault::of(&none, &["name"]).to_string().contains("Only administrators"));
        assert!(Fault::of(&wrong("other"), &["name"]).to_string().contains("cannot be used"));
        assert_eq!(Fault::of(&wrong("name"), &["name"]).to_string(), "");
        assert_eq!(Fault::of(&None, &[]).to_string(), "");
    }
}
