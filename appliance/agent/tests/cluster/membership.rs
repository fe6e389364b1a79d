//! Hosts that join, lead, fail, leave and are removed.

use std::time::{Duration, Instant};

use quantix_api::{
    HostRole, JoinCluster, MoveLead, NewJoinToken, ProblemCode, RemoveHost, Secret, SetVoters, calls,
};

use crate::hosts::{Host, cluster_of, count, problem, until, until_it};

#[tokio::test(flavor = "multi_thread")]
async fn three_hosts_join_and_any_of_them_answers() {
    let (mut hosts, session) = cluster_of(3).await;
    // Whatever is asked of any host is done, and is seen there at once.
    for host in &hosts {
        let made = host.make_token(&session, 1).await;
        let tokens = host.client().call(&calls::join_tokens().as_session(&session)).await.unwrap();
        assert!(tokens.items.iter().any(|token| token.id == made.kept.id));
    }
    let cluster = hosts[1].cluster(&session).await.unwrap();
    assert!(cluster.writable && cluster.hosts.iter().all(|host| !host.address.is_empty()), "{cluster:?}");
    assert_eq!(
        cluster.hosts.iter().map(|host| host.name.as_str()).collect::<Vec<_>>(),
        ["qx-0", "qx-1", "qx-2"]
    );

    // Any host tells of any other, as that one tells of itself.
    for host in &cluster.hosts {
        let call = calls::host_facts(&host.id).as_session(&session);
        let asked = (hosts[1].client().call(&call).await, hosts[2].client().call(&call).await);
        assert_eq!(asked.0.unwrap().machine_id, asked.1.unwrap().machine_id);
    }

    // The leader dies; the others go on, with the same sessions.
    hosts[0].kill();
    let start = Instant::now();
    until("another leads", async || {
        hosts[1].cluster(&session).await.is_ok_and(|now| now.writable && now.leader != cluster.leader)
    })
    .await;
    println!("another leads after {:?}", start.elapsed());
    let gone = calls::host_facts(&cluster.hosts[0].id).as_session(&session);
    assert_eq!(problem(hosts[1].client().call(&gone).await).code, ProblemCode::Unavailable);
    hosts[2].make_token(&session, 1).await;
    // What is written on one host is a moment later on another.
    let again = hosts[2].sign_in().await;
    until_it("the other knows the session", async || hosts[1].cluster(&again).await, Result::is_ok).await;

    hosts[0].start_again();
    hosts[0].ready().await;
    until("the first has caught up", async || {
        let Ok(now) = hosts[0].cluster(&again).await else { return false };
        hosts[1].cluster(&again).await.is_ok_and(|other| other.applied_index == now.applied_index)
    })
    .await;
}

