//! The command line: where state and sockets live. The defaults are the image's.

use std::{ffi::OsString, path::PathBuf};

/// Where the agent keeps what.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Options {
    /// What must outlive a reboot.
    pub(crate) state_dir: PathBuf,
    /// Sockets.
    pub(crate) run_dir: PathBuf,
}

impl Options {
    /// Reads `--state-dir DIR` and `--run-dir DIR`; the error is the sentence to show.
    pub(crate) fn from_args(mut args: impl Iterator<Item = OsString>) -> Result<Self, String> {
        let mut options = Self { state_dir: "/var/lib/quantix".into(), run_dir: "/run/quantix".into() };
        while let Some(name) = args.next() {
            let slot = match name.to_str() {
                Some("--state-dir") => &mut options.state_dir,
                Some("--run-dir") => &mut options.run_dir,
                _ => {
                    return Err(format!(
                        "Unknown option {}. Known are --state-dir and --run-dir.",
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
    fn both_folders_can_be_named() {
        let options = check(&["--run-dir", "/r", "--state-dir", "/s"]).unwrap();
        assert_eq!(options, Options { state_dir: "/s".into(), run_dir: "/r".into() });
    }

    #[test]
    fn an_unknown_option_is_named() {
        assert_eq!(check(&["--x"]).unwrap_err(), "Unknown option --x. Known are --state-dir and --run-dir.");
        assert_eq!(check(&["--run-dir"]).unwrap_err(), "--run-dir needs a folder.");
    }
}
