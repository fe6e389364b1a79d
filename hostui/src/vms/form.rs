//! The form that makes a virtual machine, and the one that changes it: the same fields, in the same order.

use askama::Template;
use axum::{
    extract::{Extension, Path, State},
    response::{IntoResponse, Redirect, Response},
};
use quantix_api::{
    Boot, Cache, CallError, ChangeVm, CloudInit, Firmware, Guest, Image, NewDisk, NewVm, NicModel, Problem,
    ProblemCode, Vm, VmCd, VmDisk, VmDraft, VmNic, VmPolicy, VmSpec, calls, in_whole_gib,
};
use serde::Deserialize;

use super::{
    beside_its_field,
    choices::Choices,
    cloud_init::{self, Told},
    machine,
};
use crate::{
    component::{Fault, Field, Icon},
    frame::Frame,
    problem::{Filled, Page, draw, is_told},
    reader::done,
    session::turned_away,
    storage,
    web::{ClientAddress, Web},
};

const STILL_HERE: &str = "Somebody else has changed this since you read it. What you typed is still here, and takes the place of \
                          what they changed if you save again. Look at the machine in another tab first.";

/// What is filled in. Names are those of the API, so that what it says of a field stands beside it.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct VmForm {
    #[serde(rename = "spec.name")]
    name: String,
    #[serde(rename = "spec.description")]
    description: String,
    #[serde(rename = "spec.guest")]
    guest: String,
    #[serde(rename = "spec.cpu.sockets")]
    sockets: String,
    #[serde(rename = "spec.cpu.cores")]
    cores: String,
    #[serde(rename = "spec.cpu.most")]
    most_cores: String,
    #[serde(rename = "spec.memory.mib")]
    memory: String,
    #[serde(rename = "spec.memory.most_mib")]
    most_memory: String,
    #[serde(rename = "spec.memory.balloon")]
    balloon: Option<String>,
    #[serde(rename = "spec.firmware")]
    firmware: String,
    #[serde(rename = "spec.boot")]
    boot: String,
    #[serde(rename = "spec.cpu.named")]
    named: String,
    #[serde(rename = "spec.tpm")]
    tpm: Option<String>,
    #[serde(rename = "spec.watchdog")]
    watchdog: Option<String>,
    #[serde(rename = "spec.nics")]
    nics: String,
    /// A new machine has none: on which host it will be is not known.
    #[serde(rename = "spec.pci")]
    pci: Option<String>,
    #[serde(rename = "disks.0.bytes")]
    disk: String,
    #[serde(rename = "disks.0.image")]
    image: String,
    /// A volume that is there already, which is its disk then.
    #[serde(rename = "spec.disks")]
    volume: String,
    #[serde(rename = "disks.0.linked")]
    linked: Option<String>,
    pub(super) has_way_in: Option<String>,
    /// Whether the further disks come along of a machine that came as the image.
    further: Option<String>,
    #[serde(rename = "disks.0.pool")]
    pool: String,
    #[serde(rename = "spec.cds")]
    cd: String,
    /// A second drive, with drivers that the system on the first does not bring.
    #[serde(rename = "spec.cds.1")]
    drivers: String,
    folder: String,
    host: String,
    #[serde(rename = "policy.owner")]
    owner: String,
    #[serde(rename = "policy.start_at_boot")]
    start_at_boot: Option<String>,
    #[serde(rename = "policy.boot_order")]
    boot_order: String,
    #[serde(rename = "policy.boot_delay")]
    boot_delay: String,
    #[serde(rename = "policy.restart_after_crash")]
    restart_after_crash: Option<String>,
    #[serde(rename = "policy.protected")]
    protected: Option<String>,
    #[serde(rename = "policy.template")]
    template: Option<String>,
    #[serde(rename = "policy.labels")]
    labels: String,
    /// What comes after it is made: [`START`], [`CONSOLE`] or nothing.
    start: String,
    version: String,
    #[serde(flatten)]
    told: Told,
}

