//! Virtual machines as they are shown: one with all that it is, and how many there are.

use quantix_api::{Vm, VolumeQuery, calls};

use crate::{
    Failure, Session,
    shown::{self, Output},
    storage::in_units,
};

/// Shows how many there are.
pub(crate) async fn count(session: &Session, output: Output) -> Result<(), Failure> {
    let counts = session.call(calls::vm_counts()).await?;
    if output == Output::Json {
        return Ok(shown::json(&counts)?);
    }
    let rows = [
        ("all", counts.all),
        ("on", counts.on),
        ("off", counts.off),
        ("attention", counts.attention),
        ("template", counts.template),
    ];
    let rows: Vec<_> = rows.iter().map(|(what, count)| vec![(*what).to_owned(), count.to_string()]).collect();
    Ok(shown::table(&["WHICH", "VMS"], &rows)?)
}

/// Shows one.
pub(crate) async fn show(session: &Session, vm: &Vm, output: Output) -> Result<(), Failure> {
    if output == Output::Json {
        return Ok(shown::json(vm)?);
    }
    let cpu = &vm.spec.cpu;
    let mut rows = vec![
        ["name".to_owned(), vm.spec.name.clone()],
        ["id".to_owned(), vm.id.clone()],
        [
            "state".to_owned(),
            format!("{} since {}", vm.state.name(), vm.since.strftime("%Y-%m-%d %H:%M UTC")),
        ],
        ["host".to_owned(), vm.host_name.clone()],
        ["guest".to_owned(), vm.spec.guest.name().to_owned()],
        ["processors".to_owned(), format!("{} × {} × {}", cpu.sockets, cpu.cores, cpu.threads)],
        ["memory".to_owned(), format!("{} MiB", vm.spec.memory.mib)],
        [
            "firmware".to_owned(),
            format!("{}{}", vm.spec.firmware.name(), if vm.spec.tpm { ", TPM 2.0" } else { "" }),
        ],
    ];
    let query = VolumeQuery { vm: Some(vm.id.clone()), limit: Some(1000), ..VolumeQuery::default() };
    let volumes = session.call(calls::volumes(&query)).await?.items;
    for (number, disk) in vm.spec.disks.iter().enumerate() {
        let volume = volumes.iter().find(|volume| volume.id == disk.volume);
        let told = volume.map_or_else(
            || disk.volume.clone(),
            |volume| format!("{}, {} in {}", volume.name, in_units(volume.bytes), volume.pool_name),
        );
        let limit = disk.limit.words().map_or_else(String::new, |limit| format!(", {limit}"));
        rows.push([format!("disk {}", number + 1), told + &limit]);
    }
    for cd in &vm.spec.cds {
        rows.push(["CD drive".to_owned(), cd.image.clone().unwrap_or_else(|| "empty".to_owned())]);
    }
    for nic in &vm.spec.nics {
        let kind = nic.model.map_or_else(String::new, |model| format!(", {}", model.name()));
        rows.push([format!("network card {}", nic.mac), format!("on {}{kind}", nic.bridge)]);
    }
    for address in &vm.spec.pci {
        rows.push(["device of its host".to_owned(), address.clone()]);
    }
    if let Some(guest) = &vm.guest {
        rows.push(["guest calls itself".to_owned(), guest.hostname.clone()]);
        rows.push(["guest runs".to_owned(), guest.os.clone()]);
        for card in &guest.cards {
            rows.push([format!("address of {}", card.name), card.addresses.join(", ")]);
        }
    }
    if !vm.policy.owner.is_empty() {
        rows.push(["belongs to".to_owned(), vm.policy.owner.clone()]);
    }
    for (key, value) in &vm.policy.labels {
        rows.push([format!("label {key}"), value.clone()]);
    }
    if vm.is_emulated {
        rows.push(["slow".to_owned(), "its processor is imitated: KVM does not work on its host".to_owned()]);
    }
    if vm.waits_for_restart {
        let waits = format!("what was changed counts from its next start: {}", vm.waiting.join(", "));
        rows.push(["waits".to_owned(), waits]);
    }
    for sentence in &vm.drift {
        rows.push(["differs".to_owned(), sentence.clone()]);
    }
    if !vm.trouble.is_empty() {
        rows.push(["trouble".to_owned(), vm.trouble.clone()]);
    }
    if let Some(other) = vm.should_be() {
        rows.push(["should be".to_owned(), other.to_owned()]);
    }
    let rows: Vec<_> = rows.into_iter().map(Vec::from).collect();
    Ok(shown::table(&["WHAT", "IS"], &rows)?)
}
