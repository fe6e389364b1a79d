//! A new machine a step at a time: what has been filled in so far is looked at by the agent, and told in words.

use askama::Template;
use axum::{
    Json,
    extract::{Extension, State},
    response::{IntoResponse, Response},
};
use quantix_api::{CallError, NewVm, calls};
use serde::Serialize;

use super::{
    choices::{Choice, Choices},
    cloud_init,
    form::{FIRMWARES, VmForm, as_the_form_says, wanted},
    machine,
};
use crate::{
    component::Icon,
    frame::Frame,
    problem::{Filled, is_told},
    session::turned_away,
    web::{ClientAddress, Web},
    words,
};

/// What is said of what has been filled in.
#[derive(Debug, Default, Serialize)]
struct Looked {
    /// What is wrong.
    sentence: Option<String>,
    /// With which field, if it is one.
    field: Option<String>,
    /// The machine in words, as markup; nothing if it could not be read.
    summary: Option<String>,
}

/// A machine that shall be made, in words.
#[derive(Debug, Template)]
#[template(path = "vms/summary.html")]
struct Summary {
    facts: Vec<(&'static str, String)>,
    warnings: Vec<&'static str>,
}

/// `POST /vms/new/check`
pub(crate) async fn check(
    State(web): State<Web>,
    Extension(client): Extension<ClientAddress>,
    frame: Frame,
    Filled(form): Filled<VmForm>,
) -> Response {
    let mut looked = Looked::default();
    let checked = async {
        let new = wanted(&web, &frame, &form).await?;
        let choices = Choices::load(&web, &frame).await?;
        looked.summary = Summary::of(&new, &choices).render().ok();
        web.agent.call(&calls::check_vm(&new).as_session(frame.token()).for_client(client.0)).await
    };
    match checked.await {
        Ok(()) => {}
        Err(CallError::Problem(problem)) if is_told(&problem) => {
            let problem = as_the_form_says(problem);
            (looked.sentence, looked.field) = (Some(problem.detail), problem.field);
        }
        Err(error) => return turned_away(&error),
    }
    Json(looked).into_response()
}

fn title<'a>(choices: &'a [Choice], id: &str) -> Option<&'a str> {
    choices.iter().find(|(known, _)| known == id).map(|(_, title)| title.as_str())
}

/// `one thing`, or `3 things`.
fn count(count: usize, thing: &str) -> String {
    if count == 1 { format!("1 {thing}") } else { format!("{count} {thing}s") }
}

impl Summary {
    fn of(new: &NewVm, choices: &Choices) -> Self {
        let spec = &new.spec;
        let folders = choices.of_folders();
        let folder = new.folder.and_then(|folder| title(&folders, &folder.to_string()));
        let firmware = FIRMWARES.iter().find(|(firmware, _)| *firmware == spec.firmware);
        let mut facts = vec![("Name", spec.name.clone())];
        facts.extend(folder.map(|folder| ("Folder", folder.to_owned())));
        facts.extend([
            ("Runs", machine::guest(spec.guest).to_owned()),
            (
                "Size",
                format!(
                    "{}, {} of memory",
                    count(usize::from(spec.cpu.sockets) * usize::from(spec.cpu.cores), "core"),
                    words::bytes(spec.memory.mib << 20)
                ),
            ),
            ("Firmware", firmware.map_or("", |(_, title)| title).to_owned()),
        ]);
        facts.extend(disks(new, choices).into_iter().map(|disk| ("Disk", disk)));
        for cd in &spec.cds {
            let inside = cd.image.as_deref().and_then(|image| choices.image(image));
            facts.push(("CD", inside.map_or("an empty drive", |image| &image.name).to_owned()));
        }
        let cards: Vec<_> = spec.nics.iter().map(|nic| nic.bridge.as_str()).collect();
        let network = if cards.is_empty() { "no card".to_owned() } else { cards.join(", ") };
        facts.push(("Network", network));
        if let Some(told) = lets_in(new, choices) {
            facts.push(("Lets in", told));
        }
        let keys = new.cloud_init.iter().flat_map(|told| &told.ssh_keys);
        facts.extend(keys.map(|key| ("SSH key", cloud_init::in_words(key))));
        let host = new.host.as_deref().and_then(|host| title(&choices.hosts, host));
        facts.push(("Host", host.unwrap_or("the one with the least memory spoken for").to_owned()));
        Self { facts, warnings: warnings(new) }
    }
}

fn disks(new: &NewVm, choices: &Choices) -> Vec<String> {
    if new.disks.is_empty() && new.spec.disks.is_empty() {
        return vec!["none".to_owned()];
    }
    let there = new
        .spec
        .disks
        .iter()
        .filter_map(|disk| choices.unused.iter().find(|volume| volume.id == disk.volume));
    let there = there
        .map(|volume| format!("{}, {} in {}", volume.name, words::bytes(volume.bytes), volume.pool_name));
    let disk = |disk: &quantix_api::NewDisk| {
        let pool = title(&choices.pools, &disk.pool).unwrap_or(&disk.pool);
        let of = disk.image.as_deref().and_then(|image| choices.image(image));
        let begins = match of {
            Some(image) if disk.linked => format!(", shared with {}", image.name),
            Some(image) => format!(", a copy of {}", image.name),
            None => ", empty".to_owned(),
        };
        format!("{} in {pool}{begins}", words::bytes(disk.bytes))
    };
    there.chain(new.disks.iter().map(disk)).collect()
}

