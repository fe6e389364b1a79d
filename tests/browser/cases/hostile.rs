//! What somebody may write into a field, an address or a page of their own to do harm with it.

use quantix_api::{NewGroup, calls};
use quantix_browser::{Desk, Elsewhere, LOOKS};

/// Markup that runs if it is taken for markup, text that is longer than anybody meant, and letters that turn around.
const HOSTILE: &[&str] = &[
    "<img src=x onerror=alert(1)>",
    "\"><script>alert(1)</script>",
    "' autofocus onfocus='alert(1)",
    "</title></style></textarea><svg onload=alert(1)>",
    "{{1337*1337}} ${1337*1337} <%= 1337*1337 %> #{1337*1337}",
    "javascript:alert(1)",
    "\u{202e}gnp.exe \u{2066}\u{200f}שלום\u{2069}",
    "🧨👩‍👩‍👧‍👦 Z̸̢̙͔͎͌͛̿a̵̜͐l̶̰̈g̴̼̈́o̶͖͝",
];

/// 10,000 letters without a place to break.
fn endless() -> String {
    "W".repeat(10_000)
}

/// Forms, and the button that sends each.
const FORMS: &[(&str, &str)] = &[
    ("/users", "Add"),
    ("/users", "Find"),
    ("/groups", "Make"),
    ("/groups/night-shift", "Save"),
    ("/roles/new", "Make the role"),
    ("/account", "Make a token"),
    ("/cluster/add", "Make a token"),
    ("/cluster/join", "Join"),
    ("/activity", "Find"),
    ("/activity/tasks", "Find"),
    ("/activity/events", "Find"),
    ("/hosts", "Find"),
    ("/settings/sign-in", "Save"),
    ("/settings/syslog", "Save"),
    ("/settings/certificate/{host}/acme", "Get a certificate"),
    ("/settings/certificate/{host}/request", "Make the request"),
    ("/password", "Save and continue"),
];

#[tokio::test]
async fn what_is_written_into_fields_is_shown_as_text() {
    let endless = endless();
    let texts = || HOSTILE.iter().copied().chain([endless.as_str(), "a\u{0}b\u{7f}c"]);
    let desk = Desk::start().await;
    let session = desk.host.session().await;
    let cluster = desk.host.agent().call(&calls::cluster().as_session(&session)).await.unwrap();
    let group = NewGroup { name: "night-shift".into(), purpose: String::new(), provider_name: None };
    desk.host.agent().call(&calls::make_group(&group).as_session(&session)).await.unwrap();
    desk.look_as(LOOKS[2]).await;
    // Whoever guesses often waits, and so would those who know.
    for text in texts().take(3) {
        desk.open("/sign-in").await;
        desk.send_everywhere(text, "Sign in").await;
        holds(&desk, "the sign-in", text).await;
    }
    desk.sign_in().await;
    // Each form is sent half of the texts, and the next one the other half; a word without an end is sent to all.
    for (number, (path, button)) in FORMS.iter().enumerate() {
        let path = path.replace("{host}", &cluster.this_host);
        let half =
            texts().enumerate().filter(|(at, text)| at % 2 == number % 2 || text.len() == endless.len());
        for (_, text) in half {
            desk.open(&path).await;
            desk.send_everywhere(text, button).await;
            holds(&desk, &format!("{path}, {button}"), text).await;
        }
    }
    // What was kept of it stands in lists, and on the phone beside everything else.
    for look in [LOOKS[0], LOOKS[2]] {
        desk.look_as(look).await;
        for path in [
            "/cluster",
            "/activity",
            "/users",
            "/groups",
            "/account",
            "/settings/sign-in",
            "/settings/syslog",
        ] {
            desk.open(path).await;
            holds(&desk, path, "everything kept").await;
            desk.picture(&format!("hostile{}.{}", path.replace('/', "-"), look.name)).await;
        }
    }
}

