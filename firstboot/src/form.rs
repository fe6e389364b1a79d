//! What a person can do at the machine itself: a few lines to fill in, and what came of it.

use quantix_api::{
    AgentClient, CallError, ConsoleView, JoinCluster, Problem, RemoveHost, Secret, SignIn, calls,
};
use ratatui::{
    Frame,
    crossterm::event::{KeyCode, KeyEvent, KeyModifiers},
    layout::{Constraint, Layout},
    style::{Style, Stylize},
    text::{Line, Span},
    widgets::{Paragraph, Wrap},
};

/// The longest that anybody types here.
const LONGEST: usize = 256;
const LABEL: usize = 19;

/// What can be done here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Deed {
    /// The host joins the cluster of another.
    Join,
    /// It goes on without hosts that are lost for good.
    GoOnAlone,
}

/// What a key has come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// There is more to type.
    Stay,
    /// It was given up.
    Close,
    /// It shall be done.
    Submit,
}

#[derive(Debug)]
struct Field {
    /// Its name in the API.
    name: &'static str,
    label: &'static str,
    value: String,
    is_secret: bool,
}

impl Field {
    fn new(name: &'static str, label: &'static str) -> Self {
        Self { name, label, value: String::new(), is_secret: false }
    }
}

/// A deed, and what was typed for it so far.
#[derive(Debug)]
pub(crate) struct Form {
    deed: Deed,
    fields: Vec<Field>,
    /// The password that the screen shows anyway.
    first_password: Option<Secret>,
    at: usize,
    /// What came of it, and whether it was done.
    said: Option<(String, bool)>,
}

impl Deed {
    /// What a key stands for on a host as it is now.
    pub(crate) fn of(key: KeyCode, console: &ConsoleView) -> Option<Self> {
        Self::possible(console).filter(|deed| deed.key() == key)
    }

    /// What can be done on a host as it is now.
    pub(crate) fn possible(console: &ConsoleView) -> Option<Self> {
        let cluster = console.cluster.as_ref()?;
        match (cluster.hosts, cluster.writable) {
            (1, true) => Some(Self::Join),
            (2.., false) => Some(Self::GoOnAlone),
            _ => None,
        }
    }

    fn key(self) -> KeyCode {
        match self {
            Self::Join => KeyCode::F(3),
            Self::GoOnAlone => KeyCode::F(8),
        }
    }

    /// The key and what it does, for the screen's title.
    pub(crate) fn hint(self) -> &'static str {
        match self {
            Self::Join => "F3 join a cluster",
            Self::GoOnAlone => "F8 go on alone",
        }
    }

    fn title(self) -> &'static str {
        match self {
            Self::Join => "Join a cluster",
            Self::GoOnAlone => "Go on without the other hosts",
        }
    }

    fn explanation(self) -> &'static str {
        match self {
            Self::Join => {
                "On a host of the cluster, open Cluster, Add a host: it shows an address and a token. This host then \
                 starts again as a member, with the cluster's passwords instead of its own."
            }
            Self::GoOnAlone => {
                "Only if the other hosts will never come back. What only they had is lost, and they are refused \
                 should they return. Starting one of them again is always the better way."
            }
        }
    }
}

impl Form {
    /// An empty one. A password is asked for unless the screen shows it anyway.
    pub(crate) fn new(deed: Deed, console: &ConsoleView) -> Self {
        let mut fields = match deed {
            Deed::Join => vec![Field::new("address", "Address"), Field::new("token", "Token")],
            Deed::GoOnAlone => vec![Field::new("name", "This host's name")],
        };
        if console.first_password.is_none() {
            fields.push(Field { value: "admin".into(), ..Field::new("username", "User") });
            fields.push(Field { is_secret: true, ..Field::new("password", "Password") });
        }
        Self { deed, fields, first_password: console.first_password.clone(), at: 0, said: None }
    }

