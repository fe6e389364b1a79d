//! Hands on the keyboard alone.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::{Screen, until};

/// A key that is no letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    /// To the next thing.
    Tab,
    /// Does it.
    Enter,
    /// Does it, on a button.
    Space,
    /// Leaves it.
    Escape,
    /// The next in a list.
    Down,
    /// Held with others.
    Control,
    /// Held with others.
    Shift,
}

impl Key {
    /// The letter by which WebDriver knows it.
    fn letter(self) -> char {
        match self {
            Self::Tab => '\u{e004}',
            Self::Enter => '\u{e007}',
            Self::Space => ' ',
            Self::Escape => '\u{e00c}',
            Self::Down => '\u{e015}',
            Self::Control => '\u{e009}',
            Self::Shift => '\u{e008}',
        }
    }
}

/// Nothing is farther away than so many presses of Tab.
const MOST_STEPS: usize = 200;

/// Where the keyboard is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Focused {
    /// What kind of thing it is.
    pub role: String,
    /// What it is called.
    pub name: String,
    /// Whether a person can see that the keyboard is there.
    pub visible: bool,
}

impl Screen {
    /// Presses one key, wherever the keyboard is.
    pub async fn key(&self, key: Key) {
        self.chord(&[], key.letter()).await;
    }

    /// Presses a key while others are held.
    pub async fn chord(&self, held: &[Key], letter: char) {
        let down = |letter: char| json!({ "type": "keyDown", "value": letter.to_string() });
        let up = |letter: char| json!({ "type": "keyUp", "value": letter.to_string() });
        let mut strokes: Vec<Value> = held.iter().map(|key| down(key.letter())).collect();
        strokes.extend([down(letter), up(letter)]);
        strokes.extend(held.iter().rev().map(|key| up(key.letter())));
        self.strokes(strokes).await;
    }

    /// Types text, wherever the keyboard is.
    pub async fn types(&self, text: &str) {
        let stroke = |kind: &str, letter: char| json!({ "type": kind, "value": letter.to_string() });
        let both = |letter| [stroke("keyDown", letter), stroke("keyUp", letter)];
        self.strokes(text.chars().flat_map(both).collect()).await;
    }

    async fn strokes(&self, strokes: Vec<Value>) {
        let keyboard = json!({ "type": "key", "id": "keyboard", "actions": strokes });
        self.window.post("actions", &json!({ "actions": [keyboard] })).await.unwrap();
    }

    /// Where the keyboard is, if anywhere.
    pub async fn focused(&self) -> Option<Focused> {
        let found = self.ask("return focused()", &[]).await.ok()?;
        let text = |name: &str| found[name].as_str().map(str::to_owned);
        Some(Focused { role: text("role")?, name: text("name")?, visible: found["visible"] == json!(true) })
    }

    /// Waits until the keyboard is on what is called so.
    pub async fn until_focused(&self, name: &str) {
        let what = format!("the keyboard is on “{name}”");
        until(&what, async || self.focused().await.is_some_and(|at| at.name == name)).await;
    }

    /// Presses Tab until the keyboard is there. Wherever it comes by, a person must see where it is.
    pub async fn tab_to(&self, role: &str, name: &str) {
        let mut passed = Vec::new();
        for _ in 0..MOST_STEPS {
            match self.focused().await {
                Some(at) if at.role == role && at.name == name => {
                    assert!(at.visible, "nobody sees that the keyboard is on {at:?}");
                    return;
                }
                Some(at) => {
                    assert!(at.visible, "nobody sees that the keyboard is on {at:?}, on the way to {name}");
                    passed.push(format!("{} “{}”", at.role, at.name));
                }
                None => passed.push("nowhere".to_owned()),
            }
            self.key(Key::Tab).await;
        }
        panic!("Tab does not lead to the {role} “{name}”; it went by {}", passed.join(", "));
    }

    /// What Tab does not lead to, and what cannot be seen when it does; nothing, if a keyboard is enough for the page.
    pub async fn out_of_reach(&self) -> Vec<String> {
        let mut missed = self.missed_once_around().await;
        // A page is alive: what came or was renamed while the keyboard went by (“7 alarms”) is there the next time.
        for _ in 0..2 {
            if missed.is_empty() {
                break;
            }
            missed = self.missed_once_around().await;
        }
        missed
    }

    async fn missed_once_around(&self) -> Vec<String> {
        let order = self.tab_order().await;
        let script = r#"
            const all = document.querySelectorAll("a[href], button, input, select, textarea, summary");
            const counts = (one) => isSeen(one) && !one.matches(":disabled") && one.tabIndex >= 0 && one.getAttribute("role") !== "option";
            return [...all].filter(counts).map((one) => `${roleOf(one)} “${nameOf(one)}”`);"#;
        let there = self.ask(script, &[]).await.unwrap();
        let reached: BTreeSet<_> = order.iter().map(|at| format!("{} “{}”", at.role, at.name)).collect();
        let there = there.as_array().into_iter().flatten().filter_map(Value::as_str);
        let missed = there.filter(|thing| !reached.contains(*thing));
        let missed = missed.map(|thing| format!("Tab does not lead to the {thing}"));
        let unseen = order.iter().filter(|at| !at.visible);
        missed.chain(unseen.map(|at| format!("nobody sees that the keyboard is on {at:?}"))).collect()
    }

    /// Everything Tab leads to, once around.
    pub async fn tab_order(&self) -> Vec<Focused> {
        // From the top of the page, wherever the page itself put the keyboard.
        let blur = self
            .ask("document.activeElement?.blur(); getSelection().removeAllRanges(); return true", &[])
            .await;
        blur.unwrap();
        let mut order = Vec::new();
        let mut ends = 0;
        for _ in 0..MOST_STEPS {
            self.key(Key::Tab).await;
            match self.focused().await {
                Some(at) if order.first() == Some(&at) => break,
                Some(at) => order.push(at),
                // The browser's own bar lies between the end of a page and its begin; a page that put the keyboard into
                // a field is entered in its middle.
                None if ends == 0 => ends += 1,
                None => break,
            }
        }
        order
    }
}