pub(super) fn checked(is: bool) -> Option<String> {
    is.then(|| "true".to_owned())
}

impl VmForm {
    /// As a machine is usually made.
    fn usual(folder: &str) -> Self {
        let spec = VmSpec::named("");
        let form = Self::of(&spec, &VmPolicy::default(), None, 0);
        Self {
            nics: "br-int".to_owned(),
            disk: "20".to_owned(),
            folder: folder.to_owned(),
            start: START.to_owned(),
            ..form
        }
    }

    /// As a machine is that begins as a copy of an image.
    fn on(self, image: &Image) -> Self {
        let mut spec = VmSpec::named("");
        spec.suit(Guest::of_os(&image.os).unwrap_or_default());
        Self {
            image: image.id.clone(),
            guest: spec.guest.name().to_owned(),
            firmware: spec.firmware.name().to_owned(),
            tpm: checked(spec.tpm),
            memory: spec.memory.mib.to_string(),
            ..self
        }
    }

    /// As a machine was that came as an image.
    fn came(image: &Image, draft: &VmDraft, folder: &str) -> Self {
        let of_it = Self::of(&draft.spec("br-int"), &VmPolicy::default(), None, 0);
        let bytes = in_whole_gib(image.bytes.unwrap_or_default());
        Self {
            disk: (bytes >> 30).to_string(),
            image: image.id.clone(),
            pool: image.pool.clone(),
            further: checked(true),
            folder: folder.to_owned(),
            ..of_it
        }
    }

    fn of(spec: &VmSpec, policy: &VmPolicy, folder: Option<i64>, version: u64) -> Self {
        let labels: Vec<_> = policy.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
        let nic = |nic: &VmNic| {
            let model = nic.model.map(|model| format!(" {}", model.name())).unwrap_or_default();
            format!("{} {}{model}", nic.bridge, nic.mac)
        };
        let nics: Vec<_> = spec.nics.iter().map(nic).collect();
        Self {
            name: spec.name.clone(),
            description: spec.description.clone(),
            guest: spec.guest.name().to_owned(),
            sockets: spec.cpu.sockets.to_string(),
            cores: spec.cpu.cores.to_string(),
            most_cores: if spec.cpu.most == 0 { String::new() } else { spec.cpu.most.to_string() },
            memory: spec.memory.mib.to_string(),
            most_memory: if spec.memory.most_mib == 0 {
                String::new()
            } else {
                spec.memory.most_mib.to_string()
            },
            balloon: checked(spec.memory.balloon),
            firmware: spec.firmware.name().to_owned(),
            boot: spec.boot.name().to_owned(),
            named: spec.cpu.named.clone(),
            tpm: checked(spec.tpm),
            watchdog: checked(spec.watchdog),
            nics: nics.join("\n"),
            pci: Some(spec.pci.join("\n")),
            disk: String::new(),
            image: String::new(),
            volume: String::new(),
            linked: None,
            has_way_in: None,
            further: None,
            pool: String::new(),
            cd: spec.cds.first().map_or_else(String::new, |cd| cd.image.clone().unwrap_or(EMPTY.to_owned())),
            drivers: String::new(),
            folder: folder.unwrap_or_default().to_string(),
            host: String::new(),
            owner: policy.owner.clone(),
            start_at_boot: checked(policy.start_at_boot),
            boot_order: policy.boot_order.to_string(),
            boot_delay: policy.boot_delay.to_string(),
            restart_after_crash: checked(policy.restart_after_crash),
            protected: checked(policy.protected),
            template: checked(policy.template),
            labels: labels.join("\n"),
            start: String::new(),
            version: version.to_string(),
            told: Told::of(&CloudInit::default()),
        }
    }

