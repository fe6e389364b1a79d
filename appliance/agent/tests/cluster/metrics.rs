//! What hosts and machines use: kept by each host for itself, and told by any.

use std::fs;

use quantix_api::{Metric, MetricsQuery, NewVm, ProblemCode, Span, VmAction, calls};
use quantix_libvirt::Daemon;

use crate::{
    hosts::{Host, problem, until},
    place::{Place, new},
};

const NOW: MetricsQuery = MetricsQuery { span: Span::Minutes };

impl Host {
    /// Of what it keeps figures.
    fn kept(&self) -> Vec<String> {
        let files = fs::read_dir(self.dir.path().join("state/metrics")).unwrap();
        files.map(|file| file.unwrap().file_name().to_string_lossy().into_owned()).collect()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_host_and_its_machines_use_is_told_by_any_host() {
    let place = Place::start().await;
    let daemon = Daemon::start();
    let mut other = Host::start_with_libvirt("qx-2", &daemon);
    let own = other.settled().await;
    let made = place.host.make_token(&place.session, 2).await;
    other.join(&own, &place.host, &made.token).await.unwrap();
    other.ready().await;
    let there = other.cluster(&place.session).await.unwrap().this_host;
    until("the other can have machines", async || {
        let cluster = place.host.cluster(&place.session).await.unwrap();
        cluster.hosts.iter().any(|host| host.id == there && host.last_contact_ms.is_some_and(|ms| ms < 500))
    })
    .await;
    let id = place.make(&NewVm { host: Some(there.clone()), start: true, ..new("web-01") }).await;
    let of_vm = calls::vm_metrics(&id, &NOW).as_session(&place.session);
    let of_host = calls::host_metrics(&there, &NOW).as_session(&place.session);
    for asked in [&place.host, &other] {
        until("it is told what the machine uses", async || {
            let used = asked.client().call(&of_vm).await.unwrap();
            used.last(Metric::Cpu).is_some_and(|share| share > 0.0 && share <= 1.0)
                && used.last(Metric::MemoryOnHost).is_some_and(|bytes| bytes > 1e6)
        })
        .await;
        until("it is told what the host uses", async || {
            let used = asked.client().call(&of_host).await.unwrap();
            used.last(Metric::Cpu).is_some_and(|share| share > 0.0)
                && used.last(Metric::Memory).is_some_and(|bytes| bytes > 1e6)
        })
        .await;
    }
    // A longer time has what is known so far.
    for span in Span::ALL {
        let call = calls::vm_metrics(&id, &MetricsQuery { span }).as_session(&place.session);
        let used = place.host.client().call(&call).await.unwrap();
        assert!(used.last(Metric::Cpu).is_some() && used.begin.as_second() > 0, "{span:?}");
        assert!(Metric::ALL.iter().all(|metric| used.of(*metric).len() >= 300), "{span:?}");
    }
    // Programs are told what was counted, each host of its own.
    let text = async |host: &Host| {
        let request = calls::counters().as_session(&place.session).request().unwrap();
        String::from_utf8(host.client().pass_on(request).await.unwrap().into_body().to_vec()).unwrap()
    };
    let (here, theirs) = (text(&place.host).await, text(&other).await);
    assert!(
        theirs
            .contains(&format!("quantix_vm_cpu_seconds_total{{host=\"qx-2\",vm=\"{id}\",name=\"web-01\"}}"))
    );
    assert!(here.contains("quantix_host_cpu_seconds_total{host=") && !here.contains("quantix_vm"));

    // What was kept is there when the program ended in the middle, and a host that is gone tells nothing.
    let before = place.host.client().call(&of_vm).await.unwrap().begin;
    other.kill();
    let ended = jiff::Timestamp::now().as_second();
    assert_eq!(problem(place.host.client().call(&of_vm).await).code, ProblemCode::HostUnreachable);
    assert!(place.host.client().call(&of_host).await.is_err());
    let begun = jiff::Timestamp::now().as_second();
    other.start_again();
    until("it tells again what it used", async || {
        let Ok(used) = place.host.client().call(&of_vm).await else { return false };
        // What has just been is told with the next look.
        let times = (used.begin.as_second()..).step_by(used.step_seconds as usize);
        let known: Vec<_> =
            times.zip(used.of(Metric::MemoryOnHost)).filter(|(_, bytes)| bytes.is_some()).collect();
        used.begin >= before
            && known.iter().any(|(time, _)| *time < ended)
            && known.iter().any(|(time, _)| *time > begun)
    })
    .await;

    // Of a machine that is gone nothing is kept.
    assert!(other.kept().contains(&format!("{id}.ring")));
    place.does(&id, VmAction::ForceStop).await;
    place.remove(&id).await;
    until("nothing is kept of it", async || other.kept() == ["host.ring"]).await;
    assert_eq!(problem(place.host.client().call(&of_vm).await).code, ProblemCode::NotFound);
}

#[tokio::test(flavor = "multi_thread")]
async fn where_figures_cannot_be_kept_everything_else_goes_on() {
    let place = Place::start().await;
    let id = place.make(&NewVm { start: true, ..new("web-01") }).await;
    let of_vm = calls::vm_metrics(&id, &NOW).as_session(&place.session);
    let client = place.host.client();
    until("something is known", async || client.call(&of_vm).await.unwrap().last(Metric::Cpu).is_some())
        .await;
    let mut place = place;
    place.host.kill();
    let folder = place.host.dir.path().join("state/metrics");
    fs::remove_dir_all(&folder).unwrap();
    fs::write(&folder, b"in the way").unwrap();
    place.host.start_again();
    place.host.ready().await;
    assert!(place.host.client().call(&of_vm).await.is_err());
    place.does(&id, VmAction::ForceStop).await;
    // Once it can be kept it is, without anybody's doing.
    fs::remove_file(&folder).unwrap();
    let text = async || {
        let of_host = calls::host_metrics(&place.host.cluster(&place.session).await.unwrap().this_host, &NOW);
        place.host.client().call(&of_host.as_session(&place.session)).await
    };
    until("the host is looked at again", async || {
        text().await.is_ok_and(|used| used.last(Metric::Cpu).is_some())
    })
    .await;
}
