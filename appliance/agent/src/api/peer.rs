//! Who is at the other end of the socket, as the kernel says; and for whom the page server speaks.

use std::net::IpAddr;

use axum::{
    extract::{ConnectInfo, FromRequestParts, connect_info::Connected},
    http::{HeaderMap, header, request::Parts},
    serve::IncomingStream,
};
use quantix_api::{CLIENT_ADDRESS_HEADER, Problem, ProblemCode};
use tokio::net::UnixListener;

use super::answer::Failure;
use crate::throttle::Source;

/// The process at the other end.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Peer {
    uid: Option<u32>,
}

impl Connected<IncomingStream<'_, UnixListener>> for Peer {
    fn connect_info(stream: IncomingStream<'_, UnixListener>) -> Self {
        Self { uid: stream.io().peer_cred().ok().map(|credentials| credentials.uid()) }
    }
}

impl Peer {
    /// Whether it runs as root on this machine.
    pub(crate) fn is_root(self) -> bool {
        self.uid == Some(0)
    }

    /// Whether it is the page server, or somebody who can read all that the agent can.
    fn is_page_server(self) -> bool {
        let page_server = || nix::unistd::User::from_name(super::PAGES).ok().flatten().map(|user| user.uid);
        let Some(uid) = self.uid.map(nix::unistd::Uid::from_raw) else { return false };
        uid.is_root() || uid == nix::unistd::geteuid() || Some(uid) == page_server()
    }
}

/// Where the request really comes from. Only root and the page server can open the socket, so the header they set
/// is believed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Client {
    address: Option<IpAddr>,
}

impl Client {
    /// Whom the headers name.
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        let header = headers.get(CLIENT_ADDRESS_HEADER).and_then(|value| value.to_str().ok());
        Self { address: header.and_then(|address| address.parse().ok()) }
    }

    pub(crate) fn address(self) -> Option<IpAddr> {
        self.address
    }

    pub(crate) fn source(self) -> Source {
        Source::of(self.address)
    }
}

impl std::fmt::Display for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.address {
            Some(address) => address.fmt(f),
            None => f.write_str("this machine"),
        }
    }
}

impl<S: Sync> FromRequestParts<S> for Client {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Self::Rejection> {
        Ok(Self::of(&parts.headers))
    }
}

/// Only for root on this machine.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Root;

impl<S: Sync> FromRequestParts<S> for Root {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Failure> {
        match parts.extensions.get::<ConnectInfo<Peer>>() {
            Some(ConnectInfo(peer)) if peer.is_root() => Ok(Self),
            _ => {
                Err(Problem::new(ProblemCode::Forbidden, "Only the machine's own screen may ask this.")
                    .into())
            }
        }
    }
}

/// Only for the page server itself, which asks for nobody. Whoever may read this host's files may ask as well.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PageServer;

impl<S: Sync> FromRequestParts<S> for PageServer {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Failure> {
        let asks_for_somebody = [CLIENT_ADDRESS_HEADER, header::AUTHORIZATION.as_str()]
            .iter()
            .any(|name| parts.headers.contains_key(*name));
        match parts.extensions.get::<ConnectInfo<Peer>>() {
            Some(ConnectInfo(peer)) if peer.is_page_server() && !asks_for_somebody => Ok(Self),
            _ => Err(Problem::new(ProblemCode::Forbidden, "Only the page server may ask this.").into()),
        }
    }
}

/// The token of `Authorization: Bearer …`.
#[derive(Clone, Debug)]
pub(crate) struct Token(pub(crate) String);

impl<S: Sync> FromRequestParts<S> for Token {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Failure> {
        parts
            .headers
            .get(header::AUTHORIZATION)
            .and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "))
            .map(|token| Self(token.to_owned()))
            .ok_or_else(|| sign_in_needed().into())
    }
}

/// The answer to whoever has no open session.
pub(crate) fn sign_in_needed() -> Problem {
    Problem::new(ProblemCode::SignInNeeded, "Sign in first; a session ends after half an hour without use.")
}