/// A power cut leaves the log whole; the database may be as it was when the other hosts were not there yet.
#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_has_forgotten_the_others_lets_them_in_again() {
    let mut hosts: Vec<_> = ["qx-0", "qx-1", "qx-2"].into_iter().map(Host::start).collect();
    let session = hosts[0].settled().await;
    let made = hosts[0].make_token(&session, 10).await;
    hosts[0].kill();
    let earlier = hosts[0].database();
    hosts[0].start_again();
    hosts[0].ready().await;
    for number in [1, 2] {
        let own = hosts[number].settled().await;
        hosts[number].join(&own, &hosts[0], &made.token).await.unwrap();
    }
    until("three vote", async || {
        let Ok(cluster) = hosts[1].cluster(&session).await else { return false };
        count(&cluster, |role| matches!(role, HostRole::Leader | HostRole::Voter)) == 3
    })
    .await;
    hosts[0].kill();
    for (path, _) in hosts[0].database() {
        std::fs::remove_file(path).unwrap();
    }
    for (path, bytes) in earlier {
        std::fs::write(path, bytes).unwrap();
    }
    hosts[1].make_token(&session, 1).await;
    hosts[0].start_again();
    hosts[0].ready().await;
    until("it has caught up", async || {
        let Ok(now) = hosts[0].cluster(&session).await else { return false };
        now.hosts.len() == 3 && now.hosts.iter().all(|host| host.lag == Some(0))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_majority_people_see_everything_and_change_nothing() {
    let (mut hosts, session) = cluster_of(3).await;
    hosts[0].kill();
    hosts[1].kill();
    hosts[2].hears_too_few(&session).await;
    let own = hosts[2].sign_in().await;
    let cluster = hosts[2].cluster(&own).await.unwrap();
    assert_eq!(cluster.hosts.len(), 3);
    let body = NewJoinToken { purpose: "a test".into(), hours: 1, uses: 1 };
    let refused = problem(hosts[2].client().call(&calls::make_join_token(&body).as_session(&own)).await);
    assert_eq!(refused.code, ProblemCode::Unavailable);
    hosts[1].start_again();
    until("two are enough", async || hosts[2].cluster(&own).await.is_ok_and(|cluster| cluster.writable))
        .await;
    hosts[2].make_token(&session, 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_survivor_goes_on_alone_when_it_is_told_to() {
    let (mut hosts, session) = cluster_of(3).await;
    let named = RemoveHost { name: "qx-2".into() };
    let early = problem(hosts[2].client().call(&calls::recover(&named).as_session(&session)).await);
    assert!(early.detail.contains("nothing to recover from"), "{early}");
    let made = hosts[1].make_token(&session, 1).await;
    hosts[0].kill();
    hosts[1].kill();
    hosts[2].hears_too_few(&session).await;
    let own = hosts[2].sign_in().await;
    let wrong = RemoveHost { name: "qx-1".into() };
    let refused = problem(hosts[2].client().call(&calls::recover(&wrong).as_session(&own)).await);
    assert_eq!(refused.field.as_deref(), Some("name"));
    hosts[2].client().call(&calls::recover(&named).as_session(&own)).await.unwrap();
    until("it goes on", async || {
        hosts[2].cluster(&session).await.is_ok_and(|cluster| cluster.writable && cluster.hosts.len() == 1)
    })
    .await;
    let tokens = hosts[2].client().call(&calls::join_tokens().as_session(&session)).await.unwrap();
    assert!(tokens.items.iter().any(|token| token.id == made.kept.id));
    hosts[2].make_token(&session, 1).await;
    // One that comes back is refused, and says so.
    hosts[0].start_again();
    hosts[0].says("was removed").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_vdc_role_moves_and_hosts_leave_and_are_removed() {
    let (mut hosts, session) = cluster_of(3).await;
    let cluster = hosts[0].cluster(&session).await.unwrap();
    let id = |name: &str| cluster.hosts.iter().find(|host| host.name == name).unwrap().id.clone();

    let to = MoveLead { host: id("qx-2") };
    hosts[1].client().call(&calls::move_lead(&to).as_session(&session)).await.unwrap();
    until("it leads", async || {
        hosts[1].cluster(&session).await.is_ok_and(|now| now.leader == Some(id("qx-2")) && now.writable)
    })
    .await;

    let wrong = RemoveHost { name: "qx-1".into() };
    let refused = hosts[1].client().call(&calls::remove_host(&id("qx-0"), &wrong).as_session(&session)).await;
    assert_eq!(problem(refused).code, ProblemCode::Invalid);

    // A dead host is removed; when it comes back it is refused and says so.
    hosts[0].kill();
    let named = RemoveHost { name: "qx-0".into() };
    hosts[1].client().call(&calls::remove_host(&id("qx-0"), &named).as_session(&session)).await.unwrap();
    until("one votes", async || {
        let Ok(now) = hosts[1].cluster(&session).await else { return false };
        now.hosts.len() == 2 && now.writable && count(&now, |role| role == HostRole::Voter) == 0
    })
    .await;
    hosts[0].start_again();
    hosts[0].says("was removed").await;

    // It starts anew, and may come back as a new host.
    let own = hosts[0].sign_in().await;
    hosts[0].client().call(&calls::leave().as_session(&own)).await.unwrap();
    until("it has a password of its own", async || {
        hosts[0].client().call(&calls::console()).await.is_ok_and(|view| view.first_password.is_some())
    })
    .await;
    let own = hosts[0].settled().await;
    let made = hosts[1].make_token(&session, 1).await;
    hosts[0].join(&own, &hosts[1], &made.token).await.unwrap();
    until("it is back", async || hosts[0].cluster(&session).await.is_ok_and(|now| now.hosts.len() == 3))
        .await;

    // The leader leaves: another leads, and it is a cluster of its own.
    // Where another is not elected in time nothing is done, and it may be asked for again.
    until("the leader leaves", async || {
        hosts[2].client().call(&calls::leave().as_session(&session)).await.is_ok()
    })
    .await;
    until("two are left", async || {
        hosts[1].cluster(&session).await.is_ok_and(|now| now.hosts.len() == 2 && now.writable)
    })
    .await;
    until("it starts anew", async || {
        hosts[2].client().call(&calls::console()).await.is_ok_and(|view| view.first_password.is_some())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_that_do_not_hold_let_nobody_in() {
    let (member, stranger, other) = (Host::start("qx-a"), Host::start("qx-b"), Host::start("qx-c"));
    let session = member.settled().await;
    let own = stranger.settled().await;
    let elsewhere = other.settled().await;
    let refused = async |token: &Secret| {
        // The member slows down whoever guesses.
        loop {
            let problem = problem(stranger.join(&own, &member, token).await);
            if problem.code != ProblemCode::TooManyAttempts {
                return problem;
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    };
    assert_eq!(refused(&Secret::new("hello")).await.field.as_deref(), Some("token"));
    assert_eq!(refused(&Secret::new("QUANTIX-0000-0000-0000-0000")).await.code, ProblemCode::Forbidden);
    let foreign = other.make_token(&elsewhere, 1).await;
    assert_eq!(refused(&foreign.token).await.code, ProblemCode::Forbidden);
    let revoked = member.make_token(&session, 1).await;
    member.client().call(&calls::revoke_join_token(&revoked.kept.id).as_session(&session)).await.unwrap();
    assert!(refused(&revoked.token).await.detail.contains("taken back"));
    let nowhere = JoinCluster { address: "127.0.0.1:1".into(), token: revoked.token.clone() };
    let refusal = problem(stranger.client().call(&calls::join(&nowhere).as_session(&own)).await);
    assert_eq!(refusal.field.as_deref(), Some("address"));

    let once = member.make_token(&session, 1).await;
    stranger.join(&own, &member, &once.token).await.unwrap();
    until("it is in", async || stranger.cluster(&session).await.is_ok_and(|now| now.hosts.len() == 2)).await;
    let used_up = problem(other.join(&elsewhere, &member, &once.token).await);
    assert!(used_up.detail.contains("used up"), "{used_up}");
    let tokens = member.client().call(&calls::join_tokens().as_session(&session)).await.unwrap();
    let used = tokens.items.iter().find(|token| token.id == once.kept.id).unwrap();
    assert_eq!((used.uses_left, used.used_by.as_slice()), (0, &["qx-b".to_owned()][..]));

    let twin = Host::start("qx-B");
    let own = twin.settled().await;
    let made = member.make_token(&session, 1).await;
    let clash = problem(twin.join(&own, &member, &made.token).await);
    assert_eq!(clash.field.as_deref(), Some("name"), "{clash}");
    // Nothing of it was used or kept.
    let tokens = member.client().call(&calls::join_tokens().as_session(&session)).await.unwrap();
    assert_eq!(tokens.items.iter().find(|token| token.id == made.kept.id).unwrap().uses_left, 1);
    assert_eq!(member.cluster(&session).await.unwrap().hosts.len(), 2);

    let even = SetVoters { wanted: Some(2) };
    let refusal = problem(member.client().call(&calls::set_voters(&even).as_session(&session)).await);
    assert_eq!(refusal.field.as_deref(), Some("wanted"));
}
