//! What the fuzz targets reach of the cluster: what new hosts, members, people and backups bring along.

use std::{fs, net::SocketAddr, path::Path};

use axum::body::Bytes;
use quantix_api::Secret;
use quantix_store::HostId;
use tokio::sync::mpsc;

use super::{
    JoinToken,
    authority::{self, Authority},
    backup, join, node,
};
use crate::fuzz::body;

/// What is said when a host joins; the first byte says what it is.
pub fn joining(bytes: &[u8]) {
    let Some((kind, bytes)) = bytes.split_first() else { return };
    let text = std::str::from_utf8(bytes).ok();
    match (kind % 7, text) {
        (0, Some(typed)) => token(typed),
        (1, Some(typed)) => address(typed),
        (2, _) => body::<node::Joining>(bytes),
        (3, _) => body::<join::Ask>(bytes),
        (4, _) => body::<join::Answered>(bytes),
        (5, _) => body::<join::Answer>(bytes),
        (6, Some(request)) => certificate(request),
        _ => {}
    }
}

fn token(typed: &str) {
    if let Some(token) = JoinToken::read(typed) {
        let shown = token.shown();
        assert!(shown.len() == 27 && JoinToken::read(&shown).is_some_and(|again| again.shown() == shown));
    }
}

/// What goes on to the resolver has a name and a port, and nothing else.
fn address(typed: &str) {
    let Ok(address) = join::with_port(typed) else { return };
    let (name, port) = address.rsplit_once(':').unwrap_or_default();
    assert!(!name.is_empty() && port.parse::<u16>().is_ok_and(|port| port > 0), "{address:?}");
    assert!(!name.contains([' ', '/', '@', '\0', '\n']), "{address:?}");
    if name.starts_with('[') {
        assert!(address.parse::<SocketAddr>().is_ok(), "{address:?} is no address");
    }
    drop(node::reached_at(name, 7443));
}

thread_local! {
    static AUTHORITY: Option<Authority> = Authority::new().ok();
}

/// Whoever asks for a certificate gets one for the host that it is, or none.
fn certificate(request: &str) {
    AUTHORITY.with(|authority| {
        let signed = authority.as_ref().and_then(|authority| authority.sign(request, HostId(7), 2030).ok());
        if let Some(signed) = signed {
            assert_eq!(authority::host_of_pem(&signed).map(|(host, _)| host), Some(HostId(7)));
        }
    });
}

/// A backup as it is uploaded, in pieces of the first byte's length; `folder` is for what is in it.
pub fn backup(folder: &Path, bytes: &[u8]) {
    let Some((piece, file)) = bytes.split_first() else { return };
    let (sender, pieces) = mpsc::channel(file.len() + 1);
    for piece in file.chunks(usize::from(*piece) + 1) {
        let sent = sender.try_send(Ok(Bytes::copy_from_slice(piece)));
        assert!(sent.is_ok(), "there is room for all of it");
    }
    drop(sender);
    let opened = folder.join("opened");
    drop(backup::decrypt(pieces, &Secret::new(PASSPHRASE), &opened));
    drop(fs::remove_file(&opened));
}

/// What opens the backups of the target.
const PASSPHRASE: &str = "correct horse battery";
