//! What we show of a machine is what libvirt's own program shows of it; and of two who change it at once, one is told.

use std::{collections::BTreeMap, sync::Arc};

use quantix_api::{
    CallError, ChangeVm, Image, NewVm, ProblemCode, TaskState, Vm, VmAction, VmCd, VmCpu, VmDisk, VmMemory,
    VmNic, VmPolicy, VmSpec, VmState, calls,
};
use quantix_compute::{Element, recognise};
use quantix_libvirt::count;
use tokio::sync::Barrier;

use crate::{
    hosts::{problem, until},
    live::with_bridges,
    place::{Place, disk, new},
};

const MIB: u64 = 1 << 20;

/// What virsh calls it.
fn word(state: VmState) -> &'static str {
    match state {
        VmState::Running => "running",
        VmState::Paused => "paused",
        VmState::Stopped | VmState::Suspended | VmState::Crashed => "shut off",
        VmState::Starting | VmState::Stopping | VmState::Unknown => "something else",
    }
}

/// Rows of words.
fn rows(told: &str) -> Vec<Vec<&str>> {
    told.lines()
        .map(|line| line.split_whitespace().collect())
        .filter(|row: &Vec<_>| !row.is_empty())
        .collect()
}

/// Names and values.
fn facts(told: &str) -> BTreeMap<&str, &str> {
    told.lines().filter_map(|line| line.split_once(':')).map(|(name, is)| (name.trim(), is.trim())).collect()
}

impl Place {
    async fn iso(&self) -> Image {
        let mut content = vec![0; 1 << 20];
        content[0x8000..0x8006].copy_from_slice(b"\x01CD001");
        let image = self.brought("installer", "installer.iso", &content).await;
        let call = calls::finish_image(&image.id).as_session(&self.session);
        let task = self.host.client().call(&call).await.unwrap();
        assert_eq!(self.ended(task.id).await.state, TaskState::Done);
        image
    }

    /// Looks at a machine with every question that virsh has an answer to.
    async fn agrees(&self, id: &str) {
        self.is_left_alone(id).await;
        let vm = self.vm(id).await;
        assert!(vm.drift.is_empty() && vm.trouble.is_empty() && !vm.waits_for_restart, "{vm:?}");
        let spec = &vm.spec;
        let is_on = vm.state.is_on();
        let virsh = |args: &[&str]| self.daemon.virsh(args);
        assert_eq!(virsh(&["domstate", id]).trim(), word(vm.state));
        let list = virsh(&["list", "--all", "--title"]);
        let line = list.lines().find(|line| line.contains(&self.domain(id))).unwrap();
        assert!(line.contains(word(vm.state)) && line.trim_end().ends_with(&spec.name), "{list}");

        let told = virsh(&["dominfo", id]);
        let told = facts(&told);
        let (cpus, kib) = (spec.cpu.count().to_string(), format!("{} KiB", spec.memory.mib << 10));
        let asleep = if vm.state == VmState::Suspended { "yes" } else { "no" };
        for (fact, expected) in [
            ("UUID", vm.id.as_str()),
            ("State", word(vm.state)),
            ("CPU(s)", cpus.as_str()),
            ("Max memory", kib.as_str()),
            ("Used memory", kib.as_str()),
            ("Persistent", "yes"),
            ("Autostart", "disable"),
            ("Managed save", asleep),
        ] {
            assert_eq!(told.get(fact), Some(&expected), "{fact}: {told:?}");
        }

        let most = spec.cpu.most.to_string();
        let live = is_on.then_some("live");
        for which in ["config"].into_iter().chain(live) {
            let told = virsh(&["vcpucount", id]);
            for expected in [["maximum", which, most.as_str()], ["current", which, cpus.as_str()]] {
                assert!(rows(&told).contains(&expected.to_vec()), "{expected:?}: {told}");
            }
        }
        self.has_its_devices(&vm).await;
    }

