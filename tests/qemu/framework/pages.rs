//! What a person does with the pages: read the console, sign in, choose a password.

use std::time::Duration;

use crate::{Browser, Machine, OrFail, Response, fail, poll_until, wait_until};

/// The account's name.
pub const ADMIN: &str = "admin";

/// Waits until the sign-in page is answered; returns the time since the machine was switched on.
#[track_caller]
pub fn wait_first_page(machine: &mut Machine, bound: Duration) -> Duration {
    let answered = poll_until(bound, || {
        if !machine.is_on() {
            fail("QEMU ended while the machine was booting.");
        }
        let answer = machine.trusting_browser().request("GET", "/sign-in", &[], b"").ok()?;
        (answer.status == 200).then_some(())
    });
    answered.or_fail(format!("The sign-in page was not answered within {} s.", bound.as_secs()));
    machine.uptime()
}

/// The first password, as the console shows it.
#[track_caller]
pub fn first_password(machine: &mut Machine) -> String {
    wait_until("the first password on the console", Duration::from_secs(90), || {
        find_first_password(&machine.console_screen())
    })
}

/// The word behind `First password` on a screen, once it is drawn to its end.
pub fn find_first_password(screen: &str) -> Option<String> {
    let line = screen.lines().find(|line| line.contains("First password"))?;
    let is_whole = |word: &&str| word.split('-').map(str::len).eq([5; 4]);
    line.split_whitespace().last().filter(is_whole).map(str::to_owned)
}

/// Sends name and password.
#[track_caller]
pub fn sign_in(browser: &mut Browser, password: &str) -> Response {
    browser.post("/sign-in", &[("username", ADMIN), ("password", password)])
}

/// Chooses a new password in the session the browser has.
#[track_caller]
pub fn change_password(browser: &mut Browser, current: &str, new: &str) -> Response {
    browser.post("/password", &[("current", current), ("new", new), ("again", new)])
}

/// The whole way from the console to the page behind the sign-in. Returns the browser, signed in.
#[track_caller]
pub fn sign_in_first_time(machine: &mut Machine, new: &str) -> Browser {
    let first = first_password(machine);
    let mut browser = machine.https();
    expect_redirect(&sign_in(&mut browser, &first), "/password");
    expect_redirect(&change_password(&mut browser, &first, new), "/overview");
    browser
}

/// Ends the case unless the answer leads to a page.
#[track_caller]
pub fn expect_redirect(answer: &Response, to: &str) {
    if answer.status != 303 || answer.location() != to {
        fail(format!(
            "Expected the way to {to}, got {} {:?}:\n{}",
            answer.status,
            answer.location(),
            answer.text()
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_password_is_the_word_behind_its_label() {
        let screen = "  Sign in as           admin\n  First password       abcde-fghjk-mnpqr-stuvw\n";
        assert_eq!(find_first_password(screen).as_deref(), Some("abcde-fghjk-mnpqr-stuvw"));
        assert_eq!(find_first_password("  First password       abcde-fghjk-mnp"), None);
        assert_eq!(find_first_password("  Sign in              with the password you chose"), None);
    }
}
