//! Ways through the pages: back, reload, addresses that were kept, two tabs, a lost connection, no JavaScript.

use quantix_browser::{Desk, Host, NAME, PASSWORD};

#[tokio::test]
async fn back_and_reload_do_what_a_person_expects() {
    let desk = Desk::start().await;
    desk.sign_in().await;
    desk.open("/users").await;
    desk.fill("Name", "grace").await;
    desk.press("Add").await;
    desk.heading("grace can sign in").await;
    desk.back().await;
    desk.heading("Users").await;
    desk.reload().await;
    desk.sees("grace").await;
    desk.follow("grace").await;
    desk.heading("grace").await;
    desk.back().await;
    desk.heading("Users").await;
    desk.forward().await;
    desk.heading("grace").await;
    desk.reload().await;
    desk.heading("grace").await;
}

#[tokio::test]
async fn an_address_that_was_kept_leads_there_after_signing_in() {
    let desk = Desk::start().await;
    desk.open("/activity?text=grace").await;
    desk.is_at("/sign-in").await;
    desk.fill("Name", NAME).await;
    desk.fill("Password", "not the password").await;
    desk.press("Sign in").await;
    desk.sees("wrong").await;
    desk.fill("Password", PASSWORD).await;
    desk.press("Sign in").await;
    desk.heading("Activity").await;
    assert_eq!(desk.address().await, "/activity?text=grace");
}

/// Our cookie is not sent when a link on another site is followed; the page comes anyway.
#[tokio::test]
async fn a_link_on_another_site_leads_to_the_page() {
    let desk = Desk::start().await;
    desk.sign_in().await;
    let link = format!("data:text/html,<a href='{}/cluster'>the cluster</a>", desk.host.origin());
    desk.open_elsewhere(&link).await;
    desk.follow("the cluster").await;
    desk.heading("Cluster").await;
    assert_eq!(desk.address().await, "/cluster");
}

#[tokio::test]
async fn who_signs_out_in_one_tab_is_signed_out_in_the_other() {
    let desk = Desk::start().await;
    desk.sign_in().await;
    let first = desk.tab().await;
    desk.new_tab().await;
    desk.open("/cluster").await;
    desk.heading("Cluster").await;
    desk.sign_out().await;
    desk.go_to_tab(&first).await;
    desk.follow("Activity").await;
    desk.is_at("/sign-in").await;
    // What was on the page before is not in the browser's memory of pages either.
    desk.back().await;
    desk.is_at("/sign-in").await;
}

#[tokio::test]
async fn a_session_that_was_ended_elsewhere_leads_to_sign_in_and_back() {
    let desk = Desk::start().await;
    desk.sign_in().await;
    desk.open("/cluster").await;
    let other = Desk::in_browser(&desk.host, &desk.browser).await;
    other.sign_in().await;
    other.open("/users/admin").await;
    other.press("Sign out everywhere").await;
    desk.open("/activity").await;
    desk.sees("Your session has ended").await;
    desk.fill("Name", NAME).await;
    desk.fill("Password", PASSWORD).await;
    desk.press("Sign in").await;
    desk.heading("Activity").await;
}

#[tokio::test]
async fn without_javascript_one_signs_in_reads_lists_and_sends_forms() {
    let desk = Desk::start().await;
    desk.without_scripts().await;
    desk.sign_in().await;
    desk.follow("Settings").await;
    desk.follow("Users").await;
    desk.heading("Users").await;
    desk.fill("Name", "grace").await;
    desk.choose("Role", "viewer").await;
    desk.press("Add").await;
    desk.heading("grace can sign in").await;
    desk.open("/users").await;
    desk.follow("grace").await;
    desk.heading("grace").await;
    desk.press("Lock").await;
    desk.sees("Locked").await;
    desk.follow("Activity").await;
    desk.heading("Activity").await;
    desk.follow("Log").await;
    desk.fill("Find in the log", "grace").await;
    desk.press("Find").await;
    desk.sees("grace").await;
    desk.follow("Cluster").await;
    desk.follow("Add a host").await;
    desk.fill("What for", "Third host in rack 4").await;
    desk.press("Make a token").await;
    desk.heading("Join token").await;
    desk.sign_out().await;
    desk.is_at("/sign-in").await;
}

#[tokio::test]
async fn the_first_visit_asks_for_a_password_of_ones_own() {
    let host = Host::start("qx-01").await;
    let first = host.first_password().await;
    let desk = Desk::at(&host).await;
    desk.open("/").await;
    desk.is_at("/sign-in").await;
    desk.sign_in_as(NAME, first.expose()).await;
    desk.heading("Choose a password").await;
    desk.fill("Present password", first.expose()).await;
    for (typed, told) in [
        ("Password1234", "Easy to guess"),
        ("aaaaaaaaaaaabbbbbbbbbbbb", "Easy to guess"),
        ("vq7Kd2mXw", "Could be guessed"),
        ("vq7Kd2mXwz4T", "Hard to guess"),
        (PASSWORD, "Very hard to guess"),
    ] {
        desk.fill("New password", typed).await;
        let is_told =
            "return document.querySelector('.strength').getAttribute('aria-label') === arguments[0]";
        desk.until_true(typed, is_told, told).await;
    }
    desk.fill("New password again", PASSWORD).await;
    // It can be looked at, and is hidden again when it goes, or the browser would keep it.
    let is_shown = "return document.getElementById('new').type === arguments[0]";
    desk.press("Show new password").await;
    desk.until_true("it is shown", is_shown, "text").await;
    desk.picture("password-shown.light").await;
    desk.press("Show new password").await;
    desk.until_true("it is hidden", is_shown, "password").await;
    desk.press("Show new password").await;
    desk.press("Save and continue").await;
    desk.is_at("/overview").await;
}
