//! Virtual machines and their folders.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use quantix_api::{
    Bus, ChangeVm, DiskLimit, Guest, Keep, NewVm, PowerVm, RemoveVm, Scope, SetGuestPassword, SettleDrift,
    Vm, VmAction, VmDisk, VmGuest, VmPolicy, VmQuery, VmSpec, calls,
};

use crate::{
    Failure, Session, ask_secret, cloud_init,
    cluster::{confirmed, done, find as find_host},
    console, disks, folders, found,
    hardware::Hardware,
    images, load, schedules,
    shown::{self, Output},
    snapshots,
    storage::{find_pool, find_volume, size},
    vm_shown, waiting,
};

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Show the virtual machines.
    List {
        /// Only those in this folder, as in Production/Web; / for those in none.
        #[arg(long)]
        folder: Option<String>,
        /// Only those on this host.
        #[arg(long)]
        host: Option<String>,
        /// Only those that are like this, as in running or crashed; on, off, attention or template for those that are counted.
        #[arg(long)]
        state: Option<String>,
        /// Only those in which this occurs.
        #[arg(long)]
        text: Option<String>,
    },
    /// Show how many there are, and how many of them are on, off, in need of attention or templates.
    Count,
    /// Show one.
    Show {
        /// Name or id.
        vm: String,
    },
    /// Make one.
    Make(Box<Make>),
    /// Show those that hosts have and that are not among the machines.
    Found {
        /// Only those of this host.
        #[arg(long)]
        host: Option<String>,
    },
    /// Make one of those one of the machines. Its disks are copied into the pool, and stay where they were, too.
    Import(found::Import),
    /// Change one. What cannot change while it is on counts from its next start.
    Change(Box<Change>),
    /// Switch it on, or wake it.
    Start {
        #[command(flatten)]
        power: Power,
        /// Work on its serial line from the first letter on: it stands still until you are there.
        #[arg(long, conflicts_with = "no_wait")]
        console: bool,
    },
    /// Ask its guest to end.
    ShutDown {
        #[command(flatten)]
        power: Power,
        /// How many seconds the guest has.
        #[arg(long, default_value_t = 120)]
        within: u32,
        /// Switch it off if it has not ended by then.
        #[arg(long)]
        force: bool,
    },
    /// Ask its guest to start anew.
    Reboot(Power),
    /// Switch it off, as pulling the plug does.
    ForceStop(Power),
    /// Start it anew, as the button does.
    Reset(Power),
    /// Let it stand still.
    Pause(Power),
    /// Let it go on.
    Resume(Power),
    /// Put its memory on disk and switch it off.
    Suspend(Power),
    /// Make a disk for one.
    AddDisk {
        /// Name or id.
        vm: String,
        /// How big it is, as in 20G.
        #[arg(value_parser = size)]
        size: u64,
        /// The pool it goes into.
        #[arg(long, default_value = "local")]
        pool: String,
        /// Do not wait until it is made.
        #[arg(long)]
        no_wait: bool,
    },
    /// Give one a volume that is there already.
    TakeVolume {
        /// Name or id.
        vm: String,
        /// Name or id of the volume.
        volume: String,
    },
    /// Limit how much a disk of one may be used, reading and writing together. It counts at once.
    LimitDisk {
        /// Name or id.
        vm: String,
        /// Name or id of the volume.
        volume: String,
        /// How many times a second; 0 for no limit.
        #[arg(long, default_value_t = 0)]
        iops: u32,
        /// How many MiB a second; 0 for no limit.
        #[arg(long, default_value_t = 0)]
        mib: u32,
    },
    /// Take a volume from one. What is on it stays. Of one that is on, unmount it in its guest first.
    LetGo {
        /// Name or id.
        vm: String,
        /// Name or id of the volume.
        volume: String,
    },
    /// Work on the serial line of one. Ctrl-] leaves it.
    Console {
        /// Name or id.
        vm: String,
        /// Take it from whoever has it.
        #[arg(long)]
        take_over: bool,
    },
    /// Have the screen of one served on this machine, for VNC clients.
    Screen(console::Screen),
    /// Save a picture of the screen of one.
    Picture {
        /// Name or id.
        vm: String,
        /// The file; its name with .png, if none is said.
        file: Option<PathBuf>,
    },
    /// Show what one uses, and used.
    Metrics(load::Of),
    /// What the guest of one is told when it starts for the first time.
    #[command(subcommand)]
    CloudInit(cloud_init::Command),
    /// Moments of one to which one can go back.
    #[command(subcommand)]
    Snapshot(snapshots::Command),
    /// Snapshots of one that are made by themselves.
    #[command(subcommand)]
    Schedule(schedules::Command),
    /// Make one that begins as another.
    Clone(snapshots::Clone),
    /// Give a user of its guest another password, which is asked for. The agent in the guest does so.
    Password {
        /// Name or id.
        vm: String,
        /// A user of the guest.
        user: String,
    },
    /// Say which holds where libvirt's description of it differs.
    Drift {
        /// Name or id.
        vm: String,
        /// What holds: what libvirt has, or what is kept here.
        #[arg(value_enum)]
        keep: WhichHolds,
    },
    /// Remove one.
    Remove {
        /// Name or id.
        vm: String,
        /// Its name, instead of being asked for it.
        #[arg(long)]
        confirm: Option<String>,
        /// Leave its disks, with all that is on them.
        #[arg(long)]
        keep_disks: bool,
        /// Do not wait until it is gone.
        #[arg(long)]
        no_wait: bool,
    },
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum WhichHolds {
    /// What libvirt has is adopted.
    Theirs,
    /// What is kept here is restored.
    Ours,
}

