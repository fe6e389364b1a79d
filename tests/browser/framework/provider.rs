//! An identity provider, as a process of its own, before which one person stands.

use std::{
    fs,
    net::{IpAddr, SocketAddr, TcpStream},
    path::Path,
};

use serde_json::json;

use crate::{host::free_port, process::Group, wait::until};

/// What it and the cluster know, and nobody else.
const SECRET: &str = "a secret: with % signs";

/// The provider.
#[derive(Debug)]
pub struct Provider {
    /// What it is called by everybody.
    pub issuer: String,
    /// What the cluster proves with that it asks.
    pub secret: &'static str,
    /// What vouches for its certificate.
    pub certificate: String,
    // Ended before its folder is removed.
    _process: Group,
    _dir: tempfile::TempDir,
}

impl Provider {
    /// Starts one that sends people back to `origin`, and says yes to whoever stands before it: a user of this name,
    /// who is in these groups.
    pub async fn start(origin: &str, name: &str, groups: &[&str]) -> Self {
        let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let packages = tests.join("../out/provider/node_modules");
        assert!(packages.join("oidc-provider").exists(), "the provider is missing: run tools/setup");
        let dir = tempfile::Builder::new().prefix("quantix-provider-").tempdir().unwrap();
        let file = |name: &str| dir.path().join(name).display().to_string();
        let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
        let certificate = made.cert.pem();
        fs::write(file("cert.pem"), &certificate).unwrap();
        fs::write(file("key.pem"), made.signing_key.serialize_pem()).unwrap();
        let address: SocketAddr = free_port(IpAddr::from([127, 0, 0, 1]));
        let person = json!({ "sub": "1", "preferred_username": name, "groups": groups }).to_string();
        let arguments = [
            tests.join("provider/provider.mjs").display().to_string(),
            packages.display().to_string(),
            address.port().to_string(),
            file("cert.pem"),
            file("key.pem"),
            format!("{origin}/sign-in/oidc/callback"),
            person,
        ];
        let process = Group::start(Path::new("node"), &arguments, &dir.path().join("log"));
        until("the provider answers", async || TcpStream::connect(address).is_ok()).await;
        Self {
            issuer: format!("https://{address}"),
            secret: SECRET,
            certificate,
            _process: process,
            _dir: dir,
        }
    }
}
