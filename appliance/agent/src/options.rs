//! The command line: where state and sockets live. The defaults are the image's.

use std::{
    ffi::OsString,
    net::{Ipv6Addr, SocketAddr},
    path::PathBuf,
};

use quantix_api::CLUSTER_PORT;

/// Where the agent keeps what.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Options {
    /// What must outlive a reboot.
    pub(crate) state_dir: PathBuf,
    /// Sockets.
    pub(crate) run_dir: PathBuf,
    /// Where other hosts reach this one.
    pub(crate) hosts: SocketAddr,
    /// The host's name.
    pub(crate) name: String,
    /// libvirt's socket.
    pub(crate) libvirt: PathBuf,
    /// Where libvirt keeps what it was told of machines.
    pub(crate) libvirt_kept: PathBuf,
    /// The socket of what may touch the host's disks.
    pub(crate) disks: PathBuf,
    /// The folder of the pools: beside the state, for guests are run by a user who may not look into that.
    pub(crate) pools_dir: PathBuf,
}

impl Options {
    /// Reads `--state-dir DIR`, `--run-dir DIR`, `--hosts ADDRESS:PORT`, `--name NAME`, `--libvirt SOCKET` and
    /// `--libvirt-kept DIR`; the error is the sentence to show.
    pub(crate) fn from_args(mut args: impl Iterator<Item = OsString>) -> Result<Self, String> {
        let hosts = SocketAddr::from((Ipv6Addr::UNSPECIFIED, CLUSTER_PORT));
        let mut options = Self {
            state_dir: "/var/lib/quantix".into(),
            run_dir: "/run/quantix".into(),
            hosts,
            name: quantix_host::hostname(),
            libvirt: PathBuf::new(),
            libvirt_kept: "/etc/libvirt/qemu".into(),
            disks: PathBuf::new(),
            pools_dir: PathBuf::new(),
        };
        while let Some(name) = args.next() {
            if name == "--name" {
                let name = args.next().and_then(|name| name.into_string().ok());
                options.name = name.ok_or("--name needs a name.")?;
                continue;
            }
            if name == "--hosts" {
                let address = args.next().and_then(|address| address.to_str()?.parse().ok());
                options.hosts = address.ok_or("--hosts needs an address and a port.")?;
                continue;
            }
            let slot = match name.to_str() {
                Some("--state-dir") => &mut options.state_dir,
                Some("--run-dir") => &mut options.run_dir,
                Some("--libvirt") => &mut options.libvirt,
                Some("--libvirt-kept") => &mut options.libvirt_kept,
                _ => {
                    return Err(format!(
                        "Unknown option {}. Known are --state-dir, --run-dir, --hosts, --name, --libvirt and --libvirt-kept.",
                        name.display()
                    ));
                }
            };
            *slot = args.next().ok_or_else(|| format!("{} needs a path.", name.display()))?.into();
        }
        if options.libvirt.as_os_str().is_empty() {
            // Beside its own: whoever runs the agent elsewhere does not mean the machine's.
            options.libvirt = options.run_dir.with_file_name("libvirt").join("libvirt-sock");
        }
        options.disks = options.run_dir.with_file_name("quantix-disks.sock");
        options.pools_dir = options.state_dir.with_file_name("quantix-pools");
        Ok(options)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(args: &[&str]) -> Result<Options, String> {
        Options::from_args(args.iter().map(OsString::from))
    }

    #[test]
    fn folders_and_the_port_can_be_named() {
        let options = check(&[
            "--run-dir",
            "/r",
            "--state-dir",
            "/s",
            "--hosts",
            "127.0.0.1:0",
            "--name",
            "n",
            "--libvirt",
            "/l",
            "--libvirt-kept",
            "/k",
        ])
        .unwrap();
        let hosts = SocketAddr::from(([127, 0, 0, 1], 0));
        assert_eq!(
            options,
            Options {
                state_dir: "/s".into(),
                run_dir: "/r".into(),
                hosts,
                name: "n".into(),
                libvirt: "/l".into(),
                libvirt_kept: "/k".into(),
                disks: "/quantix-disks.sock".into(),
                pools_dir: "/quantix-pools".into(),
            }
        );
    }

    #[test]
    fn the_machines_libvirt_is_meant_only_by_whoever_has_the_machines_folders() {
        assert_eq!(check(&[]).unwrap().libvirt, PathBuf::from("/run/libvirt/libvirt-sock"));
        assert_eq!(
            check(&["--run-dir", "/a/run"]).unwrap().libvirt,
            PathBuf::from("/a/libvirt/libvirt-sock")
        );
    }

    #[test]
    fn an_unknown_option_is_named() {
        assert_eq!(
            check(&["--x"]).unwrap_err(),
            "Unknown option --x. Known are --state-dir, --run-dir, --hosts, --name, --libvirt and --libvirt-kept."
        );
        assert_eq!(check(&["--run-dir"]).unwrap_err(), "--run-dir needs a path.");
    }
}