    /// Its disks, CDs and cards, and what else it has.
    async fn has_its_devices(&self, vm: &Vm) {
        let (id, spec) = (vm.id.as_str(), &vm.spec);
        let virsh = |args: &[&str]| self.daemon.virsh(args);
        let blocks = virsh(&["domblklist", id, "--details"]);
        let files = |kind: &str| -> Vec<String> {
            let of_it = rows(&blocks).into_iter().filter(|row| row[1] == kind);
            of_it.map(|row| row[3].rsplit('/').next().unwrap().to_owned()).collect()
        };
        let disks: Vec<_> = spec.disks.iter().map(|disk| format!("{}.qcow2", disk.volume)).collect();
        assert_eq!(files("disk"), disks, "{blocks}");
        let cds: Vec<_> = spec.cds.iter().map(|cd| format!("{}.iso", cd.image.as_ref().unwrap())).collect();
        assert_eq!(files("cdrom"), cds, "{blocks}");
        for (at, disk) in spec.disks.iter().enumerate() {
            let call = calls::volume(&disk.volume).as_session(&self.session);
            let volume = self.host.client().call(&call).await.unwrap();
            assert_eq!(volume.vm.as_deref(), Some(id));
            let target = format!("vd{}", char::from(b'a' + u8::try_from(at).unwrap()));
            let told = virsh(&["domblkinfo", id, &target]);
            assert_eq!(facts(&told).get("Capacity"), Some(&volume.bytes.to_string().as_str()), "{told}");
        }
        let cards = virsh(&["domiflist", id]);
        let cards: Vec<_> = rows(&cards).into_iter().map(|row| row[1..].to_vec()).collect();
        let ours: Vec<_> = spec
            .nics
            .iter()
            .map(|nic| vec!["bridge", nic.bridge.as_str(), "virtio", nic.mac.as_str()])
            .collect();
        assert_eq!(cards, ours);

        // All of what is kept, read with our own eyes.
        let kept = Element::from_xml(&virsh(&["dumpxml", id, "--inactive"])).unwrap();
        let mut seen = recognise(&kept).unwrap();
        for (disk, ours) in seen.spec.disks.iter_mut().zip(&spec.disks) {
            assert!(disk.volume.ends_with(&format!("/{}.qcow2", ours.volume)), "{disk:?}");
            disk.volume.clone_from(&ours.volume);
        }
        seen.spec.cds.clone_from(&spec.cds);
        assert_eq!((&seen.spec, seen.others), (spec, Vec::new()));
        // And of what it is just now.
        let now = Element::from_xml(&virsh(&["dumpxml", id])).unwrap();
        let devices = now.child("devices").unwrap();
        let count = |kind: &str| devices.all(kind).count();
        assert_eq!(count("disk"), spec.disks.len() + spec.cds.len());
        assert_eq!(count("interface"), spec.nics.len());
        assert_eq!(count("tpm"), usize::from(spec.tpm));
        let bites = devices.child("watchdog").unwrap().attribute("action");
        assert_eq!(bites == Some("reset"), spec.watchdog);
        assert_eq!(now.child("os").unwrap().attribute("firmware"), Some("efi"));
    }
}

#[tokio::test]
async fn virsh_shows_what_we_show_of_a_machine_that_is_off_on_still_and_asleep() {
    with_bridges();
    let place = Place::start().await.with_pool().await;
    let card =
        |last: u8| VmNic { bridge: "br-one".into(), mac: format!("52:54:00:00:00:{last:02x}"), model: None };
    let spec = VmSpec {
        description: "Answers for <the> shop\nand its \"basket\"".into(),
        cpu: VmCpu { cores: 2, most: 4, ..VmCpu::default() },
        memory: VmMemory { mib: 128, most_mib: 1024, ..VmMemory::default() },
        tpm: true,
        watchdog: true,
        cds: vec![VmCd { image: Some(place.iso().await.id) }],
        nics: vec![card(1), card(2)],
        ..VmSpec::named("Rack 4: web")
    };
    let disks = vec![disk(64 * MIB), disk(32 * MIB)];
    let id = place.make(&NewVm { disks, ..NewVm::usual(spec) }).await;
    place.agrees(&id).await;
    place.does(&id, VmAction::Start).await;
    place.agrees(&id).await;
    place.does(&id, VmAction::Pause).await;
    place.agrees(&id).await;
    place.does(&id, VmAction::Resume).await;

    // What is given while it is on is there at once, on both sides.
    let mut more = place.vm(&id).await.spec;
    (more.cpu.cores, more.memory.mib) = (3, 512);
    more.nics.push(card(3));
    place.becomes_like(&id, more).await;
    until("it has them", async || {
        let vm = place.vm(&id).await;
        vm.spec.nics.len() == 3 && !vm.waits_for_restart
    })
    .await;
    place.agrees(&id).await;
    // It wakes with all of it.
    place.does(&id, VmAction::Suspend).await;
    place.agrees(&id).await;
    place.does(&id, VmAction::Start).await;
    place.agrees(&id).await;
    place.does(&id, VmAction::ForceStop).await;
    place.agrees(&id).await;
    place.all_is_whole();
}