/// Whom its guest lets in, if that is known or asked for.
fn lets_in(new: &NewVm, choices: &Choices) -> Option<String> {
    let told = new.cloud_init.as_ref()?;
    if !told.lets_in() {
        return Some("nobody".to_owned());
    }
    let usual = new.disks.iter().find_map(|disk| choices.image(disk.image.as_deref()?));
    let user = if told.user.is_empty() { usual.map_or("", |image| &image.user) } else { &told.user };
    let user = if user.is_empty() { "the usual user" } else { user };
    let mut with = Vec::new();
    if told.password.is_some() {
        with.push("a password".to_owned());
    }
    if !told.ssh_keys.is_empty() {
        with.push(count(told.ssh_keys.len(), "SSH key"));
    }
    Some(format!("{user}, with {}", with.join(" and ")))
}

/// What is allowed, and is seldom meant.
fn warnings(new: &NewVm) -> Vec<&'static str> {
    let mut warnings = Vec::new();
    let has_image = new.disks.iter().any(|disk| disk.image.is_some());
    let has_cd = new.spec.cds.iter().any(|cd| cd.image.is_some());
    if has_image && !new.has_way_in && !new.cloud_init.as_ref().is_some_and(quantix_api::CloudInit::lets_in) {
        warnings.push("Nobody is let in. Most cloud images need a password or an SSH key, in First login.");
    }
    if !has_image && !has_cd && new.spec.disks.is_empty() {
        warnings.push("It has nothing to start from. Choose an image, or put a CD into its drive.");
    }
    if new.spec.nics.is_empty() {
        warnings.push("It has no network card, and reaches nobody.");
    }
    warnings
}

#[cfg(test)]
mod tests {
    use quantix_api::{Cache, CloudInit, NewDisk, VmCd, VmNic, VmSpec};

    use super::*;

    fn disk(image: Option<&str>) -> NewDisk {
        NewDisk {
            pool: "p1".into(),
            bytes: 20 << 30,
            image: image.map(str::to_owned),
            linked: false,
            bus: None,
            cache: Cache::default(),
        }
    }

    fn choices() -> Choices {
        Choices {
            pools: vec![("p1".into(), "local".into())],
            hosts: vec![("h1".into(), "qx-01".into())],
            ..Choices::default()
        }
    }

    const KEY: &str =
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEB ada@laptop";

    fn fact(summary: &Summary, name: &str) -> Option<String> {
        summary.facts.iter().find(|(known, _)| *known == name).map(|(_, fact)| fact.clone())
    }

    #[test]
    fn a_machine_is_told_in_words() {
        let mut spec = VmSpec::named("web-01");
        (spec.cpu.cores, spec.memory.mib) = (2, 4096);
        spec.nics = vec![VmNic { bridge: "br-int".into(), mac: String::new(), model: None }];
        spec.cds = vec![VmCd { image: None }];
        let told = CloudInit {
            user: "ops".into(),
            ssh_keys: vec![KEY.into(), "two".into()],
            ..CloudInit::default()
        };
        let new = NewVm {
            disks: vec![disk(None)],
            cloud_init: Some(told),
            host: Some("h1".into()),
            ..NewVm::usual(spec)
        };
        let summary = Summary::of(&new, &choices());
        let told = |name: &str| fact(&summary, name).unwrap();
        assert_eq!(told("Size"), "2 cores, 4 GiB of memory");
        assert_eq!(told("Disk"), "20 GiB in local, empty");
        assert_eq!((told("CD"), told("Network")), ("an empty drive".into(), "br-int".into()));
        assert_eq!(told("Lets in"), "ops, with 2 SSH keys");
        assert_eq!(told("SSH key"), "Ed25519, 256 bits, ada@laptop");
        assert_eq!(told("Host"), "qx-01");
        assert!(summary.render().unwrap().contains("<dd>20 GiB in local, empty</dd>"));
    }

    #[test]
    fn what_is_seldom_meant_is_said() {
        let mut new = NewVm::usual(VmSpec::named("web-01"));
        new.spec.nics.clear();
        let about = |new: &NewVm, word: &str| warnings(new).iter().any(|warning| warning.contains(word));
        assert!(about(&new, "nothing to start from") && about(&new, "no network card"));
        new.disks = vec![disk(Some("debian"))];
        assert!(about(&new, "Nobody is let in") && !about(&new, "nothing to start from"));
        new.cloud_init = Some(CloudInit { ssh_keys: vec!["one".into()], ..CloudInit::default() });
        assert!(!about(&new, "Nobody is let in"));
        assert_eq!(
            fact(&Summary::of(&new, &choices()), "Lets in").unwrap(),
            "the usual user, with 1 SSH key"
        );
    }
}
