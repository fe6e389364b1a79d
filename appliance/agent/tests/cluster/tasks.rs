//! Work that takes time: who does it, what becomes of it when they are killed, and its end.

use std::time::{Duration, Instant};

use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use quantix_api::{
    MoveLead, PowerHost, ProblemCode, RestartServices, Secret, StepState, Task, TaskKind, TaskQuery,
    TaskState, calls,
};

use crate::hosts::{Host, cluster_of, problem, until};

async fn task(host: &Host, session: &Secret, id: i64) -> Option<Task> {
    host.client().call(&calls::task(id).as_session(session)).await.ok()
}

async fn ended(host: &Host, session: &Secret, id: i64) -> Task {
    let mut last = None;
    until(&format!("task {id} has ended"), async || {
        last = task(host, session, id).await;
        last.as_ref().is_some_and(|task| task.state.is_end())
    })
    .await;
    last.unwrap()
}

async fn id_of(host: &Host, session: &Secret, name: &str) -> String {
    let cluster = host.cluster(session).await.unwrap();
    cluster.hosts.iter().find(|host| host.name == name).unwrap().id.clone()
}

async fn file(host: &Host, session: &Secret, id: i64) -> (u16, Bytes) {
    let request = calls::task_file(id).as_session(session).request().unwrap();
    let answer = host.client().begin(request.map(Full::new)).await.unwrap();
    let status = answer.status().as_u16();
    (status, answer.into_body().collect().await.unwrap().to_bytes())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_role_moves_as_a_task_that_every_host_sees_end() {
    let (hosts, session) = cluster_of(3).await;
    let to = MoveLead { host: id_of(&hosts[0], &session, "qx-1").await };
    let made = hosts[2].client().call(&calls::move_lead(&to).as_session(&session)).await.unwrap();
    assert_eq!((made.kind, made.owner.as_deref(), made.attempt), (TaskKind::MoveVdcRole, None, 1));
    for host in &hosts {
        let task = ended(host, &session, made.id).await;
        assert_eq!((task.state, task.outcome.as_str()), (TaskState::Done, "qx-1 has the vDC role."));
        assert!(task.steps.iter().all(|step| step.state == StepState::Done), "{task:?}");
        assert!(task.started_at.is_some() && task.ended_at.is_some());
    }
    let late = problem(hosts[0].client().call(&calls::cancel_task(made.id).as_session(&session)).await);
    assert_eq!(late.code, ProblemCode::Conflict);
    let none = problem(hosts[0].client().call(&calls::retry_task(made.id).as_session(&session)).await);
    assert_eq!(none.code, ProblemCode::Conflict);
    assert!(hosts[0].outcomes().iter().any(|outcome| outcome == "done"));
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_leads_next_goes_on_with_what_the_last_leader_began() {
    let (mut hosts, session) = cluster_of(3).await;
    for round in [0, 40, 400] {
        let cluster = hosts[1].cluster(&session).await.unwrap();
        let leader = cluster.hosts.iter().position(|host| Some(&host.id) == cluster.leader.as_ref()).unwrap();
        let other = (leader + 1) % 3;
        let to = MoveLead { host: cluster.hosts[other].id.clone() };
        let watcher = (leader + 2) % 3;
        let mut made = None;
        until("the role is to move", async || {
            made = hosts[watcher].client().call(&calls::move_lead(&to).as_session(&session)).await.ok();
            made.is_some()
        })
        .await;
        tokio::time::sleep(Duration::from_millis(round)).await;
        hosts[leader].kill();
        let task = ended(&hosts[watcher], &session, made.unwrap().id).await;
        assert_eq!(task.state, TaskState::Done, "{round} {task:?}");
        hosts[leader].start_again();
        hosts[leader].ready().await;
        until("all are back", async || {
            hosts[watcher].cluster(&session).await.is_ok_and(|now| {
                now.writable && now.hosts.iter().all(|host| host.last_contact_ms.is_some_and(|ms| ms < 2000))
            })
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bundle_is_made_on_one_host_and_fetched_from_another() {
    let (hosts, session) = cluster_of(2).await;
    let id = id_of(&hosts[0], &session, "qx-1").await;
    let made = hosts[0].client().call(&calls::support_bundle(&id).as_session(&session)).await.unwrap();
    assert_eq!(made.owner.as_deref(), Some(id.as_str()));
    let done = ended(&hosts[0], &session, made.id).await;
    assert_eq!(done.state, TaskState::Done, "{done:?}");
    let known = done.file.unwrap();
    let (status, bytes) = file(&hosts[0], &session, made.id).await;
    assert_eq!((status, bytes.len() as u64), (200, known.bytes));
    let mut archive = tar::Archive::new(zstd::Decoder::new(&bytes[..]).unwrap());
    let mut names = Vec::new();
    let mut all = String::new();
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        names.push(entry.path().unwrap().file_name().unwrap().to_str().unwrap().to_owned());
        let mut text = Vec::new();
        std::io::Read::read_to_end(&mut entry, &mut text).unwrap();
        all.push_str(&String::from_utf8_lossy(&text));
    }
    for name in
        ["about.json", "host.json", "checks.json", "cluster.txt", "tasks-and-events.json", "journal.txt"]
    {
        assert!(names.iter().any(|known| known == name), "{name} is not among {names:?}");
    }
    let key = hosts[1].member()["key"].as_str().unwrap().to_owned();
    for secret in [session.expose(), crate::hosts::PASSWORD, "$argon2", &key[40..80]] {
        assert!(!all.contains(secret), "a secret is in the bundle");
    }

    // Of four, the newest three stay; what is gone is said to be gone.
    let mut last = made.id;
    for _ in 0..3 {
        let more = hosts[1].client().call(&calls::support_bundle(&id).as_session(&session)).await.unwrap();
        last = ended(&hosts[1], &session, more.id).await.id;
    }
    until("the oldest is gone", async || {
        task(&hosts[0], &session, made.id).await.is_some_and(|task| task.file.is_none())
    })
    .await;
    assert_eq!(file(&hosts[0], &session, made.id).await.0, 404);
    assert_eq!(file(&hosts[0], &session, last).await.0, 200);
    assert_eq!(hosts[1].bundles().len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bundle_whose_host_is_killed_is_there_whole_or_not_at_all() {
    let mut host = Host::start("qx-0");
    let session = host.settled().await;
    let id = id_of(&host, &session, "qx-0").await;
    let mut states = Vec::new();
    for wait in [0, 15, 40, 80, 150, 300] {
        let made = host.client().call(&calls::support_bundle(&id).as_session(&session)).await.unwrap();
        tokio::time::sleep(Duration::from_millis(wait)).await;
        host.kill();
        host.start_again();
        host.ready().await;
        let task = ended(&host, &session, made.id).await;
        states.push(task.state);
        match task.state {
            TaskState::Done => assert_eq!(file(&host, &session, made.id).await.0, 200),
            _ => {
                assert!(task.outcome.contains("Try again"), "{task:?}");
                let left = host.bundles();
                assert!(!left.iter().any(|name| name.starts_with(&format!("{}", made.id))), "{left:?}");
                let again =
                    host.client().call(&calls::retry_task(made.id).as_session(&session)).await.unwrap();
                assert_eq!((again.attempt, again.retry_of), (task.attempt + 1, Some(task.id)));
                assert_eq!(ended(&host, &session, again.id).await.state, TaskState::Done);
            }
        }
    }
    println!("{states:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_ends_a_bundle_with_a_sentence_and_takes_nothing_else_along() {
    let host = Host::start_small("qx-0", 80);
    let session = host.settled().await;
    let id = id_of(&host, &session, "qx-0").await;
    let made = host.client().call(&calls::support_bundle(&id).as_session(&session)).await.unwrap();
    let task = ended(&host, &session, made.id).await;
    assert_eq!(task.state, TaskState::Failed);
    assert!(task.outcome.contains("too little room"), "{task:?}");
    assert!(task.can_retry && !task.can_cancel);
    assert_eq!(host.bundles(), Vec::<String>::new());
    host.make_token(&session, 1).await;
    let query = quantix_api::EventQuery { open: Some(true), ..Default::default() };
    let alarms = host.client().call(&calls::events(&query).as_session(&session)).await.unwrap();
    let failed = alarms.items.iter().find(|event| event.component == "tasks").unwrap();
    assert!(failed.sentence.contains("too little room"), "{failed:?}");
    let cleared = host.client().call(&calls::clear_event(failed.id).as_session(&session)).await.unwrap();
    assert!(!cleared.is_open());
}

#[tokio::test(flavor = "multi_thread")]
async fn tasks_of_a_dead_host_wait_are_cancelled_and_end_when_it_is_removed() {
    let (mut hosts, session) = cluster_of(3).await;
    let id = id_of(&hosts[0], &session, "qx-2").await;
    hosts[2].kill();
    let ask = calls::support_bundle(&id).as_session(&session);
    let made = hosts[0].client().call(&ask).await.unwrap();
    assert_eq!(problem(hosts[1].client().call(&ask).await).code, ProblemCode::Conflict);
    // It has not begun: cancelling ends it at once. The second who asks is told so.
    let cancel = calls::cancel_task(made.id).as_session(&session);
    let (here, there) = (hosts[0].client(), hosts[1].client());
    let (one, other) = tokio::join!(here.call(&cancel), there.call(&cancel));
    assert_eq!([one.is_ok(), other.is_ok()].into_iter().filter(|is_ok| *is_ok).count(), 1);
    assert_eq!(ended(&hosts[1], &session, made.id).await.state, TaskState::Cancelled);

    let again = hosts[0].client().call(&calls::retry_task(made.id).as_session(&session)).await.unwrap();
    let named = quantix_api::RemoveHost { name: "qx-2".into() };
    let removal =
        hosts[0].client().call(&calls::remove_host(&id, &named).as_session(&session)).await.unwrap();
    let removal = ended(&hosts[1], &session, removal.id).await;
    assert_eq!((removal.state, removal.steps.len()), (TaskState::Done, 2), "{removal:?}");
    let orphan = ended(&hosts[1], &session, again.id).await;
    assert_eq!(
        (orphan.state, orphan.outcome.as_str()),
        (TaskState::Failed, "qx-2 was removed from the cluster.")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_that_is_somebody_elses_is_left_alone() {
    let host = Host::start("qx-0");
    let session = host.settled().await;
    let id = id_of(&host, &session, "qx-0").await;
    let wrong = PowerHost { name: "qx-1".into() };
    let refused = problem(host.client().call(&calls::restart_host(&id, &wrong).as_session(&session)).await);
    assert_eq!(refused.field.as_deref(), Some("name"));
    let unknown = RestartServices { services: vec!["sshd".into()] };
    let refused =
        problem(host.client().call(&calls::restart_services(&id, &unknown).as_session(&session)).await);
    assert_eq!(refused.field.as_deref(), Some("services"));
    let named = PowerHost { name: "qx-0".into() };
    let services = RestartServices { services: vec!["libvirt".into(), "ovn-northd".into()] };
    for call in [
        calls::restart_host(&id, &named),
        calls::shut_down_host(&id, &named),
        calls::restart_services(&id, &services),
    ] {
        let made = host.client().call(&call.as_session(&session)).await.unwrap();
        let task = ended(&host, &session, made.id).await;
        assert_eq!(task.state, TaskState::Failed);
        assert!(task.outcome.contains("does not run Quantix-OS"), "{task:?}");
    }
    let query = TaskQuery { limit: Some(2), state: Some("failed".into()), ..TaskQuery::default() };
    let first = host.client().call(&calls::tasks(&query).as_session(&session)).await.unwrap();
    assert_eq!(
        first.items.iter().map(|task| task.kind).collect::<Vec<_>>(),
        [TaskKind::RestartServices, TaskKind::ShutDownHost]
    );
    let rest = TaskQuery { after: first.next, ..query };
    let rest = host.client().call(&calls::tasks(&rest).as_session(&session)).await.unwrap();
    assert_eq!((rest.items.len(), rest.next), (1, None));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_host_is_an_alarm_everywhere_until_it_is_back() {
    let (mut hosts, session) = cluster_of(3).await;
    let alarms = async |host: &Host| {
        let query = quantix_api::EventQuery {
            open: Some(true),
            component: Some("cluster".into()),
            ..Default::default()
        };
        let found = host.client().call(&calls::events(&query).as_session(&session)).await;
        found
            .map(|found| found.items.into_iter().map(|event| event.sentence).collect::<Vec<_>>())
            .unwrap_or_default()
    };
    hosts[2].kill();
    let start = Instant::now();
    until("the loss is an alarm", async || {
        alarms(&hosts[1]).await.iter().any(|alarm| alarm.starts_with("qx-2 does not answer"))
    })
    .await;
    println!("a lost host is an alarm after {:?}", start.elapsed());
    until("the lost vote is one", async || {
        alarms(&hosts[1]).await.iter().any(|alarm| alarm.starts_with("Only 2 of 3 voters"))
    })
    .await;
    let count = alarms(&hosts[0]).await.len();
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(alarms(&hosts[0]).await.len(), count, "an alarm is there twice");
    hosts[2].start_again();
    hosts[2].ready().await;
}
