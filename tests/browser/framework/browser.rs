//! Chromium, through chromedriver. Every window has a profile of its own; all of it ends with the browser.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
};

use serde_json::json;

use crate::{driver::Window, process::Group, wait::Patience};

/// What makes Chromium quiet, and lets it run as root without a display.
const FLAGS: &[&str] = &[
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-extensions",
    "--disable-sync",
    "--hide-scrollbars",
    "--window-size=1440,900",
];

/// A chromedriver, and every Chromium it started.
#[derive(Debug)]
pub struct Browser {
    // Ended before its folder is removed.
    _driver: Group,
    address: SocketAddr,
    dir: tempfile::TempDir,
}

impl Browser {
    /// Starts chromedriver.
    pub async fn start() -> Arc<Self> {
        let dir = tempfile::Builder::new().prefix("quantix-browser-").tempdir().unwrap();
        let log = dir.path().join("driver.log");
        let program = ["/usr/bin/chromedriver", "/usr/local/bin/chromedriver"].map(Path::new);
        let program = program.into_iter().find(|path| path.exists());
        let program = program.expect("chromedriver is missing: run tools/setup");
        let driver = Group::start(program, &["--port=0".to_owned()], &log);
        let port = Patience::default()
            .wait("chromedriver says its port", async || {
                let said = fs::read_to_string(&log).unwrap_or_default();
                let (_, port) = said.split_once("successfully on port ")?;
                port.split_once('.')?.0.parse::<u16>().ok()
            })
            .await;
        Arc::new(Self { _driver: driver, address: ([127, 0, 0, 1], port).into(), dir })
    }

    /// A new window with a profile that nobody used before.
    pub(crate) async fn window(&self) -> Window {
        let profile = tempfile::Builder::new().prefix("profile-").tempdir_in(self.dir.path()).unwrap().keep();
        let mut flags: Vec<_> = FLAGS.iter().map(ToString::to_string).collect();
        flags.push(format!("--user-data-dir={}", profile.display()));
        let wanted = json!({
            // Hosts sign their certificates themselves.
            "acceptInsecureCerts": true,
            "goog:chromeOptions": { "args": flags },
            "goog:loggingPrefs": { "browser": "ALL" },
            "timeouts": { "implicit": 0, "pageLoad": 30_000, "script": 30_000 },
        });
        Window::open(self.address, &wanted).await
    }
}

/// Where pictures are kept: `out/browser` of the work tree.
pub(crate) fn pictures() -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../out/browser");
    fs::create_dir_all(&folder).unwrap();
    folder
}
