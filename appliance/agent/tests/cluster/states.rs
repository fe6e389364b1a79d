//! Everything that can be asked of a machine, in every state: it is done, or refused with the sentence that the rules have
//! for it. `states.txt` is what whoever asks is told.

use std::fmt::Write as _;

use quantix_api::{
    CallError, ChangeVm, CloneVm, Firmware, NewSnapshot, NewVm, PowerVm, Problem, ProblemCode, RemoveVm,
    RevertVm, Task, TaskQuery, TaskState, VmAction, VmMemory, VmPolicy, VmSpec, VmState, calls,
};
use quantix_compute::{allowed, allows_hold};

use crate::{
    copies::Two,
    hosts::{problem, until},
    place::{Place, disk, new, volumes_are_whole},
};

/// What is answered to every wish in every state: the table that people read, and that a change has to be seen in.
const TABLE: &str = include_str!("states.txt");
const MIB: u64 = 1 << 20;

/// What somebody wants of a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wish {
    Act(VmAction),
    Rename,
    MoreMemory,
    Hold,
    HoldWithMemory,
    GoBack,
    Clone,
    AddDisk,
    BeTemplate,
}

/// All of them. What ends it comes last.
fn wishes() -> impl Iterator<Item = Wish> {
    let ends = [VmAction::Delete, VmAction::ForceStop];
    let acts = VmAction::ALL.into_iter().filter(move |action| !ends.contains(action)).map(Wish::Act);
    let others = [
        Wish::Rename,
        Wish::MoreMemory,
        Wish::Hold,
        Wish::HoldWithMemory,
        Wish::GoBack,
        Wish::Clone,
        Wish::AddDisk,
        Wish::BeTemplate,
    ];
    acts.chain(others).chain(ends.map(Wish::Act))
}

/// What the rules say, when nothing is being done with the machine.
fn rule(wish: Wish, state: VmState) -> Result<(), String> {
    let hold = |memory| allows_hold(state, memory).map_err(|refused| refused.to_string());
    match (wish, state) {
        (Wish::Act(action), _) => allowed(action, state).map_err(|refused| refused.to_string()),
        (Wish::Hold | Wish::Clone, _) => hold(false),
        (Wish::HoldWithMemory, _) => hold(true),
        (Wish::GoBack, VmState::Unknown) => hold(false),
        (Wish::GoBack, VmState::Starting | VmState::Stopping) => {
            Err("Wait until it is on, or off.".to_owned())
        }
        (Wish::AddDisk, VmState::Unknown) => Err("qx-2 does not answer.".to_owned()),
        (Wish::BeTemplate, VmState::Stopped | VmState::Crashed) => Ok(()),
        (Wish::BeTemplate, _) => Err(
            "Only a machine that is off, and with which nothing is being done, becomes a template. Shut it down first."
                .to_owned(),
        ),
        (Wish::Rename | Wish::MoreMemory | Wish::GoBack | Wish::AddDisk, _) => Ok(()),
    }
}

/// How a machine is once something was done.
fn leads_to(action: VmAction, from: VmState) -> VmState {
    match action {
        VmAction::Start | VmAction::Resume | VmAction::Reboot => VmState::Running,
        VmAction::ShutDown | VmAction::ForceStop => VmState::Stopped,
        // One that stands still stands still before its first instruction.
        VmAction::Reset => from,
        VmAction::Pause => VmState::Paused,
        VmAction::Suspend => VmState::Suspended,
        VmAction::Delete => VmState::Unknown,
    }
}

/// A machine whose firmware finds nothing, and does nothing then.
fn quiet(name: &str) -> NewVm {
    let new = new(name);
    NewVm { spec: VmSpec { firmware: Firmware::Bios, ..new.spec.clone() }, ..new }
}

fn told<T>(result: Result<T, CallError>) -> Result<T, Problem> {
    result.map_err(|error| match error {
        CallError::Problem(problem) => problem,
        other => panic!("{other}"),
    })
}

