//! Signing in, rightly and wrongly.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use quantix_qemu::{SavedMachine, note, pages, wait_until};

use crate::{count, services::restarts};

#[test]
fn the_first_sign_in_asks_for_a_password_of_ones_own() {
    let saved = SavedMachine::fresh();
    let mut machine = saved.restore();
    let mut browser = machine.https();
    pages::expect_redirect(&browser.get("/overview"), "/sign-in");

    let first = &saved.about.first_password;
    pages::expect_redirect(&pages::sign_in(&mut browser, first), "/password");
    pages::expect_redirect(&browser.get("/overview"), "/password");
    assert_eq!(pages::change_password(&mut browser, first, "short").status, 422);
    assert_eq!(pages::change_password(&mut browser, first, first).status, 422, "the first password again");
    let differ =
        [("current", first.as_str()), ("new", "a password of my own"), ("again", "another one entirely")];
    assert_eq!(browser.post("/password", &differ).status, 422);
    pages::expect_redirect(&browser.get("/overview"), "/password");

    pages::expect_redirect(&pages::change_password(&mut browser, first, "a password of my own"), "/overview");
    let page = browser.get("/overview");
    assert_eq!(page.status, 200);
    assert!(!page.text().contains(first), "the first password is on the page");
    let id = page.text().split("href=\"/hosts/").nth(1).unwrap().chars().take(16).collect::<String>();
    let kernel = machine.run("uname -r").ok();
    let pages = [
        ("", vec![kernel.as_str()]),
        ("/hardware", vec!["vda", "52:54:00:51:00:01"]),
        ("/services", vec!["libvirt", "Open vSwitch", "OVN"]),
    ];
    for (tab, facts) in pages {
        let page = browser.get(&format!("/hosts/{id}{tab}"));
        assert_eq!(page.status, 200);
        for fact in facts {
            assert!(page.text().contains(fact), "{fact} is not on the page:\n{}", page.text());
        }
    }

    let mut second = machine.https();
    assert_eq!(pages::sign_in(&mut second, first).status, 401, "the first password still works");
    pages::expect_redirect(&browser.post("/sign-out", &[]), "/sign-in");
    pages::expect_redirect(&browser.get("/overview"), "/sign-in");
}

#[test]
fn a_wrong_password_says_nothing_about_what_was_wrong() {
    let mut machine = SavedMachine::fresh().restore();
    let mut browser = machine.https();
    let password = pages::sign_in(&mut browser, "wrong");
    let name = browser.post("/sign-in", &[("username", "nobody"), ("password", "wrong")]);
    assert_eq!((password.status, name.status), (401, 401));
    // The form comes back with the name that was sent; nothing else may differ.
    let sent_back = |text: String, name: &str| text.replace(&format!("value=\"{name}\""), "value=\"\"");
    assert_eq!(sent_back(password.text(), "admin"), sent_back(name.text(), "nobody"));
    assert!(browser.cookies().is_empty());
}

#[test]
fn a_flood_of_wrong_passwords_is_slowed_down_and_the_right_one_still_works_later() {
    let saved = SavedMachine::fresh();
    let mut machine = saved.restore();
    let before = restarts(&mut machine);
    let mut browser = machine.https();
    let answers: Vec<_> = (0..count(40, 400)).map(|_| pages::sign_in(&mut browser, "wrong")).collect();
    let slowed: Vec<_> = answers.iter().filter(|answer| answer.status == 429).collect();
    assert!(answers.iter().all(|answer| matches!(answer.status, 401 | 429)));
    assert!(slowed.len() > answers.len() / 2, "only {} of {} were slowed down", slowed.len(), answers.len());
    let wait: u64 = slowed.last().unwrap().header("retry-after").unwrap().parse().unwrap();
    assert!((1..=900).contains(&wait), "{wait} s");

    // Others are not held up: pages and probes answer at once.
    assert_eq!(browser.get("/sign-in").status, 200);
    assert_eq!(browser.get("/healthz").status, 200);
    if wait <= 120 {
        wait_until("the wait to be over", Duration::from_secs(wait + 60), || {
            (pages::sign_in(&mut browser, &saved.about.first_password).status == 303).then_some(())
        });
    }
    assert_eq!(restarts(&mut machine), before);
    assert!(machine.readiness().unwrap().ready);
}

#[test]
fn a_flood_from_one_address_does_not_keep_another_from_signing_in() {
    let saved = SavedMachine::fresh();
    let mut machine = saved.restore();
    let elsewhere = machine.add_card();
    wait_until("the added card to have an address", Duration::from_secs(60), || {
        (machine.run("ip -4 -oneline address show scope global").text.lines().count() == 2).then_some(())
    });
    let mut honest = machine.https_through(elsewhere);

    let over = AtomicBool::new(false);
    let mut flooders: Vec<_> = (0..2).map(|_| machine.https()).collect();
    std::thread::scope(|scope| {
        let floods: Vec<_> = flooders
            .iter_mut()
            .map(|browser| {
                scope.spawn(|| {
                    let mut slowed = 0_u32;
                    while !over.load(Ordering::Relaxed) {
                        slowed += u32::from(pages::sign_in(browser, "wrong").status == 429);
                    }
                    slowed
                })
            })
            .collect();
        let mut flooded = machine.https();
        wait_until("the flood to be slowed down", Duration::from_secs(60), || {
            (pages::sign_in(&mut flooded, "wrong").status == 429).then_some(())
        });
        let signed_in = pages::sign_in(&mut honest, &saved.about.first_password).status;
        over.store(true, Ordering::Relaxed);
        let slowed: u32 = floods.into_iter().map(|flood| flood.join().unwrap()).sum();
        assert_eq!(signed_in, 303);
        note(format!("{slowed} wrong passwords were slowed down meanwhile."));
    });
}

#[test]
fn a_form_from_another_site_is_refused() {
    let saved = SavedMachine::fresh();
    let mut machine = saved.restore();
    let mut browser = machine.https();
    let headers = [("Content-Type", "application/x-www-form-urlencoded"), ("Origin", "https://evil.example")];
    let body = format!("username=admin&password={}", saved.about.first_password);
    let answer = browser.request("POST", "/sign-in", &headers, body.as_bytes()).unwrap();
    assert_eq!(answer.status, 403);
    assert!(browser.cookies().is_empty());
}
