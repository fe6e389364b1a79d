//! One window of one browser, and what a person does there.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::{
    browser::Browser,
    driver::{Element, Window},
    host::{NAME, PASSWORD},
    wait::Patience,
};

const FIND: &str = include_str!("find.js");

/// One tab of a window.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tab(String);

/// How often something is looked for that is just being drawn anew.
const MOST_LOOKS: usize = 20;

/// A window, and where the pages are that it looks at.
#[derive(Debug)]
pub struct Screen {
    /// The browser it is a window of.
    pub browser: Arc<Browser>,
    pub(crate) window: Window,
    origin: String,
    patience: Patience,
}

impl Screen {
    /// A window with cookies of its own. An origin is what stands before every path; whoever sits there waits so long for everything.
    pub async fn at(origin: String, patience: Patience, browser: &Arc<Browser>) -> Self {
        Self { window: browser.window().await, browser: Arc::clone(browser), origin, patience }
    }

    /// Signs in as the administrator.
    pub async fn sign_in(&self) {
        self.sign_in_as(NAME, PASSWORD).await;
        self.is_at("/overview").await;
    }

    /// Fills in the form of the sign-in page and sends it.
    pub async fn sign_in_as(&self, name: &str, password: &str) {
        self.open("/sign-in").await;
        self.fill("Name", name).await;
        self.fill("Password", password).await;
        self.press("Sign in").await;
    }

    /// Opens an address of the host, as one that is typed into the address bar.
    pub async fn open(&self, path: &str) {
        self.open_elsewhere(&format!("{}{path}", self.origin)).await;
    }

    /// Opens a page that is not the host's.
    pub async fn open_elsewhere(&self, url: &str) {
        self.window.post("url", &json!({ "url": url })).await.unwrap();
    }

    /// Signs out, in the menu of the account.
    pub async fn sign_out(&self) {
        self.press("Your account").await;
        self.press("Sign out").await;
        self.is_at("/sign-in").await;
    }

    /// The path and the query that the address bar shows.
    pub async fn address(&self) -> String {
        let url = self.window.get("url").await.unwrap();
        let url = url.as_str().unwrap();
        url.strip_prefix(&self.origin).unwrap_or(url).to_owned()
    }

    /// Waits until the address bar shows this path; what comes behind a `?` does not count.
    pub async fn is_at(&self, path: &str) {
        let is_there = async || (self.address().await.split('?').next() == Some(path)).then_some(());
        if self.patience.wait_or_give_up(is_there).await.is_none() {
            self.gives_up(&format!("the browser is at {path}")).await;
        }
    }

    /// Waits until this is the page's heading.
    pub async fn heading(&self, text: &str) {
        self.until_true(
            &format!("the page is called {text}"),
            "return nameOf(document.querySelector('h1') ?? document.body) === arguments[0]",
            text,
        )
        .await;
    }

    /// Waits until this can be read on the page.
    pub async fn sees(&self, text: &str) {
        let script = "return tidy(document.body.innerText).includes(arguments[0])";
        self.until_true(&format!("“{text}” can be read"), script, text).await;
    }

    /// Waits until this can no longer be read on the page.
    pub async fn sees_no_longer(&self, text: &str) {
        let script = "return !tidy(document.body.innerText).includes(arguments[0])";
        self.until_true(&format!("“{text}” is gone"), script, text).await;
    }

    /// Waits until a button, link, field, heading, dialog or item with this name is there.
    pub async fn shows(&self, role: &str, name: &str) {
        drop(self.find(role, name).await);
    }

    /// Whether there is one now.
    pub async fn has(&self, role: &str, name: &str) -> bool {
        self.ask("return find(arguments[0], arguments[1]) !== null", &[role, name])
            .await
            .is_ok_and(|found| found == json!(true))
    }

    /// Puts text into the field with this label.
    pub async fn fill(&self, label: &str, text: &str) {
        let field = self.find("field", label).await;
        self.window.clear(&field).await.unwrap();
        self.window.type_into(&field, text).await.unwrap();
    }

    /// Puts text into every field of the form that this button sends, past what the fields themselves would refuse, sends
    /// it, and waits for the page that answers.
    pub async fn send_everywhere(&self, text: &str, button: &str) {
        self.shows("button", button).await;
        let script = r#"
            const form = find("button", arguments[1]).form;
            form.noValidate = true;
            for (const field of form.elements) {
                if (!field.matches("input:not([type=hidden], [type=checkbox], [type=file], [type=number]), textarea")) continue;
                if (field.type !== "password") field.removeAttribute("type");
                field.removeAttribute("maxlength");
                field.value = arguments[0];
            }
            return true;"#;
        self.ask(script, &[text, button]).await.unwrap();
        self.marks_the_page().await;
        self.press(button).await;
        let script = "return document.readyState === 'complete' && !window.wasMarked";
        self.until_true(&format!("{button} is answered"), script, "").await;
    }

    /// Chooses in the field with this label.
    pub async fn choose(&self, label: &str, option: &str) {
        self.choose_where(label, "===", option).await;
    }

    /// Chooses the first that begins so.
    pub async fn choose_what_begins_with(&self, label: &str, option: &str) {
        self.choose_where(label, ".startsWith", option).await;
    }

    async fn choose_where(&self, label: &str, compares: &str, option: &str) {
        let script = format!(
            "const field = find('field', arguments[0]);
             return [...field.options].find((one) => tidy(one.textContent){compares}(arguments[1])) ?? null;"
        );
        self.shows("field", label).await;
        let found = self.ask(&script, &[label, option]).await.unwrap();
        let option = Element::returned(&found).expect("the option is there");
        self.window.click(&option).await.unwrap();
    }

