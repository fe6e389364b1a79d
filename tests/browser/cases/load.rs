//! What machines and hosts use, as people look at it.

use quantix_api::{NewVm, PowerVm, VmAction, VmSpec, calls};
use quantix_browser::{Desk, Host};

/// Whether the charts have something to show.
const DRAWN: &str = "return [...document.querySelectorAll('#load .now')].filter((now) => /%|iB/.test(now.textContent)).length > 1 \
                     && document.querySelector('#load path.line') !== null";

#[tokio::test]
async fn what_a_machine_and_its_host_use_is_drawn_and_goes_on() {
    let host = Host::with_machines("qx-01").await;
    let session = host.session().await;
    let mut spec = VmSpec::named("web-01");
    spec.memory.mib = 64;
    let new = NewVm { start: true, ..NewVm::usual(spec) };
    let task = host.agent().call(&calls::make_vm(&new).as_session(&session)).await.unwrap();
    let vm = task.object.trim_start_matches("vm/").to_owned();
    let desk = Desk::at(&host).await;
    desk.sign_in().await;
    desk.open(&format!("/vms/{vm}?load=minutes")).await;
    desk.until_true("the charts are drawn by themselves", DRAWN, "").await;
    let mark = async || {
        desk.ask("document.querySelector('#load').dataset.was = 'here'", &[]).await.unwrap();
    };
    mark().await;
    desk.until_true("they are drawn anew", "return !document.querySelector('#load').dataset.was", "").await;
    // Figures that somebody reads stay.
    desk.ask(
        "window.held = 0; document.addEventListener('htmx:afterRequest', ({ target }) => target.id === 'load' && window.held++); \
         document.querySelector('#load details').open = true",
        &[],
    )
    .await
    .unwrap();
    mark().await;
    desk.until_true("more was told", "return window.held > 1", "").await;
    let there = desk.ask("return document.querySelector('#load').dataset.was", &[]).await.unwrap();
    assert_eq!(there, "here");
    // What happens to the machine is shown beside them, and they stay.
    desk.marks_the_page().await;
    let pause = calls::power_vm(&vm, &PowerVm::usual(VmAction::Pause)).as_session(&session);
    host.agent().call(&pause).await.unwrap();
    desk.sees("Stands still").await;
    assert!(desk.is_still_marked().await);
    let there = desk.ask("return document.querySelector('#load').dataset.was", &[]).await.unwrap();
    assert_eq!(there, "here");
    desk.follow("1 week").await;
    desk.is_at(&format!("/vms/{vm}")).await;
    desk.until_true("there is something of the last quarter of an hour", DRAWN, "").await;

    let id = host.agent().call(&calls::cluster().as_session(&session)).await.unwrap().this_host;
    desk.open(&format!("/hosts/{id}")).await;
    desk.until_true("the charts of the host are drawn", DRAWN, "").await;
    assert_eq!(desk.complaints().await, Vec::<String>::new());
}