#[derive(Debug, Args)]
pub(crate) struct Power {
    /// Name or id.
    vm: String,
    /// Do not wait until it is done.
    #[arg(long)]
    no_wait: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Make {
    /// Its name.
    name: String,
    #[command(flatten)]
    hardware: Hardware,
    #[command(flatten)]
    told: cloud_init::Told,
    /// A disk that is made with it, as in 20G; once for each.
    #[arg(long, value_parser = size)]
    disk: Vec<u64>,
    /// The image that its first disk begins as a copy of. Without a size that is as big as the image's. Of one that came as
    /// an OVA the machine is what it was there, with all its disks, where nothing else is said.
    #[arg(long)]
    image: Option<String>,
    /// The image has a way in of its own: nobody is told to it who is let in.
    #[arg(long, requires = "image")]
    has_way_in: bool,
    /// Let that disk share what it has in common with the image, instead of being copied whole.
    #[arg(long, requires = "image")]
    linked: bool,
    /// How its disks are attached: virtio, scsi or sata; as its guest needs them, if nothing is said.
    #[arg(long, value_parser = disks::bus)]
    disk_bus: Option<Bus>,
    /// The pool its disks go into.
    #[arg(long, default_value = "local")]
    pool: String,
    /// The folder it goes into, as in Production/Web.
    #[arg(long)]
    folder: Option<String>,
    /// The host it goes to; the one with the least memory spoken for, if none is named.
    #[arg(long)]
    host: Option<String>,
    /// Start it at once.
    #[arg(long)]
    start: bool,
    /// Do not wait until it is made.
    #[arg(long)]
    no_wait: bool,
    /// Only look whether it can be made like this.
    #[arg(long)]
    check: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Change {
    /// Name or id.
    vm: String,
    /// Another name.
    #[arg(long)]
    name: Option<String>,
    /// The folder it goes into, as in Production/Web; / for none.
    #[arg(long)]
    folder: Option<String>,
    #[command(flatten)]
    hardware: Hardware,
}

/// A machine by its name or its id.
pub(crate) async fn find(session: &Session, vm: &str) -> Result<Vm, Failure> {
    if format!("vm/{vm}").parse::<Scope>().is_ok() {
        return session.call(calls::vm(vm)).await;
    }
    let query = VmQuery { text: Some(vm.to_owned()), limit: Some(1000), ..VmQuery::default() };
    let mut found = session.call(calls::vms(&query)).await?.items;
    found.retain(|found| found.spec.name.to_lowercase() == vm.to_lowercase());
    match found.len() {
        1 => Ok(found.remove(0)),
        0 => Err(Failure::Said(format!("there is no virtual machine {vm}"))),
        _ => {
            let ids: Vec<_> = found.into_iter().map(|vm| vm.id).collect();
            Err(Failure::Said(format!("several are named {vm}; take one of these ids: {}", ids.join(" "))))
        }
    }
}

pub(crate) async fn run(command: Command, output: Output) -> Result<(), Failure> {
    let session = Session::open()?;
    match command {
        Command::Console { vm, take_over } => console::serial(&session, &vm, take_over).await,
        Command::Screen(asked) => console::screen(&session, asked).await,
        Command::Picture { vm, file } => console::picture(&session, &vm, file, output).await,
        Command::Metrics(of) => {
            let vm = find(&session, &of.name).await?;
            load::show(&session.call(calls::vm_metrics(&vm.id, &of.query())).await?, output)
        }
        Command::CloudInit(command) => cloud_init::run(&session, command, output).await,
        Command::Snapshot(command) => snapshots::run(&session, command, output).await,
        Command::Schedule(command) => schedules::run(&session, command, output).await,
        Command::Clone(asked) => snapshots::clone(&session, asked, output).await,
        Command::Password { vm, user } => {
            let vm = find(&session, &vm).await?;
            let password = ask_secret(&format!("Password for {user}: "))?;
            session.call(calls::set_guest_password(&vm.id, &SetGuestPassword { user, password })).await?;
            done(output, "It has another password.")
        }
        Command::List { folder: path, host, state, text } => {
            list(&session, path, host, state, text, output).await
        }
        Command::Show { vm } => vm_shown::show(&session, &find(&session, &vm).await?, output).await,
        Command::Count => vm_shown::count(&session, output).await,
        Command::Found { host } => found::list(&session, host.as_deref(), output).await,
        Command::Import(asked) => found::import(&session, asked, output).await,
        Command::Make(make) => self::make(&session, *make, output).await,
        Command::Change(change) => self::change(&session, *change, output).await,
        Command::Start { power: of, console: false } => {
            power(&session, of, PowerVm::usual(VmAction::Start), output).await
        }
        Command::Start { power: of, console: true } => {
            let vm = find(&session, &of.vm).await?;
            let body = PowerVm { with_console: true, ..PowerVm::usual(VmAction::Start) };
            let task = session.call(calls::power_vm(&vm.id, &body)).await?;
            waiting::shown_to_its_end(&session, task, false, output).await?;
            console::serial(&session, &vm.id, false).await
        }
        Command::ShutDown { power: of, within, force } => {
            let body = PowerVm { within, force, ..PowerVm::usual(VmAction::ShutDown) };
            power(&session, of, body, output).await
        }
        Command::Reboot(of) => power(&session, of, PowerVm::usual(VmAction::Reboot), output).await,
        Command::ForceStop(of) => power(&session, of, PowerVm::usual(VmAction::ForceStop), output).await,
        Command::Reset(of) => power(&session, of, PowerVm::usual(VmAction::Reset), output).await,
        Command::Pause(of) => power(&session, of, PowerVm::usual(VmAction::Pause), output).await,
        Command::Resume(of) => power(&session, of, PowerVm::usual(VmAction::Resume), output).await,
        Command::Suspend(of) => power(&session, of, PowerVm::usual(VmAction::Suspend), output).await,
        Command::Drift { vm, keep } => {
            let vm = find(&session, &vm).await?;
            let keep = match keep {
                WhichHolds::Theirs => Keep::Theirs,
                WhichHolds::Ours => Keep::Ours,
            };
            let call = calls::settle_drift(&vm.id, &SettleDrift { keep }).if_version(vm.version);
            let vm = session.call(call).await?;
            changed(&vm, output)
        }
        Command::AddDisk { vm, size, pool, no_wait } => {
            let vm = find(&session, &vm).await?;
            let disk = disks::new(find_pool(&session, &pool).await?.id, size);
            let task = session.call(calls::add_disk(&vm.id, &disk)).await?;
            waiting::shown_to_its_end(&session, task, no_wait, output).await
        }
        Command::TakeVolume { vm, volume } => {
            let volume = find_volume(&session, &volume).await?.id;
            let disk = VmDisk::usual(volume);
            disks::change(&session, &vm, |disks| disks.push(disk), output).await
        }
        Command::LimitDisk { vm, volume, iops, mib } => {
            let volume = find_volume(&session, &volume).await?.id;
            disks::limit(&session, &vm, &volume, DiskLimit { iops, mib_s: mib }, output).await
        }
        Command::LetGo { vm, volume } => {
            let volume = find_volume(&session, &volume).await?.id;
            disks::change(&session, &vm, |disks| disks.retain(|disk| disk.volume != volume), output).await
        }
        Command::Remove { vm, confirm, keep_disks, no_wait } => {
            let vm = find(&session, &vm).await?;
            let warning = if keep_disks || vm.spec.disks.is_empty() {
                "It is removed, and cannot be brought back."
            } else {
                "It is removed with all that is on its disks, and cannot be brought back."
            };
            confirmed(&vm.spec.name, confirm, warning)?;
            let body = RemoveVm { name: vm.spec.name, keep_disks };
            let task = session.call(calls::remove_vm(&vm.id, &body)).await?;
            waiting::shown_to_its_end(&session, task, no_wait, output).await
        }
    }
}

async fn power(session: &Session, of: Power, body: PowerVm, output: Output) -> Result<(), Failure> {
    let vm = find(session, &of.vm).await?;
    let task = session.call(calls::power_vm(&vm.id, &body)).await?;
    waiting::shown_to_its_end(session, task, of.no_wait, output).await
}

async fn list(
    session: &Session,
    path: Option<String>,
    host: Option<String>,
    state: Option<String>,
    text: Option<String>,
    output: Output,
) -> Result<(), Failure> {
    let mut query = VmQuery { state, text, limit: Some(1000), ..VmQuery::default() };
    if let Some(path) = path {
        query.folder = Some(folders::find(session, &path).await?.map_or(0, |folder| folder.id));
    }
    if let Some(host) = host {
        query.host = Some(find_host(&session.call(calls::cluster()).await?, &host)?.id.clone());
    }
    let mut vms = Vec::new();
    loop {
        let page = session.call(calls::vms(&query)).await?;
        vms.extend(page.items);
        match page.next {
            Some(next) => query.after = Some(next),
            None => break,
        }
    }
    shown::list(output, &["NAME", "STATE", "CPUS", "MEMORY", "HOST", "ADDRESS", "ID"], &vms, |vm| {
        vec![
            vm.spec.name.clone(),
            vm.state.name().to_owned(),
            vm.spec.cpu.count().to_string(),
            format!("{} MiB", vm.spec.memory.mib),
            vm.host_name.clone(),
            vm.guest.iter().flat_map(VmGuest::addresses).next().unwrap_or_default().to_owned(),
            vm.id.clone(),
        ]
    })
}

async fn make(session: &Session, make: Make, output: Output) -> Result<(), Failure> {
    let image = match &make.image {
        Some(image) => Some(images::find(session, image).await?),
        None => None,
    };
    let draft = image.as_ref().and_then(|image| image.draft.as_ref());
    let came = draft.map(|draft| VmSpec { name: make.name.clone(), ..draft.spec("br-int") });
    let has_come = came.is_some();
    let mut spec = came.unwrap_or_else(|| VmSpec::named(&make.name));
    if !has_come {
        make.hardware.suit(&mut spec, image.as_ref().and_then(|image| Guest::of_os(&image.os)));
    }
    let mut policy = VmPolicy::default();
    make.hardware.change(&mut spec, &mut policy);
    spec.cds = disks::cds(session, &make.hardware.cd, spec.cds).await?;
    let folder = match &make.folder {
        Some(path) => folders::find(session, path).await?.map(|folder| folder.id),
        None => None,
    };
    let host = match &make.host {
        Some(host) => Some(find_host(&session.call(calls::cluster()).await?, host)?.id.clone()),
        None => None,
    };
    let mut disks = Vec::new();
    if !make.disk.is_empty() || image.is_some() {
        let pool = find_pool(session, &make.pool).await?.id;
        disks.extend(make.disk.iter().map(|bytes| disks::new(pool.clone(), *bytes)));
        if let Some(image) = image {
            disks::begin_as(session, image, make.linked, pool, &mut disks).await?;
        }
    }
    disks.iter_mut().for_each(|disk| disk.bus = make.disk_bus);
    let cloud_init = make.told.over(session, None).await?;
    let (has_way_in, start) = (make.has_way_in, make.start);
    let new = NewVm { spec, disks, cloud_init, has_way_in, policy, folder, host, start };
    if make.check {
        session.call(calls::check_vm(&new)).await?;
        return done(output, "It can be made like this.");
    }
    let task = session.call(calls::make_vm(&new)).await?;
    waiting::shown_to_its_end(session, task, make.no_wait, output).await
}

async fn change(session: &Session, change: Change, output: Output) -> Result<(), Failure> {
    let vm = find(session, &change.vm).await?;
    let (mut spec, mut policy) = (vm.spec.clone(), vm.policy.clone());
    if let Some(name) = change.name {
        spec.name = name;
    }
    change.hardware.change(&mut spec, &mut policy);
    spec.cds = disks::cds(session, &change.hardware.cd, spec.cds).await?;
    let folder = match &change.folder {
        Some(path) => Some(folders::find(session, path).await?.map(|folder| folder.id)),
        None => None,
    };
    let body = ChangeVm {
        spec: (spec != vm.spec).then_some(spec),
        policy: (policy != vm.policy).then_some(policy),
        folder,
    };
    let vm = session.call(calls::change_vm(&vm.id, &body).if_version(vm.version)).await?;
    changed(&vm, output)
}

pub(crate) fn changed(vm: &Vm, output: Output) -> Result<(), Failure> {
    match output {
        Output::Json => Ok(shown::json(vm)?),
        Output::Table if vm.state.is_on() => {
            Ok(shown::line("Saved. What cannot change while it is on counts from its next start.")?)
        }
        Output::Table => Ok(shown::line("Saved.")?),
    }
}