    /// Takes a key.
    pub(crate) fn key(&mut self, key: KeyEvent) -> Step {
        if self.is_done() {
            return Step::Close;
        }
        match key.code {
            KeyCode::Esc => return Step::Close,
            KeyCode::Enter if self.at + 1 == self.fields.len() => return Step::Submit,
            KeyCode::Enter | KeyCode::Tab | KeyCode::Down => self.at = (self.at + 1) % self.fields.len(),
            KeyCode::BackTab | KeyCode::Up => {
                self.at = (self.at + self.fields.len() - 1) % self.fields.len();
            }
            KeyCode::Backspace => drop(self.value().pop()),
            KeyCode::Char('u') if key.modifiers.contains(KeyModifiers::CONTROL) => self.value().clear(),
            KeyCode::Char(letter)
                if !key.modifiers.contains(KeyModifiers::CONTROL) && self.value().len() < LONGEST =>
            {
                self.value().push(letter);
            }
            _ => {}
        }
        Step::Stay
    }

    fn value(&mut self) -> &mut String {
        &mut self.fields[self.at].value
    }

    fn typed(&self, name: &str) -> String {
        self.fields
            .iter()
            .find(|field| field.name == name)
            .map(|field| field.value.clone())
            .unwrap_or_default()
    }

    /// Says that it is under way.
    pub(crate) fn wait(&mut self) {
        self.said = Some(("One moment.".into(), false));
    }

    /// Does it, as the administrator.
    pub(crate) async fn submit(&mut self, agent: &AgentClient) {
        self.said = Some(match self.try_to(agent).await {
            Ok(done) => (done.into(), true),
            Err(CallError::Problem(problem)) => {
                self.go_to(&problem);
                (problem.detail, false)
            }
            Err(error) => (error.to_string(), false),
        });
    }

    async fn try_to(&self, agent: &AgentClient) -> Result<&'static str, CallError> {
        let password = self.first_password.clone().unwrap_or_else(|| Secret::new(self.typed("password")));
        let username = if self.first_password.is_some() { "admin".into() } else { self.typed("username") };
        let session = agent.call(&calls::sign_in(&SignIn { username, password })).await?;
        match self.deed {
            Deed::Join => {
                let join =
                    JoinCluster { address: self.typed("address"), token: Secret::new(self.typed("token")) };
                agent.call(&calls::join(&join).as_session(&session.token)).await?;
                Ok("This host joins. It starts again as a member, which takes some seconds.")
            }
            Deed::GoOnAlone => {
                let named = RemoveHost { name: self.typed("name") };
                agent.call(&calls::recover(&named).as_session(&session.token)).await?;
                Ok("This host goes on alone. It starts again, which takes some seconds.")
            }
        }
    }

    /// Goes to the line that a problem is about.
    fn go_to(&mut self, problem: &Problem) {
        let field = problem.field.as_deref();
        let at = self.fields.iter().position(|known| Some(known.name) == field);
        self.at = at.unwrap_or(self.at);
    }

    /// Draws the whole screen.
    pub(crate) fn draw(&self, frame: &mut Frame<'_>) {
        let [title, _, explanation, fields, said, footer] = Layout::vertical([
            Constraint::Length(1),
            Constraint::Length(1),
            Constraint::Length(5),
            Constraint::Length(u16::try_from(self.fields.len() + 1).unwrap_or(u16::MAX)),
            Constraint::Min(4),
            Constraint::Length(1),
        ])
        .areas(frame.area());
        frame.render_widget(
            Line::from(format!(" {}", self.deed.title())).bold().style(Style::new().white().on_blue()),
            title,
        );
        let margin =
            |area| Layout::horizontal([Constraint::Length(2), Constraint::Min(1)]).areas::<2>(area)[1];
        let text = Paragraph::new(self.deed.explanation()).wrap(Wrap { trim: true });
        frame.render_widget(text, margin(explanation));
        let lines: Vec<_> = self.fields.iter().enumerate().map(|(at, field)| self.line(at, field)).collect();
        frame.render_widget(Paragraph::new(lines), fields);
        if let Some((sentence, is_done)) = &self.said {
            let text = Paragraph::new(sentence.as_str()).wrap(Wrap { trim: true }).bold();
            frame.render_widget(if *is_done { text.green() } else { text.yellow() }, margin(said));
        }
        frame.render_widget(Line::from(self.keys()).gray(), footer);
    }

    fn line(&self, at: usize, field: &Field) -> Line<'static> {
        let shown =
            if field.is_secret { "*".repeat(field.value.chars().count()) } else { field.value.clone() };
        let label = Span::from(format!("  {:<LABEL$}  ", field.label));
        if at == self.at && !self.is_done() {
            Line::from(vec![label.bold(), Span::from(shown).bold(), Span::from("_").bold()])
        } else {
            Line::from(vec![label.gray(), Span::from(shown)])
        }
    }

    fn is_done(&self) -> bool {
        self.said.as_ref().is_some_and(|(_, is_done)| *is_done)
    }

    fn keys(&self) -> &'static str {
        match (self.is_done(), self.at + 1 == self.fields.len(), self.deed) {
            (true, ..) => " Any key: back",
            (false, false, _) => " Enter: next line   Esc: back",
            (false, true, Deed::Join) => " Enter: join   Esc: back",
            (false, true, Deed::GoOnAlone) => " Enter: go on alone   Esc: back",
        }
    }
}

