//! Pages that are open and tell what happens, without being loaded again.

use quantix_api::{NewUser, built_in, calls};
use quantix_browser::{Desk, Host, cluster_of};

#[tokio::test]
async fn a_change_on_one_host_appears_on_a_page_open_on_another() {
    let hosts = cluster_of(2).await;
    let here = Desk::at(&hosts[0]).await;
    here.sign_in().await;
    here.open("/users").await;
    here.marks_the_page().await;
    let there = Desk::in_browser(&hosts[1], &here.browser).await;
    there.sign_in().await;
    there.open("/users").await;
    there.fill("Name", "grace").await;
    there.press("Add").await;
    there.heading("grace can sign in").await;
    here.shows("link", "grace").await;
    there.open("/users/grace").await;
    there.press("Lock").await;
    here.sees("Locked").await;
    assert!(here.is_still_marked().await, "the page was loaded again");
}

#[tokio::test]
async fn what_is_done_in_one_tab_appears_in_the_other() {
    let desk = Desk::start().await;
    desk.sign_in().await;
    desk.open("/users").await;
    desk.marks_the_page().await;
    let first = desk.tab().await;
    desk.new_tab().await;
    desk.open("/users").await;
    desk.fill("Name", "grace").await;
    desk.press("Add").await;
    desk.heading("grace can sign in").await;
    desk.go_to_tab(&first).await;
    desk.shows("link", "grace").await;
    assert!(desk.is_still_marked().await, "the page was loaded again");
}

/// What somebody is writing is not taken away by news.
#[tokio::test]
async fn a_field_that_is_being_filled_in_keeps_what_is_in_it() {
    let desk = Desk::start().await;
    desk.sign_in().await;
    desk.open("/users").await;
    desk.fill("Name", "linus").await;
    is_made(&desk.host, "grace").await;
    desk.shows("link", "grace").await;
    desk.press("Add").await;
    desk.heading("linus can sign in").await;
}

#[tokio::test]
async fn a_page_that_lost_its_host_says_so_and_catches_up() {
    let desk = Desk::start().await;
    desk.sign_in().await;
    desk.open("/users").await;
    desk.marks_the_page().await;

    desk.host.stop_pages();
    desk.sees("Reconnecting").await;
    is_made(&desk.host, "grace").await;
    desk.host.start_pages().await;
    desk.sees_no_longer("Reconnecting").await;
    desk.shows("link", "grace").await;

    // The agent alone, which is what an update of it looks like.
    desk.host.stop_agent();
    desk.sees("Reconnecting").await;
    desk.host.start_agent();
    desk.host.is_ready().await;
    desk.sees_no_longer("Reconnecting").await;
    is_made(&desk.host, "linus").await;
    desk.shows("link", "linus").await;
    assert!(desk.is_still_marked().await, "the page was loaded again");
}

/// A user, made by a program.
async fn is_made(host: &Host, name: &str) {
    let session = host.session().await;
    let new = NewUser { username: name.into(), role: built_in::VIEWER.into() };
    host.agent().call(&calls::make_user(&new).as_session(&session)).await.unwrap();
}