fn note(table: &mut String, wish: Wish, state: VmState, said: &Result<(), String>) {
    let said = said.as_ref().map_or_else(String::as_str, |()| "done");
    // The number of a task says nothing.
    let said = said.split(" (task ").next().unwrap_or_default();
    let wish = match wish {
        Wish::Act(action) => format!("{action:?}"),
        other => format!("{other:?}"),
    };
    writeln!(table, "{:10}{wish:15}{said}", format!("{state:?}")).unwrap();
}

/// What was answered is what the table has of these states.
fn is_in_the_table(answered: &str, states: &[VmState]) {
    let is_of_them = |line: &&str| states.iter().any(|state| line.starts_with(&format!("{state:?} ")));
    let of_them: Vec<_> = TABLE.lines().filter(is_of_them).collect();
    let answered: Vec<_> = answered.lines().collect();
    assert!(
        answered == of_them,
        "states.txt and what is answered differ; what is answered:\n{}",
        answered.join("\n")
    );
}

impl Place {
    /// A machine that is off, with a disk and a snapshot.
    async fn one(&self, new: NewVm) -> String {
        let id = self.make(&NewVm { disks: vec![disk(16 * MIB)], ..new }).await;
        let task = self.asks(&id, Wish::Hold).await.unwrap().unwrap();
        assert_eq!(self.ended(task.id).await.state, TaskState::Done);
        id
    }

    async fn asks(&self, id: &str, wish: Wish) -> Result<Option<Task>, Problem> {
        let (client, session) = (self.host.client(), &self.session);
        let vm = self.vm(id).await;
        let name = |what: &str| format!("{}-{what}", vm.spec.name);
        let change = match wish {
            Wish::Rename => ChangeVm {
                spec: Some(VmSpec { name: name("anew"), ..vm.spec.clone() }),
                ..ChangeVm::default()
            },
            Wish::MoreMemory => {
                let memory = VmMemory { mib: 96, ..vm.spec.memory.clone() };
                ChangeVm { spec: Some(VmSpec { memory, ..vm.spec.clone() }), ..ChangeVm::default() }
            }
            Wish::BeTemplate => {
                let policy = VmPolicy { template: true, ..vm.policy.clone() };
                ChangeVm { policy: Some(policy), ..ChangeVm::default() }
            }
            _ => ChangeVm::default(),
        };
        let task = match wish {
            Wish::Rename | Wish::MoreMemory | Wish::BeTemplate => {
                let call = calls::change_vm(id, &change).as_session(session);
                return told(client.call(&call).await).map(|_| None);
            }
            Wish::Act(VmAction::Delete) => {
                let body = RemoveVm { name: vm.spec.name, keep_disks: false };
                client.call(&calls::remove_vm(id, &body).as_session(session)).await
            }
            Wish::Act(action) => {
                let body = PowerVm { within: 5, force: true, ..PowerVm::usual(action) };
                client.call(&calls::power_vm(id, &body).as_session(session)).await
            }
            Wish::Hold | Wish::HoldWithMemory => {
                let memory = wish == Wish::HoldWithMemory;
                let name = format!("{wish:?} {}", vm.snapshots);
                let body = NewSnapshot { name, description: String::new(), memory, freeze: false };
                client.call(&calls::make_snapshot(id, &body).as_session(session)).await
            }
            Wish::GoBack => {
                let all = client.call(&calls::snapshots(id).as_session(session)).await.unwrap().items;
                let call = calls::revert_vm(id, &all[0].id, &RevertVm::default());
                client.call(&call.as_session(session)).await
            }
            Wish::Clone => {
                let clone = CloneVm {
                    name: name("clone"),
                    folder: None,
                    snapshot: None,
                    linked: false,
                    start: false,
                };
                client.call(&calls::clone_vm(id, &clone).as_session(session)).await
            }
            Wish::AddDisk => client.call(&calls::add_disk(id, &disk(MIB)).as_session(session)).await,
        };
        told(task).map(Some)
    }

