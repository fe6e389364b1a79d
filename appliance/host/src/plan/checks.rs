//! What the facts say about the host's health. Each check says what was seen and, when it is not well, what to do.

use quantix_api::{Check, CheckState, Filesystem, Nic, Service};

use crate::model::kvm::KvmState;

const MIB: u64 = 1024 * 1024;
/// Below this a daemon's next write may fail.
const FULL_BYTES: u64 = 64 * MIB;

/// Whether a service answers.
pub(crate) fn service(service: &Service) -> Check {
    match &service.error {
        None => check(&service.name, CheckState::Ok, format!("{} answers.", service.title)),
        Some(error) => {
            check(&service.name, CheckState::Failed, format!("{} does not answer: {error}.", service.title))
        }
    }
}

/// Whether state can be kept.
pub(crate) fn state_storage(storage: &Filesystem) -> Check {
    let free_mib = storage.available_bytes / MIB;
    let percent = (storage.available_bytes * 100).checked_div(storage.size_bytes).unwrap_or(0);
    let (state, detail) = if !storage.mounted {
        (
            CheckState::Failed,
            "The state partition is not mounted: nothing can be kept. Check the system disk.".to_owned(),
        )
    } else if storage.read_only {
        (
            CheckState::Failed,
            "The state partition is read-only, as after a disk error. Check the system disk.".to_owned(),
        )
    } else if storage.available_bytes < FULL_BYTES {
        (
            CheckState::Failed,
            format!("The state partition is full: {free_mib} MiB are free. Delete images or logs on it."),
        )
    } else if percent < 10 {
        (
            CheckState::Warn,
            format!("The state partition is almost full: {free_mib} MiB ({percent} %) are free."),
        )
    } else {
        (CheckState::Ok, format!("{percent} % of the state partition is free."))
    };
    check("state-storage", state, detail)
}

/// Whether the host can be reached over the network.
pub(crate) fn network(nics: &[Nic]) -> Check {
    let names = |nics: &[&Nic]| nics.iter().map(|nic| nic.name.as_str()).collect::<Vec<_>>().join(", ");
    let linked: Vec<_> = nics.iter().filter(|nic| nic.link).collect();
    let addressed = linked.iter().any(|nic| nic.addresses.iter().any(|address| is_reachable(address.ip)));
    let (state, detail) = if nics.is_empty() {
        (CheckState::Failed, "This machine has no network interface that Quantix knows.".to_owned())
    } else if linked.is_empty() {
        let all: Vec<_> = nics.iter().collect();
        (CheckState::Failed, format!("No cable is plugged in, or the other end is off: {}.", names(&all)))
    } else if !addressed {
        (
            CheckState::Failed,
            format!("No address was given to {}. Is there a DHCP server on this network?", names(&linked)),
        )
    } else {
        (CheckState::Ok, format!("Connected through {}.", names(&linked)))
    };
    check("network", state, detail)
}

/// Whether guests run at full speed.
pub(crate) fn kvm(state: &KvmState) -> Check {
    let (state, detail) = match state {
        KvmState::Trying => (CheckState::Warn, "A first guest is being tried.".to_owned()),
        KvmState::Works => (CheckState::Ok, "A guest has run with hardware virtualisation.".to_owned()),
        KvmState::NoDevice => (
            CheckState::Warn,
            "The processor's virtualisation is switched off or missing: guests would be emulated, slowly. \
             Switch on VT-x or AMD-V in the firmware."
                .to_owned(),
        ),
        KvmState::Fails(why) => (
            CheckState::Warn,
            format!(
                "A guest did not run with hardware virtualisation ({why}): guests would be emulated, slowly."
            ),
        ),
    };
    check("kvm", state, detail)
}

/// An address that another machine can open a connection to.
pub(crate) fn is_reachable(ip: std::net::IpAddr) -> bool {
    match ip {
        std::net::IpAddr::V4(ip) => !ip.is_link_local() && !ip.is_loopback(),
        std::net::IpAddr::V6(ip) => !ip.is_unicast_link_local() && !ip.is_loopback(),
    }
}

fn check(name: &str, state: CheckState, detail: String) -> Check {
    Check { name: name.to_owned(), state, detail }
}

#[cfg(test)]
mod tests {
    use quantix_api::Address;

    use super::*;

    fn nic(link: bool, ip: Option<&str>) -> Nic {
        Nic {
            name: "eno1".into(),
            mac: "52:54:00:12:34:56".into(),
            link,
            speed_mbit: None,
            driver: None,
            addresses: ip.map(|ip| Address { ip: ip.parse().unwrap(), prefix: 24 }).into_iter().collect(),
        }
    }

    fn storage(available_mib: u64) -> Filesystem {
        Filesystem {
            size_bytes: 1000 * MIB,
            available_bytes: available_mib * MIB,
            mounted: true,
            read_only: false,
        }
    }

    #[test]
    fn the_network_is_judged_by_cable_then_by_address() {
        assert_eq!(network(&[]).state, CheckState::Failed);
        insta::assert_snapshot!(network(&[nic(false, None)]).detail, @"No cable is plugged in, or the other end is off: eno1.");
        insta::assert_snapshot!(network(&[nic(true, Some("fe80::1"))]).detail, @"No address was given to eno1. Is there a DHCP server on this network?");
        assert_eq!(network(&[nic(true, Some("192.0.2.7"))]).state, CheckState::Ok);
    }

    #[test]
    fn a_state_partition_warns_before_it_fails() {
        assert_eq!(state_storage(&storage(500)).state, CheckState::Ok);
        assert_eq!(state_storage(&storage(80)).state, CheckState::Warn);
        assert_eq!(state_storage(&storage(10)).state, CheckState::Failed);
        assert_eq!(state_storage(&Filesystem { mounted: false, ..storage(500) }).state, CheckState::Failed);
        assert_eq!(state_storage(&Filesystem { read_only: true, ..storage(500) }).state, CheckState::Failed);
    }

    #[test]
    fn a_service_that_does_not_answer_is_named_with_the_reason() {
        let service_down = Service {
            name: "libvirt".into(),
            title: "libvirt".into(),
            version: None,
            error: Some("no such file".into()),
        };
        insta::assert_snapshot!(service(&service_down).detail, @"libvirt does not answer: no such file.");
    }
}
