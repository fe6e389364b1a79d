//! One host of the cluster: what it is made of, restart it, switch it off, restart its services, and put what helps to find a fault into a
//! file.

use std::path::PathBuf;

use clap::Subcommand;
use quantix_api::{HostFacts, PowerHost, RestartServices, calls};

use crate::{
    Failure, Session,
    cluster::{confirmed, find},
    load,
    shown::{self, Output},
    storage, tasks, waiting,
};

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Show what a host is made of and what runs on it.
    Show {
        /// Name or id of the host.
        host: String,
    },
    /// Show the disks of a host, and of which a pool can be made.
    Disks {
        /// Name or id of the host.
        host: String,
    },
    /// Show what a host uses, and used.
    Metrics(load::Of),
    /// Restart a host.
    Restart {
        /// Name or id of the host.
        host: String,
        /// The host's name, instead of being asked for it.
        #[arg(long)]
        confirm: Option<String>,
        /// Do not wait until it is back.
        #[arg(long)]
        no_wait: bool,
    },
    /// Switch a host off.
    ShutDown {
        /// Name or id of the host.
        host: String,
        /// The host's name, instead of being asked for it.
        #[arg(long)]
        confirm: Option<String>,
        /// Do not wait until it is off.
        #[arg(long)]
        no_wait: bool,
    },
    /// Restart services of a host; what they run goes on.
    RestartServices {
        /// Name or id of the host.
        host: String,
        /// The services, such as libvirt, open-vswitch or ovn-controller.
        #[arg(required = true)]
        services: Vec<String>,
        /// Do not wait until they answer.
        #[arg(long)]
        no_wait: bool,
    },
    /// Put versions, state and journal of a host into a file and write it here.
    SupportBundle {
        /// Name or id of the host.
        host: String,
        /// Where to; its own name here, if it is not given.
        #[arg(long)]
        file: Option<PathBuf>,
        /// Do not wait for the file.
        #[arg(long)]
        no_wait: bool,
    },
}

pub(crate) async fn run(command: Command, output: Output) -> Result<(), Failure> {
    let session = Session::open()?;
    let cluster = session.call(calls::cluster()).await?;
    match command {
        Command::Show { host } => {
            show(&session.call(calls::host_facts(&find(&cluster, &host)?.id)).await?, output)
        }
        Command::Disks { host } => {
            storage::show_disks(&session.call(calls::host_disks(&find(&cluster, &host)?.id)).await?, output)
        }
        Command::Metrics(of) => {
            let host = find(&cluster, &of.name)?;
            load::show(&session.call(calls::host_metrics(&host.id, &of.query())).await?, output)
        }
        Command::Restart { host, confirm, no_wait } => {
            let host = find(&cluster, &host)?;
            confirmed(&host.name, confirm, "What runs on it ends, and the host is gone for some minutes.")?;
            let body = PowerHost { name: host.name.clone() };
            let task = session.call(calls::restart_host(&host.id, &body)).await?;
            waiting::shown_to_its_end(&session, task, no_wait, output).await
        }
        Command::ShutDown { host, confirm, no_wait } => {
            let host = find(&cluster, &host)?;
            confirmed(&host.name, confirm, "What runs on it ends, and somebody must switch it on again.")?;
            let body = PowerHost { name: host.name.clone() };
            let task = session.call(calls::shut_down_host(&host.id, &body)).await?;
            // Whoever is signed in at this very host hears no more of it.
            let no_wait = no_wait || host.id == cluster.this_host;
            waiting::shown_to_its_end(&session, task, no_wait, output).await
        }
        Command::RestartServices { host, services, no_wait } => {
            let host = find(&cluster, &host)?;
            let task = session.call(calls::restart_services(&host.id, &RestartServices { services })).await?;
            waiting::shown_to_its_end(&session, task, no_wait, output).await
        }
        Command::SupportBundle { host, file, no_wait } => {
            let host = find(&cluster, &host)?;
            let task = session.call(calls::support_bundle(&host.id)).await?;
            let id = task.id;
            waiting::shown_to_its_end(&session, task, no_wait, output).await?;
            if no_wait { Ok(()) } else { tasks::download(&session, id, file, output).await }
        }
    }
}

fn show(host: &HostFacts, output: Output) -> Result<(), Failure> {
    if output == Output::Json {
        return Ok(shown::json(host)?);
    }
    let memory = &host.memory;
    let mut rows = vec![
        ["name".to_owned(), host.hostname.clone()],
        ["machine".to_owned(), format!("{} ({})", host.hardware, host.machine_id)],
        ["version".to_owned(), format!("{}, Linux {}", host.image_version, host.kernel)],
        ["booted".to_owned(), host.booted_at.strftime("%Y-%m-%d %H:%M UTC").to_string()],
        ["processor".to_owned(), format!("{}, {} threads", host.cpu.model, host.cpu.threads)],
        [
            "memory".to_owned(),
            format!("{} MiB, {} MiB free", memory.total_bytes >> 20, memory.available_bytes >> 20),
        ],
    ];
    for nic in &host.nics {
        let addresses: Vec<_> = nic.addresses.iter().map(|address| address.ip.to_string()).collect();
        let link = if nic.link { "up" } else { "down" };
        rows.push([format!("interface {}", nic.name), format!("{link} {} {}", nic.mac, addresses.join(" "))]);
    }
    for disk in &host.disks {
        let model = disk.model.as_deref().unwrap_or_default();
        rows.push([format!("disk {}", disk.name), format!("{} GiB {model}", disk.size_bytes >> 30)]);
    }
    for device in &host.pci {
        let because = device.kept_because.as_deref().unwrap_or("A machine can have it.");
        rows.push([
            format!("device {}", device.address),
            format!("{}: {}. {because}", device.kind, device.name),
        ]);
    }
    for service in &host.services {
        let state = service.error.as_deref().or(service.version.as_deref()).unwrap_or("answers");
        rows.push([service.title.clone(), state.to_owned()]);
    }
    let rows: Vec<_> = rows.into_iter().map(Vec::from).collect();
    Ok(shown::table(&["WHAT", "IS"], &rows)?)
}
