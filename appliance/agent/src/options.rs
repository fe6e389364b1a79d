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
}

impl Options {
    /// Reads `--state-dir DIR`, `--run-dir DIR`, `--hosts ADDRESS:PORT` and `--name NAME`; the error is the sentence to show.
    pub(crate) fn from_args(mut args: impl Iterator<Item = OsString>) -> Result<Self, String> {
        let hosts = SocketAddr::from((Ipv6Addr::UNSPECIFIED, CLUSTER_PORT));
        let mut options = Self {
            state_dir: "/var/lib/quantix".into(),
            run_dir: "/run/quantix".into(),
            hosts,
            name: quantix_host::hostname(),
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
                _ => {
                    return Err(format!(
                        "Unknown option {}. Known are --state-dir, --run-dir, --hosts and --name.",
                        name.display()
                    ));
                }
            };
            *slot = args.next().ok_or_else(|| format!("{} needs a folder.", name.display()))?.into();
        }
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
        let options =
            check(&["--run-dir", "/r", "--state-dir", "/s", "--hosts", "127.0.0.1:0", "--name", "n"])
                .unwrap();
        let hosts = SocketAddr::from(([127, 0, 0, 1], 0));
        assert_eq!(
            options,
            Options { state_dir: "/s".into(), run_dir: "/r".into(), hosts, name: "n".into() }
        );
    }

    #[test]
    fn an_unknown_option_is_named() {
        assert_eq!(
            check(&["--x"]).unwrap_err(),
            "Unknown option --x. Known are --state-dir, --run-dir, --hosts and --name."
        );
        assert_eq!(check(&["--run-dir"]).unwrap_err(), "--run-dir needs a folder.");
    }
}