    /// What it says, laid over what is not in the form.
    fn read(&self, before: Option<&Vm>) -> Result<(VmSpec, VmPolicy), Problem> {
        let mut spec = before.map_or_else(|| VmSpec::named(""), |vm| vm.spec.clone());
        let mut policy = before.map(|vm| vm.policy.clone()).unwrap_or_default();
        self.name.trim().clone_into(&mut spec.name);
        spec.description = self.description.trim().replace("\r\n", "\n");
        spec.guest = Guest::ALL.into_iter().find(|guest| guest.name() == self.guest).unwrap_or_default();
        spec.cpu.sockets = number(&self.sockets, "spec.cpu.sockets")?;
        spec.cpu.cores = number(&self.cores, "spec.cpu.cores")?;
        spec.memory.mib = number(&self.memory, "spec.memory.mib")?;
        spec.cpu.most = number_or_none(&self.most_cores, "spec.cpu.most")?;
        spec.memory.most_mib = number_or_none(&self.most_memory, "spec.memory.most_mib")?;
        spec.memory.balloon = self.balloon.is_some();
        spec.firmware = Firmware::ALL.into_iter().find(|one| one.name() == self.firmware).unwrap_or_default();
        spec.boot = Boot::ALL.into_iter().find(|boot| boot.name() == self.boot).unwrap_or_default();
        self.named.trim().clone_into(&mut spec.cpu.named);
        spec.tpm = self.tpm.is_some();
        spec.watchdog = self.watchdog.is_some();
        spec.nics = lines(&self.nics)
            .map(|line| {
                let mut words = line.split_whitespace();
                let bridge = words.next().unwrap_or_default().to_owned();
                let (models, others): (Vec<_>, Vec<_>) = words.partition(|word| NicModel::of(word).is_some());
                let model = models.first().and_then(|model| NicModel::of(model));
                VmNic { bridge, mac: others.join(" "), model }
            })
            .collect();
        if let Some(pci) = &self.pci {
            spec.pci = lines(pci).map(str::to_owned).collect();
        }
        // The form has one drive; another that there is stays.
        let others = spec.cds.split_off(spec.cds.len().min(1));
        let image = Some(self.cd.clone()).filter(|image| !image.is_empty() && image != EMPTY);
        spec.cds = (!self.cd.is_empty()).then_some(VmCd { image }).into_iter().chain(others).collect();
        let drivers = Some(self.drivers.clone()).filter(|image| !image.is_empty());
        spec.cds.extend(drivers.map(|image| VmCd { image: Some(image) }));
        self.owner.trim().clone_into(&mut policy.owner);
        policy.start_at_boot = self.start_at_boot.is_some();
        policy.boot_order = number(&self.boot_order, "policy.boot_order")?;
        policy.boot_delay = number(&self.boot_delay, "policy.boot_delay")?;
        policy.restart_after_crash = self.restart_after_crash.is_some();
        policy.protected = self.protected.is_some();
        policy.template = self.template.is_some();
        policy.labels = lines(&self.labels)
            .map(|line| {
                let (key, value) = line.split_once('=').unwrap_or((line, ""));
                (key.trim().to_owned(), value.trim().to_owned())
            })
            .collect();
        Ok((spec, policy))
    }

    /// The disk that is made with it, if one is.
    fn disks(&self) -> Result<Vec<NewDisk>, Problem> {
        match (self.volume.is_empty(), self.image.is_empty()) {
            (true, _) => {}
            (false, true) => return Ok(Vec::new()),
            (false, false) => {
                let sentence =
                    "It begins with a copy of an image, or with a disk that is there: choose one of the two.";
                return Err(Problem::new(ProblemCode::Invalid, sentence).in_field("spec.disks"));
            }
        }
        if self.disk.trim().is_empty() {
            if !self.image.is_empty() {
                let sentence = "Say how big the disk shall be that begins as a copy of this image.";
                return Err(Problem::new(ProblemCode::Invalid, sentence).in_field("disks.0.bytes"));
            }
            return Ok(Vec::new());
        }
        let bytes = storage::gib(&self.disk, "disks.0.bytes")?;
        let image = Some(self.image.clone()).filter(|image| !image.is_empty());
        Ok(vec![NewDisk {
            pool: self.pool.clone(),
            bytes,
            linked: self.linked.is_some() && image.is_some(),
            image,
            bus: None,
            cache: Cache::default(),
        }])
    }

