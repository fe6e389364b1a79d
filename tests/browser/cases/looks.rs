//! Every page in every look: a picture is kept, nothing is wider than the screen, axe-core finds nothing, and the
//! browser has nothing to complain about.

use quantix_api::{NewGroup, NewUser, Secret, built_in, calls};
use quantix_browser::{Desk, Host, LOOKS, Look, cluster_of};

use crate::addresses::PAGES;

#[tokio::test]
async fn every_page_is_in_order_in_every_look() {
    let hosts = cluster_of(2).await;
    let session = hosts[0].session().await;
    has_history(&hosts[0], &session).await;
    let cluster = hosts[0].agent().call(&calls::cluster().as_session(&session)).await.unwrap();
    let other = cluster.hosts.iter().find(|host| host.id != cluster.this_host).unwrap().id.to_string();
    let desk = Desk::at(&hosts[0]).await;
    let mut wrong = Vec::new();
    for signed_in in [false, true] {
        if signed_in {
            desk.sign_in().await;
        }
        for look in LOOKS {
            desk.look_as(look).await;
            for page in PAGES.iter().filter(|page| page.signed_in == signed_in) {
                desk.open(&page.address.replace("{other}", &other).replace("{this}", &cluster.this_host))
                    .await;
                wrong.extend(judged(&desk, look, page.address).await);
                if look == LOOKS[0] {
                    let missed = desk.out_of_reach().await.into_iter();
                    wrong.extend(missed.map(|thing| format!("{}: {thing}", page.address)));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

/// What forms answer: what is shown once, and what was wrong.
#[tokio::test]
async fn what_forms_answer_is_in_order_in_every_look() {
    let desk = Desk::start().await;
    let mut wrong = Vec::new();
    for look in LOOKS {
        desk.look_as(look).await;
        desk.sign_in_as("nobody", "not the password").await;
        desk.sees("wrong").await;
        wrong.extend(judged(&desk, look, "sign-in-refused").await);
    }
    desk.sign_in().await;
    for look in LOOKS {
        desk.look_as(look).await;
        desk.open("/users").await;
        desk.fill("Name", "not a name").await;
        desk.press("Add").await;
        desk.sees("A name begins with a letter").await;
        wrong.extend(judged(&desk, look, "users-refused").await);
        desk.fill("Name", &format!("ada-{}", look.name)).await;
        desk.press("Add").await;
        desk.heading(&format!("ada-{} can sign in", look.name)).await;
        wrong.extend(judged(&desk, look, "users-made").await);
        desk.open("/cluster/add").await;
        desk.fill("What for", "Third host in rack 4").await;
        desk.press("Make a token").await;
        desk.heading("Join token").await;
        wrong.extend(judged(&desk, look, "token-made").await);
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

/// A cluster in which something was done.
async fn has_history(host: &Host, session: &Secret) {
    for (name, role) in [("grace", built_in::VIEWER), ("linus", built_in::ADMINISTRATOR)] {
        let new = NewUser { username: name.into(), role: role.into() };
        host.agent().call(&calls::make_user(&new).as_session(session)).await.unwrap();
    }
    let group =
        NewGroup { name: "night-shift".into(), purpose: "Whoever is awake".into(), provider_name: None };
    host.agent().call(&calls::make_group(&group).as_session(session)).await.unwrap();
}

/// What is found on the page that is open, with its picture's name in front.
async fn judged(desk: &Desk, look: Look, address: &str) -> Vec<String> {
    let name = address.trim_start_matches('/').replace(|letter: char| !letter.is_ascii_alphanumeric(), "-");
    let name = format!("{name}.{}", look.name);
    desk.picture(&name).await;
    // The browser complains about answers that refuse, pages though they are.
    let is_refused = |line: &String| line.contains("the server responded with a status of 4");
    let findings = desk.findings().await;
    findings.into_iter().filter(|line| !is_refused(line)).map(|line| format!("{name}: {line}")).collect()
}
