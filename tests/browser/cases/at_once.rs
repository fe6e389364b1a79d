//! Two who change the same machine at once, or one in two tabs.

use quantix_api::{NewVm, VmSpec, calls};
use quantix_browser::{Desk, Host, LOOKS, until};

#[tokio::test]
async fn whoever_saves_second_is_told_and_loses_nothing_of_what_was_typed() {
    let host = Host::with_machines("qx-01").await;
    let (client, session) = (host.agent(), host.session().await);
    let mut spec = VmSpec::named("web-01");
    spec.memory.mib = 64;
    let call = calls::make_vm(&NewVm::usual(spec)).as_session(&session);
    let id = client.call(&call).await.unwrap().object.strip_prefix("vm/").unwrap().to_owned();
    let vm = async || client.call(&calls::vm(&id).as_session(&session)).await.unwrap();
    until("it is made", async || vm().await.task.is_none()).await;
    let desk = Desk::at(&host).await;
    desk.sign_in().await;
    let edit = format!("/vms/{id}/edit");
    desk.open(&edit).await;
    desk.heading("Edit web-01").await;
    let first = desk.tab().await;
    desk.new_tab().await;
    desk.open(&edit).await;
    desk.fill("What it is for optional", "Written in the second tab").await;
    desk.press("Save").await;
    desk.heading("web-01").await;
    desk.sees("Written in the second tab").await;

    desk.go_to_tab(&first).await;
    let typed = [
        ("Name", "spec.name", "web-02"),
        ("What it is for optional", "spec.description", "Written in the first tab"),
        ("Whose it is optional", "policy.owner", "ada"),
        ("Memory in MiB", "spec.memory.mib", "96"),
    ];
    for (label, _, text) in typed {
        desk.fill(label, text).await;
    }
    desk.press("Save").await;
    desk.sees("Somebody else has changed this since you read it.").await;
    for (_, name, text) in typed {
        let script = "return document.querySelector(`[name='${arguments[0]}']`).value";
        assert_eq!(desk.ask(script, &[name]).await.unwrap(), text);
    }
    desk.look_as(LOOKS[2]).await;
    desk.picture("vms--vm--edit.changed-meanwhile.phone").await;
    let mut findings = desk.findings().await;
    // The browser tells of an answer that refuses.
    findings.retain(|finding| !finding.contains("status of 412"));
    assert_eq!(findings, Vec::<String>::new());
    let now = vm().await;
    assert_eq!(
        (now.spec.name.as_str(), now.spec.description.as_str()),
        ("web-01", "Written in the second tab")
    );
    assert_eq!((now.spec.memory.mib, now.policy.owner.as_str()), (64, "admin"));
    // Whoever knows that, and saves again, means it.
    desk.press("Save").await;
    desk.sees("Saved.").await;
    let now = vm().await;
    assert_eq!(
        (now.spec.name.as_str(), now.spec.description.as_str()),
        ("web-02", "Written in the first tab")
    );
    assert_eq!((now.spec.memory.mib, now.policy.owner.as_str()), (96, "ada"));
}
