//! Virtual machines that hosts have and that are not among the machines.

use std::io::{self, Write};

use clap::Args;
use quantix_api::{Cluster, FoundVm, ImportVm, VmState, calls};

use crate::{
    Failure, Session,
    cluster::find as find_host,
    folders,
    shown::{self, Output},
    waiting,
};

#[derive(Debug, Args)]
pub(crate) struct Import {
    /// What libvirt calls it, or its id.
    vm: String,
    /// The host it is on; needed if several have one of that name.
    #[arg(long)]
    host: Option<String>,
    /// Its name among the machines; the one it has, if none is said.
    #[arg(long)]
    name: Option<String>,
    /// The folder it goes into, as in Production/Web.
    #[arg(long)]
    folder: Option<String>,
    /// Do not wait until it is imported.
    #[arg(long)]
    no_wait: bool,
}

/// The machines of one host or of all, each with the host it is on. A host that does not answer is told of, and no failure.
async fn all(session: &Session, host: Option<&str>) -> Result<Vec<(String, String, FoundVm)>, Failure> {
    let cluster: Cluster = session.call(calls::cluster()).await?;
    let hosts = match host {
        Some(name) => vec![find_host(&cluster, name)?],
        None => cluster.hosts.iter().collect(),
    };
    let mut found = Vec::new();
    for one in &hosts {
        match session.call(calls::found_vms(&one.id)).await {
            Ok(vms) => found.extend(vms.items.into_iter().map(|vm| (one.id.clone(), one.name.clone(), vm))),
            Err(error) if hosts.len() > 1 => writeln!(io::stderr(), "{}: {error}", one.name)?,
            Err(error) => return Err(error),
        }
    }
    Ok(found)
}

/// Shows them.
pub(crate) async fn list(session: &Session, host: Option<&str>, output: Output) -> Result<(), Failure> {
    let found = all(session, host).await?;
    if output == Output::Json {
        let items: Vec<_> = found
            .iter()
            .map(|(host, _, vm)| {
                let mut item = serde_json::json!(vm);
                item["host"] = serde_json::json!(host);
                item
            })
            .collect();
        return Ok(shown::json(&serde_json::json!({ "items": items }))?);
    }
    if found.is_empty() {
        return Ok(shown::line("All virtual machines that the hosts have are among the machines.")?);
    }
    shown::list(output, &["NAME", "HOST", "STATE", "DISKS", "IMPORT", "ID"], &found, |(_, host, vm)| {
        let state = if vm.state == VmState::Stopped { "off" } else { vm.state.name() };
        let can = if vm.why_not.is_empty() { "can be" } else { &vm.why_not };
        vec![
            vm.called.clone(),
            host.clone(),
            state.to_owned(),
            vm.disks.len().to_string(),
            can.to_owned(),
            vm.id.clone(),
        ]
    })?;
    for (_, _, vm) in found.iter().filter(|(.., vm)| !vm.left_out.is_empty()) {
        shown::line(&format!("\nWhat changes for {}:", vm.called))?;
        for sentence in &vm.left_out {
            shown::line(&format!("  {sentence}"))?;
        }
    }
    Ok(())
}

/// Makes one of them one of the machines.
pub(crate) async fn import(session: &Session, asked: Import, output: Output) -> Result<(), Failure> {
    let found = all(session, asked.host.as_deref()).await?;
    let mut those = found.iter().filter(|(_, _, vm)| vm.id == asked.vm || vm.called == asked.vm);
    let (host, vm) = match (those.next(), those.next()) {
        (Some((host, _, vm)), None) => (host.clone(), vm.id.clone()),
        (Some(_), Some(_)) => {
            let why = format!("Several hosts have a machine named {}. Say which: --host NAME", asked.vm);
            return Err(Failure::Said(why));
        }
        (None, _) => {
            let why = format!(
                "No host has a machine named {} that is not among the machines. See: qx vm found",
                asked.vm
            );
            return Err(Failure::Said(why));
        }
    };
    let folder = match &asked.folder {
        Some(path) => folders::find(session, path).await?.map(|folder| folder.id),
        None => None,
    };
    let body = ImportVm { host, vm, name: asked.name, folder };
    let task = session.call(calls::import_vm(&body)).await?;
    waiting::shown_to_its_end(session, task, asked.no_wait, output).await
}