    fn folder(&self) -> Option<i64> {
        self.folder.parse().ok().filter(|folder| *folder > 0)
    }
}

/// A drive with nothing in it.
pub(super) const EMPTY: &str = "empty";

/// What a new machine does once it is made: it is started, or started with its console open.
const START: &str = "true";
const CONSOLE: &str = "console";

pub(super) fn lines(text: &str) -> impl Iterator<Item = &str> {
    text.lines().map(str::trim).filter(|line| !line.is_empty())
}

fn number<T: std::str::FromStr>(text: &str, field: &str) -> Result<T, Problem> {
    let wrong =
        || Problem::new(ProblemCode::Invalid, "This is not a number that can be used.").in_field(field);
    text.trim().parse().map_err(|_| wrong())
}

fn number_or_none<T: std::str::FromStr + Default>(text: &str, field: &str) -> Result<T, Problem> {
    if text.trim().is_empty() { Ok(T::default()) } else { number(text, field) }
}

pub(super) const FIRMWARES: [(Firmware, &str); 3] = [
    (Firmware::Uefi, "UEFI"),
    (Firmware::SecureBoot, "UEFI with Secure Boot"),
    (Firmware::Bios, "BIOS, for old systems"),
];

#[derive(Debug, Template)]
#[template(path = "vms/form.html")]
struct FormPage {
    frame: Frame,
    /// The machine that is changed; nothing for a new one.
    vm: Option<Vm>,
    form: VmForm,
    choices: Choices,
    problem: Option<Problem>,
}

impl FormPage {
    const SHOWN: &[&str] = &[
        "spec.name",
        "spec.description",
        "spec.guest",
        "spec.cpu.sockets",
        "spec.cpu.cores",
        "spec.cpu.most",
        "spec.memory.mib",
        "spec.memory.most_mib",
        "spec.firmware",
        "spec.boot",
        "spec.cpu.named",
        "spec.cds",
        "spec.cds.1",
        "spec.nics",
        "spec.pci",
        "disks.0.bytes",
        "disks.0.image",
        "disks.0.pool",
        "spec.disks",
        "folder",
        "host",
        "policy.owner",
        "policy.boot_order",
        "policy.boot_delay",
        "policy.labels",
        "policy.protected",
        "policy.template",
    ];

    fn faults(&self) -> Fault {
        let shown: Vec<_> = Self::SHOWN.iter().copied().chain(cloud_init::FIELDS).collect();
        Fault::of(&self.problem, &shown)
    }

    /// Whether what is wrong stands among what is folded away.
    fn opens(&self, fields: &[&str]) -> bool {
        let about = self.problem.as_ref().and_then(|problem| problem.field.as_deref()).unwrap_or_default();
        fields.contains(&about)
    }

    fn title(&self) -> String {
        self.vm.as_ref().map_or("New virtual machine".to_owned(), |vm| format!("Edit {}", vm.spec.name))
    }

    fn guests(&self) -> Vec<(&'static str, &'static str)> {
        Guest::ALL.into_iter().map(|guest| (guest.name(), machine::guest(guest))).collect()
    }

