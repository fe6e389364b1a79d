//! The command line and what systemd hands over. On a host there are no options: the sockets come from the unit and the
//! certificate from the agent. `make dev` names them.

use std::{net::SocketAddr, path::PathBuf};

/// How the pages are served.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Options {
    /// Where to listen when systemd hands no sockets over.
    pub(crate) https: Option<SocketAddr>,
    pub(crate) http: Option<SocketAddr>,
    /// The agent's socket.
    pub(crate) agent: PathBuf,
    /// Whether the page of all components is there.
    pub(crate) dev: bool,
}

impl Options {
    /// Reads `--https`, `--http`, `--agent` and `--dev`; the error is the sentence to show.
    pub(crate) fn from_args(mut args: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut options =
            Self { https: None, http: None, agent: quantix_api::AGENT_SOCKET.into(), dev: false };
        while let Some(name) = args.next() {
            if name == "--dev" {
                options.dev = true;
                continue;
            }
            let value = args.next().ok_or_else(|| format!("{name} needs a value."))?;
            let address = || value.parse().map_err(|_| format!("{value} is not an address with a port."));
            match name.as_str() {
                "--https" => options.https = Some(address()?),
                "--http" => options.http = Some(address()?),
                "--agent" => options.agent = value.into(),
                _ => {
                    return Err(format!(
                        "Unknown option {name}. Known are --https, --http, --agent and --dev."
                    ));
                }
            }
        }
        Ok(options)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(args: &[&str]) -> Result<Options, String> {
        Options::from_args(args.iter().map(ToString::to_string))
    }

    #[test]
    fn development_names_everything() {
        let options = check(&["--https", "127.0.0.1:8443", "--dev", "--agent", "/a"]).unwrap();
        assert!(options.dev && !check(&[]).unwrap().dev);
        assert_eq!(options.https, Some(([127, 0, 0, 1], 8443).into()));
        assert_eq!(options.agent, PathBuf::from("/a"));
    }

    #[test]
    fn what_is_wrong_is_named() {
        assert_eq!(check(&["--https", "8443"]).unwrap_err(), "8443 is not an address with a port.");
        assert_eq!(
            check(&["--x", "1"]).unwrap_err(),
            "Unknown option --x. Known are --https, --http, --agent and --dev."
        );
    }
}
