//! Everything with the keyboard alone: Tab leads to it, one sees where one is, Enter and Space do it.

use quantix_browser::{Desk, Key, NAME, PASSWORD};

#[tokio::test]
async fn a_person_without_a_mouse_works_through_a_day() {
    let desk = Desk::start().await;
    desk.open("/sign-in").await;
    desk.tab_to("field", "Name").await;
    desk.types(NAME).await;
    desk.tab_to("field", "Password").await;
    desk.types(PASSWORD).await;
    desk.key(Key::Enter).await;
    desk.is_at("/overview").await;

    desk.tab_to("link", "Settings").await;
    desk.key(Key::Enter).await;
    desk.heading("Settings").await;
    desk.tab_to("link", "Users").await;
    desk.key(Key::Enter).await;
    desk.heading("Users").await;
    desk.tab_to("field", "Name").await;
    desk.types("grace").await;
    desk.tab_to("button", "Add").await;
    desk.key(Key::Space).await;
    desk.heading("grace can sign in").await;

    desk.open("/users/grace").await;
    desk.tab_to("button", "Lock").await;
    desk.key(Key::Enter).await;
    desk.sees("Locked").await;
    desk.tab_to("button", "Unlock").await;
    desk.key(Key::Enter).await;
    desk.shows("button", "Lock").await;

    desk.tab_to("link", "Cluster").await;
    desk.key(Key::Enter).await;
    desk.heading("Cluster").await;
    desk.tab_to("link", "Add a host").await;
    desk.key(Key::Enter).await;
    desk.heading("Add a host").await;
    desk.tab_to("field", "What for").await;
    desk.types("Third host in rack 4").await;
    desk.tab_to("button", "Make a token").await;
    desk.key(Key::Space).await;
    desk.heading("Join token").await;

    desk.tab_to("button", "Your account").await;
    desk.key(Key::Enter).await;
    desk.tab_to("button", "Sign out").await;
    desk.key(Key::Enter).await;
    desk.is_at("/sign-in").await;
}

/// What one knows by name one reaches by its name, from wherever one is.
#[tokio::test]
async fn control_k_leads_to_what_is_typed() {
    let desk = Desk::start().await;
    desk.sign_in().await;
    // Enter comes before the answer does.
    desk.chord(&[Key::Control], 'k').await;
    desk.until_focused("Find or do").await;
    desk.types("users").await;
    desk.key(Key::Enter).await;
    desk.heading("Users").await;
    // The second one in the list.
    desk.chord(&[], '/').await;
    desk.until_focused("Find or do").await;
    desk.types("host").await;
    desk.sees_no_longer("Sign out").await;
    desk.key(Key::Down).await;
    desk.key(Key::Enter).await;
    desk.heading("Add a host").await;
    // It can be left again, and the keyboard is where it was.
    desk.tab_to("button", "Make a token").await;
    desk.chord(&[Key::Control], 'k').await;
    desk.until_focused("Find or do").await;
    desk.key(Key::Escape).await;
    desk.until_focused("Make a token").await;
    desk.chord(&[Key::Control], 'k').await;
    desk.until_focused("Find or do").await;
    desk.types("nothing of the kind").await;
    desk.sees("Nothing here is called “nothing of the kind”").await;
    desk.key(Key::Enter).await;
    desk.key(Key::Escape).await;
    desk.heading("Add a host").await;
}

#[tokio::test]
async fn the_first_press_of_tab_offers_to_skip_the_bar() {
    let desk = Desk::start().await;
    desk.sign_in().await;
    for path in ["/overview", "/cluster", "/activity", "/users"] {
        desk.open(path).await;
        let order = desk.tab_order().await;
        assert_eq!(order[0].name, "Skip to content", "{path}: {order:?}");
        assert!(order.iter().all(|stop| stop.visible), "{path}: {order:?}");
        assert!(order.iter().all(|stop| !stop.name.is_empty()), "{path}: {order:?}");
    }
}