    /// For each guest what is filled in when it is chosen: the hardware that suits it.
    fn suits(&self) -> [(&'static str, String); 3] {
        Guest::ALL.map(|guest| {
            let mut spec = VmSpec::named("");
            spec.suit(guest);
            let tpm = if spec.tpm { "true" } else { "" };
            let firmware = spec.firmware.name();
            let filled =
                format!("spec.firmware={firmware}&spec.tpm={tpm}&spec.memory.mib={}", spec.memory.mib);
            (guest.name(), filled)
        })
    }

    fn boots(&self) -> Vec<(&'static str, &'static str)> {
        let title = |boot| match boot {
            Boot::Disk => "Its disks",
            Boot::Cd => "Its CD drive",
            Boot::Network => "The network",
        };
        Boot::ALL.into_iter().map(|boot| (boot.name(), title(boot))).collect()
    }

    fn firmwares(&self) -> Vec<(&'static str, &'static str)> {
        FIRMWARES.into_iter().map(|(firmware, title)| (firmware.name(), title)).collect()
    }

    /// Sizes that are often asked for: what is filled in, and what it is called.
    fn sizes(&self) -> Vec<(String, String)> {
        let size = |(cores, gib, name): (u16, u64, &str)| {
            let filled = format!("spec.cpu.sockets=1&spec.cpu.cores={cores}&spec.memory.mib={}", gib << 10);
            let cores = if cores == 1 { "1 core".to_owned() } else { format!("{cores} cores") };
            (filled, format!("{name}: {cores}, {gib} GiB"))
        };
        [(1, 2, "Small"), (2, 4, "Medium"), (4, 8, "Large"), (8, 16, "Very large")].map(size).into()
    }

    fn afterwards(&self) -> [(&'static str, &'static str); 3] {
        [(START, "Start it"), (CONSOLE, "Start it, and open its console"), ("off", "Leave it off")]
    }
}

/// A problem as the form calls its fields.
pub(super) fn as_the_form_says(problem: Problem) -> Problem {
    cloud_init::beside_its_field(beside_its_field(problem))
}

async fn draw_form(
    web: &Web,
    frame: Frame,
    vm: Option<Vm>,
    form: VmForm,
    problem: Option<Problem>,
) -> Response {
    let choices = match Choices::load(web, &frame).await {
        Ok(choices) => choices,
        Err(error) => return turned_away(&error),
    };
    let problem = problem.map(as_the_form_says);
    let status = problem.as_ref().map(|problem| problem.code.status()).unwrap_or_default();
    (status, draw(&FormPage { frame, vm, form, choices, problem })).into_response()
}

/// `GET /vms/new?folder=…`
pub(crate) async fn new_page(State(web): State<Web>, frame: Frame) -> Response {
    let (folder, image) = (frame.address.get("folder"), frame.address.get("image"));
    let mut form = VmForm::usual(folder);
    if !image.is_empty() {
        match web.agent.call(&calls::image(image).as_session(frame.token())).await {
            Ok(image) => match &image.draft {
                Some(draft) => form = VmForm::came(&image, draft, folder),
                None => form = form.on(&image),
            },
            Err(error) => return turned_away(&error),
        }
    }
    draw_form(&web, frame, None, form, None).await
}

/// The disks that a form asks for.
async fn disks_of(web: &Web, frame: &Frame, form: &VmForm) -> Result<Vec<NewDisk>, CallError> {
    let mut disks = form.disks()?;
    if form.further.is_some() && !form.image.is_empty() {
        let images = web.agent.call(&calls::images().as_session(frame.token())).await?.items;
        let chosen = images.iter().find(|image| image.id == form.image);
        if let Some(draft) = chosen.and_then(|image| image.draft.as_ref()) {
            disks.extend(draft.further_disks(&images, form.linked.is_some()));
        }
    }
    Ok(disks)
}

/// The machine that a form asks for.
pub(super) async fn wanted(web: &Web, frame: &Frame, form: &VmForm) -> Result<NewVm, CallError> {
    let (mut spec, policy) = form.read(None)?;
    if !form.volume.is_empty() {
        spec.disks = vec![VmDisk::usual(form.volume.clone())];
    }
    Ok(NewVm {
        spec,
        disks: disks_of(web, frame, form).await?,
        cloud_init: form.told.read()?,
        has_way_in: form.has_way_in.is_some(),
        policy,
        folder: form.folder(),
        host: Some(form.host.clone()).filter(|host| !host.is_empty()),
        start: matches!(form.start.as_str(), START | CONSOLE),
    })
}

/// `POST /vms/new`
pub(crate) async fn make(
    State(web): State<Web>,
    Extension(client): Extension<ClientAddress>,
    frame: Frame,
    Filled(form): Filled<VmForm>,
) -> Response {
    let made = async {
        let call = calls::make_vm(&wanted(&web, &frame, &form).await?).as_session(frame.token());
        web.agent.call(&call.for_client(client.0)).await
    };
    match made.await {
        Ok(task) => {
            let id = task.object.strip_prefix("vm/").unwrap_or_default();
            if form.start == CONSOLE {
                return Redirect::to(&format!("/console?vm={id}")).into_response();
            }
            done(&format!("/vms/{id}"), &format!("{} is being made.", task.object_name))
        }
        Err(CallError::Problem(problem)) if is_told(&problem) => {
            draw_form(&web, frame, None, form, Some(problem)).await
        }
        Err(error) => turned_away(&error),
    }
}

/// `GET /vms/{id}/edit`
pub(crate) async fn edit_page(State(web): State<Web>, frame: Frame, Path(id): Path<String>) -> Response {
    match web.agent.call(&calls::vm(&id).as_session(frame.token())).await {
        Ok(vm) => {
            let form = VmForm::of(&vm.spec, &vm.policy, vm.folder, vm.version);
            draw_form(&web, frame, Some(vm), form, None).await
        }
        Err(CallError::Problem(problem)) if problem.code == ProblemCode::NotFound => {
            Page::not_found().into_response()
        }
        Err(error) => turned_away(&error),
    }
}

/// `POST /vms/{id}/edit`
pub(crate) async fn edit(
    State(web): State<Web>,
    Extension(client): Extension<ClientAddress>,
    frame: Frame,
    Path(id): Path<String>,
    Filled(mut form): Filled<VmForm>,
) -> Response {
    let vm = match web.agent.call(&calls::vm(&id).as_session(frame.token())).await {
        Ok(vm) => vm,
        Err(error) => return turned_away(&error),
    };
    let (spec, policy) = match form.read(Some(&vm)) {
        Ok(read) => read,
        Err(problem) => return draw_form(&web, frame, Some(vm), form, Some(problem)).await,
    };
    let change = ChangeVm {
        spec: (spec != vm.spec).then_some(spec),
        policy: (policy != vm.policy).then_some(policy),
        folder: (form.folder() != vm.folder).then_some(form.folder()),
    };
    let call = calls::change_vm(&id, &change).if_version(form.version.parse().unwrap_or_default());
    match web.agent.call(&call.as_session(frame.token()).for_client(client.0)).await {
        Ok(changed) if changed.state.is_on() && change.spec.is_some() => done(
            &format!("/vms/{id}"),
            "Saved. What cannot change while it is on counts from its next start.",
        ),
        Ok(_) => done(&format!("/vms/{id}"), "Saved."),
        Err(CallError::Problem(mut problem)) if is_told(&problem) => {
            if problem.code == ProblemCode::ChangedMeanwhile {
                form.version = vm.version.to_string();
                problem.detail = STILL_HERE.to_owned();
            }
            draw_form(&web, frame, Some(vm), form, Some(problem)).await
        }
        Err(error) => turned_away(&error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_drawn_into_a_form_is_read_from_it_again() {
        let mut spec = VmSpec::named("web-01");
        spec.description = "one\ntwo".into();
        spec.firmware = Firmware::SecureBoot;
        spec.nics = vec![VmNic { bridge: "br-int".into(), mac: "52:54:00:00:00:01".into(), model: None }];
        let policy = VmPolicy {
            owner: "max".to_owned(),
            start_at_boot: true,
            boot_order: 7,
            labels: [("team".to_owned(), "a=b".to_owned())].into(),
            ..VmPolicy::default()
        };
        let form = VmForm::of(&spec, &policy, Some(3), 9);
        assert_eq!(form.read(None).unwrap(), (spec, policy));
        assert_eq!(form.folder(), Some(3));
        let wrong = VmForm { memory: "much".into(), ..form };
        assert_eq!(wrong.read(None).unwrap_err().field.as_deref(), Some("spec.memory.mib"));
    }
}
