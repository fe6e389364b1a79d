//! One host of the cluster: restart it, switch it off, restart its services, and put what helps to find a fault into a
//! file.

use std::path::PathBuf;

use clap::Subcommand;
use quantix_api::{PowerHost, RestartServices, calls};

use crate::{
    Failure, Session,
    cluster::{confirmed, find},
    shown::Output,
    tasks, waiting,
};

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
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