    /// Brings a machine into a state, from whichever it is in.
    async fn comes_to(&self, id: &str, wanted: VmState) {
        use VmAction::{ForceStop, Pause, Resume, Start, Suspend};
        use VmState::{Crashed, Paused, Running, Stopped, Suspended};
        loop {
            self.is_left_alone(id).await;
            let now = self.vm(id).await.state;
            match (now, wanted) {
                (now, wanted) if now == wanted => return,
                (Stopped | Crashed, _) => self.does(id, Start).await,
                (Running, Paused) => self.does(id, Pause).await,
                (Running, Suspended) => self.does(id, Suspend).await,
                (Running, Crashed) => {
                    self.daemon.kill_guest(&self.domain(id));
                    self.becomes(id, Crashed).await;
                }
                (Paused, Running | Suspended | Crashed) => self.does(id, Resume).await,
                (Suspended, Running | Paused | Crashed) => self.does(id, Start).await,
                _ => self.does(id, ForceStop).await,
            }
        }
    }

    /// What is answered to every wish in a state. What was done leads where it should, and what was refused changes nothing.
    async fn answers_in(&self, state: VmState) -> String {
        let mut table = String::new();
        let mut id = self.one(quiet(state.name())).await;
        for wish in wishes() {
            self.comes_to(&id, state).await;
            let before = self.vm(&id).await;
            let answer = self.asks(&id, wish).await;
            let said = answer.as_ref().map(drop).map_err(|problem| problem.detail.clone());
            assert_eq!(said, rule(wish, state), "{wish:?} in {state:?}: {answer:?}");
            note(&mut table, wish, state, &said);
            match answer {
                Ok(task) => self.has_done(&id, wish, state, task).await,
                Err(problem) => {
                    assert_eq!(problem.code, ProblemCode::Conflict);
                    let after = self.vm(&id).await;
                    assert_eq!((after.state, after.task, after.version), (state, None, before.version));
                    assert_eq!(after.is_wanted_on, before.is_wanted_on, "{wish:?} in {state:?}");
                }
            }
            if wish == Wish::Act(VmAction::Delete) && said.is_ok() {
                id = self.one(quiet(state.name())).await;
            }
        }
        table
    }

    async fn has_done(&self, id: &str, wish: Wish, from: VmState, task: Option<Task>) {
        if let Some(task) = task {
            let task = self.ended(task.id).await;
            assert_eq!(task.state, TaskState::Done, "{wish:?} in {from:?}: {task:?}");
        }
        let vm = calls::vm(id).as_session(&self.session);
        let leads_to = match wish {
            Wish::Act(VmAction::Delete) => {
                assert_eq!(problem(self.host.client().call(&vm).await).code, ProblemCode::NotFound);
                assert!(!self.domains().contains(&id.to_owned()));
                return;
            }
            Wish::Act(action) => leads_to(action, from),
            Wish::GoBack if from == VmState::Crashed => VmState::Crashed,
            Wish::GoBack => VmState::Stopped,
            _ => from,
        };
        self.is_left_alone(id).await;
        let vm = self.vm(id).await;
        assert_eq!(vm.state, leads_to, "{wish:?} in {from:?}");
        let kept = async |text: String| {
            until(&format!("libvirt has {text}"), async || {
                self.daemon.virsh(&["dumpxml", id, "--inactive"]).contains(&text)
                    && self.vm(id).await.drift.is_empty()
            })
            .await;
        };
        match wish {
            Wish::Rename => kept(format!("<title>{}</title>", vm.spec.name)).await,
            Wish::MoreMemory => kept("98304".to_owned()).await,
            Wish::AddDisk => kept(vm.spec.disks.last().unwrap().volume.clone()).await,
            Wish::BeTemplate => {
                let refused = self.asks(id, Wish::Act(VmAction::Start)).await.unwrap_err();
                let sentence =
                    "It is a template, and stays as it is. Clone it, or let it be a machine again.";
                assert_eq!(refused.detail, sentence);
                let change = ChangeVm { policy: Some(VmPolicy::default()), ..ChangeVm::default() };
                let call = calls::change_vm(id, &change).as_session(&self.session);
                self.host.client().call(&call).await.unwrap();
            }
            _ => {}
        }
        assert_eq!(self.vm(id).await.state, leads_to, "{wish:?} in {from:?}");
    }

