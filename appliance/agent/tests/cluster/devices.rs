//! Devices of the host that machines have for themselves. That one gets there is shown on the image, where there is an IOMMU.

use quantix_api::{
    ChangeVm, CloneVm, NewAccess, NewFolder, NewVm, ProblemCode, Scope, Secret, TaskState, VmAction, VmSpec,
    Who, calls,
};

use crate::{
    hosts::{problem, until},
    place::{Place, new},
};

/// No bus has so many devices.
const NOT_THERE: &str = "0000:ff:1f.7";

/// Signs in somebody new, who may do everything in a folder and nothing elsewhere.
async fn somebody_of(place: &Place, folder: i64) -> Secret {
    let (client, session) = (place.host.client(), &place.session);
    let ada = place.host.somebody(session, "ada", "viewer").await;
    let give = NewAccess {
        who: Who::User("ada".into()),
        role: "administrator".into(),
        scope: Scope::Folder(folder),
    };
    client.call(&calls::give_access(&give).as_session(session)).await.unwrap();
    ada
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_is_given_by_whoever_looks_after_the_host_and_a_host_gives_only_what_it_has() {
    let place = Place::start().await;
    let client = place.host.client();
    let folder = NewFolder { name: "Lab".into(), parent: None };
    let folder = client.call(&calls::make_folder(&folder).as_session(&place.session)).await.unwrap().id;
    let ada = somebody_of(&place, folder).await;
    let id = place.make(&NewVm { folder: Some(folder), ..new("web-01") }).await;
    let change = async |session: &Secret, change: &dyn Fn(&mut VmSpec)| {
        let mut spec = place.vm(&id).await.spec;
        change(&mut spec);
        let change = ChangeVm { spec: Some(spec), ..ChangeVm::default() };
        client.call(&calls::change_vm(&id, &change).as_session(session)).await
    };
    let gives = |address: &'static str| move |spec: &mut VmSpec| spec.pci = vec![address.to_owned()];
    let wrong = problem(change(&place.session, &gives("65:00.0")).await);
    assert_eq!((wrong.code, wrong.field.as_deref()), (ProblemCode::Invalid, Some("spec.pci.0")));
    assert_eq!(problem(change(&ada, &gives(NOT_THERE)).await).code, ProblemCode::Forbidden);
    assert!(!place.daemon.virsh(&["dumpxml", &id]).contains("hostdev"));
    // Whoever has it given leaves the rest to others.
    assert_eq!(change(&place.session, &gives(NOT_THERE)).await.unwrap().spec.pci, [NOT_THERE]);
    change(&ada, &|spec| "A lab.".clone_into(&mut spec.description)).await.unwrap();
    until("it is described", async || place.daemon.virsh(&["dumpxml", &id]).contains("hostdev")).await;
    let vm = place.vm(&id).await;
    assert!(vm.drift.is_empty() && vm.trouble.is_empty(), "{vm:?}");
    let task = place.ended(place.asked(&id, VmAction::Start).await.id).await;
    assert_eq!(task.state, TaskState::Failed);
    assert!(task.outcome.contains(&format!("Its host has no device {NOT_THERE}.")), "{task:?}");
    // A clone has what it is given itself.
    let clone =
        CloneVm { name: "web-02".into(), folder: Some(folder), snapshot: None, linked: false, start: false };
    let clone = client.call(&calls::clone_vm(&id, &clone).as_session(&ada)).await.unwrap();
    assert_eq!(place.ended(clone.id).await.state, TaskState::Done);
    let vms = place.vms().await;
    assert!(vms.iter().any(|vm| vm.spec.name == "web-02" && vm.spec.pci.is_empty()), "{vms:?}");
    // One that is made with it is made on a certain host.
    let mut made = new("web-03");
    made.spec.pci = vec![NOT_THERE.to_owned()];
    let nowhere = problem(client.call(&calls::make_vm(&made).as_session(&place.session)).await);
    assert_eq!((nowhere.code, nowhere.field.as_deref()), (ProblemCode::Invalid, Some("host")));
}