    /// Presses the button on which this is written.
    pub async fn press(&self, name: &str) {
        self.click("button", name).await;
    }

    /// Ticks the box beside which this is written, or takes the tick away.
    pub async fn tick(&self, label: &str) {
        self.click("field", label).await;
    }

    /// Follows the link on which this is written.
    pub async fn follow(&self, name: &str) {
        self.click("link", name).await;
    }

    /// A part of the page may be drawn anew between the look and the click; whoever sees that clicks again.
    async fn click(&self, role: &str, name: &str) {
        for _ in 0..MOST_LOOKS {
            let thing = self.find(role, name).await;
            match self.window.click(&thing).await {
                Err(why) if why.contains("stale element reference") => {}
                clicked => return drop(clicked.unwrap()),
            }
        }
        panic!("the {role} “{name}” is drawn anew all the time");
    }

    /// What a script says inside the first frame of the page.
    pub async fn in_first_frame(&self, script: &str) -> String {
        self.window.post("frame", &json!({ "id": 0 })).await.unwrap();
        let said = self.window.execute(script, &[]).await.unwrap();
        self.window.post("frame/parent", &json!({})).await.unwrap();
        said.as_str().unwrap_or_default().to_owned()
    }

    /// Goes back.
    pub async fn back(&self) {
        self.window.post("back", &json!({})).await.unwrap();
    }

    /// Goes forward.
    pub async fn forward(&self) {
        self.window.post("forward", &json!({})).await.unwrap();
    }

    /// Loads the page again.
    pub async fn reload(&self) {
        self.window.post("refresh", &json!({})).await.unwrap();
    }

    /// Leaves a mark on the page that goes when it is loaded again.
    pub async fn marks_the_page(&self) {
        self.ask("window.wasMarked = true; return true", &[]).await.unwrap();
    }

    /// Whether the mark is there.
    pub async fn is_still_marked(&self) -> bool {
        self.ask("return window.wasMarked === true", &[]).await.unwrap() == json!(true)
    }

    /// Opens a second tab, which has the same cookies, and goes there.
    pub async fn new_tab(&self) -> Tab {
        let made = self.window.post("window/new", &json!({ "type": "tab" })).await.unwrap();
        let tab = Tab(made["handle"].as_str().unwrap().to_owned());
        self.go_to_tab(&tab).await;
        tab
    }

    /// The tab that is in front.
    pub async fn tab(&self) -> Tab {
        Tab(self.window.get("window").await.unwrap().as_str().unwrap().to_owned())
    }

    /// Brings a tab to the front.
    pub async fn go_to_tab(&self, tab: &Tab) {
        self.window.post("window", &json!({ "handle": tab.0 })).await.unwrap();
    }

    /// Switches JavaScript off, as a person can in the settings of the browser.
    pub async fn without_scripts(&self) {
        self.devtools("Emulation.setScriptExecutionDisabled", json!({ "value": true })).await;
    }

    /// The value of one of our cookies.
    pub async fn cookie(&self, name: &str) -> Option<String> {
        let cookie = self.window.get(&format!("cookie/{name}")).await.ok()?;
        cookie["value"].as_str().map(str::to_owned)
    }

    /// Sends a command of the DevTools protocol.
    pub async fn devtools(&self, command: &str, parameters: Value) -> Value {
        let body = json!({ "cmd": command, "params": parameters });
        self.window.post("goog/cdp/execute", &body).await.unwrap()
    }

    /// What went wrong in the eyes of the browser since it was asked last: exceptions, what the policy refused, what
    /// could not be loaded.
    pub async fn complaints(&self) -> Vec<String> {
        let said = self.window.post("se/log", &json!({ "type": "browser" })).await.unwrap();
        let said = said.as_array().into_iter().flatten();
        let bad = said.filter(|line| matches!(line["level"].as_str(), Some("SEVERE" | "WARNING")));
        bad.map(|line| line["message"].as_str().unwrap_or_default().to_owned()).collect()
    }

    /// Asks the page, with the words of `find.js` at hand.
    pub async fn ask(&self, script: &str, arguments: &[&str]) -> Result<Value, String> {
        self.window.execute(&format!("{FIND}\n{script}"), arguments).await
    }

    /// Waits until the page answers yes. A page that is on its way to the next one answers later.
    pub async fn until_true(&self, what: &str, script: &str, argument: &str) {
        let is_so =
            async || self.ask(script, &[argument]).await.is_ok_and(|said| said == json!(true)).then_some(());
        if self.patience.wait_or_give_up(is_so).await.is_none() {
            self.gives_up(what).await;
        }
    }

    /// What was waited for did not come; this came instead.
    async fn gives_up(&self, what: &str) -> ! {
        let (address, page) = (self.address().await, self.ask("return document.body.innerText", &[]).await);
        panic!("it did not come to this: {what}. At {address} stands:\n{}", page.unwrap_or_default());
    }

    async fn find(&self, role: &str, name: &str) -> Element {
        let script = "return find(arguments[0], arguments[1])";
        let found = async || Element::returned(&self.ask(script, &[role, name]).await.ok()?);
        match self.patience.wait_or_give_up(found).await {
            Some(found) => found,
            None => self.gives_up(&format!("there is a {role} “{name}”")).await,
        }
    }
}