    /// The same while a task of ours is about the machine: it is said what is being done, of whatever it would disturb.
    async fn answers_during(&self, id: &str, state: VmState, task: &Task) -> String {
        let mut table = String::new();
        for wish in wishes() {
            assert_eq!(self.vm(id).await.state, state);
            let busy =
                || format!("Something is being done there already: {} (task {}).", task.title, task.id);
            let helps = (wish, state) == (Wish::Act(VmAction::ForceStop), VmState::Stopping);
            let expected = match wish {
                Wish::Act(_) | Wish::AddDisk if !helps => Err(busy()),
                wish => rule(wish, state),
            };
            let answer = self.asks(id, wish).await;
            let said = answer.as_ref().map(drop).map_err(|problem| problem.detail.clone());
            assert_eq!(said, expected, "{wish:?} in {state:?}: {answer:?}");
            note(&mut table, wish, state, &said);
        }
        table
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_wish_in_every_state_is_done_or_refused_as_the_rules_say() {
    use VmState::{Crashed, Paused, Running, Starting, Stopped, Stopping, Suspended};
    let place = Place::start().await.with_pool().await;
    let (stopped, running, paused, suspended, crashed) = tokio::join!(
        place.answers_in(Stopped),
        place.answers_in(Running),
        place.answers_in(Paused),
        place.answers_in(Suspended),
        place.answers_in(Crashed),
    );
    let mut table = [stopped, running, paused, suspended, crashed].concat();

    // It is being started for as long as whoever starts it hangs.
    let id = place.one(quiet("starting")).await;
    place.daemon.hangs();
    let begun = place.asked(&id, VmAction::Start).await;
    table += &place.answers_during(&id, Starting, &begun).await;
    place.daemon.goes_on();
    place.ended(begun.id).await;
    place.comes_to(&id, Running).await;
    let began = place.vm(&id).await;
    assert_eq!((began.spec.name.as_str(), began.spec.memory.mib), ("starting-anew", 96));

    // And it is ending for as long as its guest does not end; it is switched off meanwhile.
    let ending = place.asked(&id, VmAction::ShutDown).await;
    place.becomes(&id, Stopping).await;
    table += &place.answers_during(&id, Stopping, &ending).await;
    assert_eq!(place.ended(ending.id).await.state, TaskState::Done);
    place.is_left_alone(&id).await;
    assert_eq!(place.vm(&id).await.state, Stopped);

    is_in_the_table(&table, &[Stopped, Running, Paused, Suspended, Crashed, Starting, Stopping]);
    place.all_is_whole();
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_machine_whose_host_is_lost_only_what_is_kept_can_be_changed() {
    let mut two = Two::start().await;
    let id = two.place.one(NewVm { host: Some(two.there.clone()), ..quiet("web-01") }).await;
    two.other.kill();
    two.place.becomes(&id, VmState::Unknown).await;
    let mut table = String::new();
    for wish in wishes() {
        let answer = two.place.asks(&id, wish).await;
        let said = answer.as_ref().map(drop).map_err(|problem| problem.detail.clone());
        assert_eq!(said, rule(wish, VmState::Unknown), "{wish:?}: {answer:?}");
        note(&mut table, wish, VmState::Unknown, &said);
    }
    is_in_the_table(&table, &[VmState::Unknown]);
    // Its host is told of what was changed.
    two.other.start_again();
    two.place.becomes(&id, VmState::Stopped).await;
    until("libvirt has its name and its memory", async || {
        let kept = two.daemon.virsh(&["dumpxml", &id, "--inactive"]);
        kept.contains("<title>web-01-anew</title>") && kept.contains("98304")
    })
    .await;
    volumes_are_whole(&two.other, &two.daemon);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_that_does_not_end_runs_on_or_is_switched_off_as_was_said() {
    let place = Place::start().await;
    let id = place.make(&NewVm { start: true, ..quiet("web-01") }).await;
    place.becomes(&id, VmState::Running).await;
    place.is_left_alone(&id).await;
    let process = || place.daemon.guest(&place.domain(&id));
    let before = process();
    let (client, session) = (place.host.client(), &place.session);
    let ask = async |within, force| {
        let body = PowerVm { within, force, ..PowerVm::usual(VmAction::ShutDown) };
        client.call(&calls::power_vm(&id, &body).as_session(session)).await
    };
    for within in [0, 4, 3601, u32::MAX] {
        let refused = problem(ask(within, true).await);
        assert_eq!(refused.field.as_deref(), Some("within"));
        assert_eq!(refused.detail, "A guest is given 5 to 3600 seconds to end.");
    }
    // Whoever thinks better of it has it run on.
    let task = ask(60, true).await.unwrap();
    place.becomes(&id, VmState::Stopping).await;
    client.call(&calls::cancel_task(task.id).as_session(session)).await.unwrap();
    assert_eq!(place.ended(task.id).await.state, TaskState::Cancelled);
    assert_eq!(place.vm(&id).await.state, VmState::Running);

    let task = ask(5, false).await.unwrap();
    let task = place.ended(task.id).await;
    let sentence = "Its guest has not ended within 5 seconds. Look at its screen, or force it off.";
    assert_eq!((task.state, task.outcome.as_str()), (TaskState::Failed, sentence));
    assert_eq!(place.vm(&id).await.state, VmState::Running);

    // What begins anew is the same machine.
    for action in [VmAction::Reboot, VmAction::Reset] {
        place.does(&id, action).await;
        assert_eq!((place.vm(&id).await.state, process()), (VmState::Running, before), "{action:?}");
    }

    let task = ask(5, true).await.unwrap();
    let task = place.ended(task.id).await;
    assert_eq!(task.state, TaskState::Done, "{task:?}");
    let took = task.ended_at.unwrap().duration_since(task.started_at.unwrap());
    assert!(took.as_secs() >= 5, "{took:?}");
    let vm = place.vm(&id).await;
    assert_eq!((vm.state, vm.is_wanted_on), (VmState::Stopped, false));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_that_is_protected_is_not_removed() {
    let place = Place::start().await.with_pool().await;
    let (client, session) = (place.host.client(), &place.session);
    let id = place.make(&NewVm { disks: vec![disk(MIB)], ..quiet("web-01") }).await;
    let protect = async |protected| {
        let policy = Some(VmPolicy { protected, ..VmPolicy::default() });
        let change = ChangeVm { policy, ..ChangeVm::default() };
        client.call(&calls::change_vm(&id, &change).as_session(session)).await.unwrap();
    };
    let remove = async |keep_disks| {
        let body = RemoveVm { name: "web-01".into(), keep_disks };
        client.call(&calls::remove_vm(&id, &body).as_session(session)).await
    };
    let sentence = "It is protected from being removed. Take the protection away first.";
    protect(true).await;
    for keep_disks in [false, true] {
        let refused = problem(remove(keep_disks).await);
        assert_eq!((refused.code, refused.detail.as_str()), (ProblemCode::Conflict, sentence));
    }
    // Everything else can be done with it.
    place.does(&id, VmAction::Start).await;
    place.does(&id, VmAction::ForceStop).await;

    // What could not be done before it was protected is not done after.
    protect(false).await;
    place.daemon.hangs();
    let task = remove(false).await.unwrap();
    let failed = place.ended(task.id).await;
    place.daemon.goes_on();
    assert_eq!(failed.state, TaskState::Failed, "{failed:?}");
    protect(true).await;
    let again = client.call(&calls::retry_task(task.id).as_session(session)).await.unwrap();
    let again = place.ended(again.id).await;
    assert_eq!((again.state, again.outcome.as_str()), (TaskState::Failed, sentence));
    assert_eq!(place.domains(), [id.as_str()]);
    assert_eq!(place.vm(&id).await.spec.disks.len(), 1);
    place.all_is_whole();
    protect(false).await;
    place.remove(&id).await;
    assert!(place.domains().is_empty() && place.vms().await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn machines_start_with_their_host_in_the_order_that_they_have() {
    let mut place = Place::start().await;
    for (name, start_at_boot, boot_order, boot_delay, template) in [
        ("third", true, 20, 0, false),
        ("second-a", true, 7, 0, false),
        ("a template", true, 1, 0, true),
        ("first", true, 3, 3, false),
        ("stays off", false, 1, 0, false),
        ("second-b", true, 7, 0, false),
    ] {
        let policy = VmPolicy { start_at_boot, boot_order, boot_delay, template, ..VmPolicy::default() };
        place.make(&NewVm { policy, ..quiet(name) }).await;
    }
    place.host.kill();
    place.daemon.lose_everything();
    place.host.forget_start();
    place.host.start_again();
    place.host.ready().await;
    until("four are on", async || {
        let all = place.vms().await;
        all.iter().filter(|vm| vm.state == VmState::Running && vm.task.is_none()).count() == 4
    })
    .await;
    let query = TaskQuery { sort: Some("id".into()), kind: Some("start-vm".into()), ..TaskQuery::default() };
    let tasks = place.host.client().call(&calls::tasks(&query).as_session(&place.session)).await.unwrap();
    let mut names: Vec<_> = tasks.items.iter().map(|task| task.object_name.as_str()).collect();
    // Those of one number come at once.
    names[1..3].sort_unstable();
    assert_eq!(names, ["first", "second-a", "second-b", "third"]);
    let begun = |at: usize| tasks.items[at].made_at;
    assert!(begun(1).duration_since(begun(0)).as_secs() >= 3, "{tasks:?}");
    assert!(begun(2).duration_since(begun(1)).as_secs() < 3, "{tasks:?}");
    assert!(tasks.items.iter().all(|task| task.actor == "qx-1"), "{tasks:?}");
    for vm in place.vms().await {
        let stays_off = ["a template", "stays off"].contains(&vm.spec.name.as_str());
        assert_eq!(vm.state == VmState::Stopped, stays_off, "{vm:?}");
    }
    // Nobody can make a template that is on either.
    let policy = VmPolicy { template: true, ..VmPolicy::default() };
    let wrong = NewVm { policy, start: true, ..quiet("another template") };
    let refused = problem(place.host.client().call(&calls::make_vm(&wrong).as_session(&place.session)).await);
    assert_eq!(refused.field.as_deref(), Some("start"), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_that_wakes_is_what_it_was_and_what_was_changed_meanwhile_waits_or_is_done() {
    let place = Place::start().await.with_pool().await;
    let id = place.make(&NewVm { start: true, ..quiet("web-01") }).await;
    place.becomes(&id, VmState::Running).await;
    place.does(&id, VmAction::Suspend).await;
    for wish in [Wish::Rename, Wish::MoreMemory, Wish::AddDisk] {
        let task = place.asks(&id, wish).await.unwrap();
        place.has_done(&id, wish, VmState::Suspended, task).await;
    }
    place.does(&id, VmAction::Start).await;
    // A disk can be plugged in now, and memory cannot.
    let volume = place.vm(&id).await.spec.disks[0].volume.clone();
    until("it has the disk", async || place.daemon.virsh(&["domblklist", &id]).contains(&volume)).await;
    let memory = || {
        let told = place.daemon.virsh(&["dominfo", &id]);
        told.lines().find_map(|line| line.strip_prefix("Max memory:")).unwrap().trim().to_owned()
    };
    let vm = place.vm(&id).await;
    assert_eq!((memory().as_str(), vm.spec.memory.mib), ("65536 KiB", 96));
    assert!(vm.waits_for_restart && vm.drift.is_empty() && vm.trouble.is_empty(), "{vm:?}");
    place.does(&id, VmAction::ForceStop).await;
    place.does(&id, VmAction::Start).await;
    assert_eq!(memory(), "98304 KiB");
    let vm = place.vm(&id).await;
    assert!(!vm.waits_for_restart && vm.drift.is_empty(), "{vm:?}");
    place.does(&id, VmAction::ForceStop).await;
    place.all_is_whole();
}