/// Changes all that two people can tell apart.
fn signed(before: &Vm, who: u64, round: u64) -> ChangeVm {
    let spec = VmSpec {
        name: format!("web-{who}-{round}"),
        description: format!("{who} wrote this in round {round}"),
        memory: VmMemory { mib: 64 + 2 * round + who, ..before.spec.memory.clone() },
        ..before.spec.clone()
    };
    let labels = [(format!("who-{who}"), round.to_string())].into();
    let boot_order = u16::try_from(2 * round + who).unwrap();
    let policy = VmPolicy { boot_order, labels, ..before.policy.clone() };
    ChangeVm { spec: Some(spec), policy: Some(policy), ..ChangeVm::default() }
}

/// Two calls at the same moment.
async fn at_once(
    place: &Place,
    id: &str,
    changes: [(&ChangeVm, Option<u64>); 2],
) -> [Result<Vm, CallError>; 2] {
    let barrier = Arc::new(Barrier::new(2));
    let asking = changes.map(|(change, seen)| {
        let call = calls::change_vm(id, change).as_session(&place.session);
        let call = match seen {
            Some(seen) => call.if_version(seen),
            None => call,
        };
        let client = place.host.client();
        let barrier = Arc::clone(&barrier);
        tokio::spawn(async move {
            barrier.wait().await;
            client.call(&call).await
        })
    });
    let [one, other] = asking;
    [one.await.unwrap(), other.await.unwrap()]
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_who_change_a_machine_at_once_one_is_told_and_nothing_is_mixed() {
    let place = Place::start().await;
    let id = place.make(&new("web-01")).await;
    let mut won = [0, 0];
    for round in 0..count(40, 400) {
        let before = place.vm(&id).await;
        let wanted = [signed(&before, 0, round), signed(&before, 1, round)];
        let seen = Some(before.version);
        let answers = at_once(&place, &id, [(&wanted[0], seen), (&wanted[1], seen)]).await;
        let winners: Vec<_> = (0..2).filter(|who| answers[*who].is_ok()).collect();
        assert_eq!(winners.len(), 1, "round {round}: {answers:?}");
        let winner = winners[0];
        won[winner] += 1;
        for (who, answer) in answers.into_iter().enumerate() {
            if who != winner {
                let told = problem(answer);
                assert_eq!((told.code, told.status), (ProblemCode::ChangedMeanwhile, 412));
                assert!(told.detail.starts_with("Somebody else has changed this"), "{told:?}");
            }
        }
        let after = place.vm(&id).await;
        assert_eq!(Some(&after.spec), wanted[winner].spec.as_ref());
        assert_eq!(Some(&after.policy), wanted[winner].policy.as_ref());
        assert_eq!(after.version, before.version + 1);
    }
    eprintln!("won: {won:?}");
    // Who changes another part undoes nothing, though neither looked.
    for round in 0..10 {
        let before = place.vm(&id).await;
        let [mut one, mut other] = [signed(&before, 0, 500 + round), signed(&before, 1, 500 + round)];
        (one.policy, other.spec) = (None, None);
        for answer in at_once(&place, &id, [(&one, None), (&other, None)]).await {
            answer.unwrap();
        }
        let after = place.vm(&id).await;
        assert_eq!((Some(after.spec), Some(after.policy)), (one.spec, other.policy));
    }
    // libvirt has what was written last.
    until("libvirt has it", async || {
        let (vm, kept) = (place.vm(&id).await, place.daemon.virsh(&["dumpxml", &id, "--inactive"]));
        kept.contains(&format!("<title>{}</title>", vm.spec.name)) && vm.drift.is_empty()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_volume_and_no_image_is_refused_where_it_stands() {
    let place = Place::start().await.with_pool().await;
    let id = place.make(&new("web-01")).await;
    let before = place.vm(&id).await;
    let long = "x".repeat(10_000);
    for hostile in [
        "/etc/shadow",
        "../../etc/shadow",
        "\"/><disk type='file'><source file='/etc/shadow'/></disk>",
        "&xxe;",
        "a\u{0}b",
        "\u{202e}",
        "",
        &long,
    ] {
        let mut with_disk = before.spec.clone();
        with_disk.disks = vec![VmDisk::usual(hostile)];
        let mut with_cd = before.spec.clone();
        with_cd.cds = vec![VmCd { image: Some(hostile.to_owned()) }];
        for (field, spec) in [("spec.disks.0.volume", with_disk), ("spec.cds.0.image", with_cd)] {
            let change = ChangeVm { spec: Some(spec), ..ChangeVm::default() };
            let call = calls::change_vm(&id, &change).as_session(&place.session);
            let refused = problem(place.host.client().call(&call).await);
            assert_eq!(refused.field.as_deref(), Some(field), "{hostile:?}: {refused:?}");
        }
    }
    assert_eq!(place.vm(&id).await, before);
}