#[cfg(test)]
mod tests {
    use quantix_api::ConsoleCluster;
    use ratatui::{Terminal, backend::TestBackend};

    use super::*;
    use crate::view::tests::console;

    fn at(hosts: u32, writable: bool, first_password: Option<&str>) -> ConsoleView {
        let mut console = console(vec![], first_password, vec![]);
        console.cluster = Some(ConsoleCluster { hosts, writable });
        console
    }

    fn type_in(form: &mut Form, text: &str) {
        for letter in text.chars() {
            assert_eq!(form.key(KeyCode::Char(letter).into()), Step::Stay);
        }
    }

    fn screen(form: &Form) -> String {
        let mut terminal = Terminal::new(TestBackend::new(80, 24)).unwrap();
        terminal.draw(|frame| form.draw(frame)).unwrap();
        terminal.backend().to_string()
    }

    #[test]
    fn a_host_alone_may_join_and_one_without_the_others_may_go_on() {
        assert_eq!(Deed::of(KeyCode::F(3), &at(1, true, None)), Some(Deed::Join));
        assert_eq!(Deed::of(KeyCode::F(3), &at(2, true, None)), None);
        assert_eq!(Deed::of(KeyCode::F(8), &at(3, false, None)), Some(Deed::GoOnAlone));
        assert_eq!(Deed::of(KeyCode::F(8), &at(3, true, None)), None);
        assert_eq!(Deed::of(KeyCode::F(8), &at(1, false, None)), None);
    }

    #[test]
    fn lines_are_typed_one_after_the_other() {
        let mut form = Form::new(Deed::Join, &at(1, true, Some("abcde")));
        type_in(&mut form, "192.0.2.77");
        form.key(KeyCode::Backspace.into());
        assert_eq!(form.key(KeyCode::Enter.into()), Step::Stay);
        type_in(&mut form, "wrong");
        form.key(KeyEvent::new(KeyCode::Char('u'), KeyModifiers::CONTROL));
        type_in(&mut form, "QUANTIX-1");
        insta::assert_snapshot!(screen(&form));
        assert_eq!((form.typed("address"), form.typed("token")), ("192.0.2.7".into(), "QUANTIX-1".into()));
        assert_eq!(form.key(KeyCode::Enter.into()), Step::Submit);
        assert_eq!(form.key(KeyCode::Esc.into()), Step::Close);
    }

    #[test]
    fn a_password_is_not_shown_and_a_refusal_is() {
        let mut form = Form::new(Deed::GoOnAlone, &at(3, false, None));
        type_in(&mut form, "quantix-000001");
        form.key(KeyCode::Tab.into());
        form.key(KeyCode::Tab.into());
        type_in(&mut form, "secret");
        let problem =
            Problem::new(quantix_api::ProblemCode::Invalid, "Type this host's name.").in_field("name");
        form.go_to(&problem);
        form.said = Some((problem.detail, false));
        let screen = screen(&form);
        assert!(!screen.contains("secret"), "{screen}");
        insta::assert_snapshot!(screen);
        assert_eq!(form.at, 0);
    }

    #[test]
    fn what_is_typed_is_bounded() {
        let mut form = Form::new(Deed::Join, &at(1, true, None));
        type_in(&mut form, &"a".repeat(LONGEST + 10));
        assert_eq!(form.typed("address").len(), LONGEST);
    }
}