#[tokio::test]
async fn what_is_written_into_addresses_is_shown_as_text() {
    let desk = Desk::start().await;
    desk.sign_in().await;
    desk.look_as(LOOKS[2]).await;
    for text in HOSTILE {
        let text: String = text.bytes().map(|byte| format!("%{byte:02x}")).collect();
        for path in ["/", "/users/", "/activity?text=", "/sign-in?next=", "/cluster/hosts/"] {
            desk.open(&format!("{path}{text}")).await;
            holds(&desk, path, &text).await;
        }
    }
}

/// No element came from what was written, nothing ran, and the page is as wide as the screen.
async fn holds(desk: &Desk, place: &str, text: &str) {
    let found = wrong(desk, place, text).await;
    assert!(found.is_empty(), "{found:#?}");
}

/// What is not so.
pub(crate) async fn wrong(desk: &Desk, place: &str, text: &str) -> Vec<String> {
    let short: String = text.chars().take(40).collect();
    let script = r#"
        const ran = document.querySelector("[onerror], [onload], [onfocus], img[src='x'], script:not([src])");
        if (ran) return ran.outerHTML;
        if (/1787569/.test(document.body.innerText) && arguments[0].includes("1337*1337")) return "1787569";
        return "";"#;
    let found = desk.ask(script, &[text]).await.unwrap();
    let mut findings = desk.oddities().await;
    findings.retain(|line| !line.contains("a status of 4"));
    if found != "" {
        findings.push(format!("this was taken for something else than text: {found}"));
    }
    findings.into_iter().map(|line| format!("{place} with “{short}”: {line}")).collect()
}

#[tokio::test]
async fn a_form_on_a_foreign_page_does_nothing_here() {
    let desk = Desk::start().await;
    desk.sign_in().await;
    let page = |action: &str| {
        format!(
            "<form method=post action='{}{action}'><input name=username value=mallory><input name=role value=administrator>\
             <button>Win a prize</button></form>",
            desk.host.origin()
        )
    };
    for action in ["/users", "/sign-out", "/users/admin/sign-out"] {
        let elsewhere = Elsewhere::with(&page(action)).await;
        desk.open_elsewhere(&elsewhere.url()).await;
        desk.press("Win a prize").await;
        desk.heading("Sent from elsewhere").await;
        // A page without an origin of its own.
        let hidden = page(action).replace('\'', "%27").replace('#', "%23");
        desk.open_elsewhere(&format!("data:text/html,{hidden}")).await;
        desk.press("Win a prize").await;
        desk.heading("Sent from elsewhere").await;
    }
    desk.open("/users").await;
    desk.heading("Users").await;
    desk.sees_no_longer("mallory").await;
}

#[tokio::test]
async fn a_foreign_page_cannot_show_ours_in_a_frame() {
    let desk = Desk::start().await;
    desk.sign_in().await;
    for path in ["/overview", "/users/admin", "/sign-in", "/nowhere"] {
        let frame = format!("<h1>Puppies</h1><iframe src='{}{path}'></iframe>", desk.host.origin());
        let elsewhere = Elsewhere::with(&frame).await;
        desk.open_elsewhere(&elsewhere.url()).await;
        desk.heading("Puppies").await;
        let shown = desk.in_first_frame("return location.href + ' ' + document.body.innerText").await;
        assert!(shown.starts_with("chrome-error:"), "{path} is shown in a frame: {shown}");
    }
}

/// Somebody who can set a cookie, from a page of the same name for example, does not know the session that follows.
#[tokio::test]
async fn a_session_that_was_there_before_signing_in_is_not_the_one_after() {
    let desk = Desk::start().await;
    desk.sign_in().await;
    let first = desk.cookie("__Host-quantix").await.unwrap();
    desk.sign_in().await;
    let second = desk.cookie("__Host-quantix").await.unwrap();
    assert_ne!(first, second);
    let seen = desk.ask("return document.cookie", &[]).await.unwrap();
    assert_eq!(seen, "", "scripts can read the cookie");
}
