//! OVSDB (RFC 7047) over a unix socket: ask a database, and speak to a daemon's control socket, which uses the
//! same JSON-RPC.
//!
//! Only what is used so far: calls and transactions. Every answer is bounded in size and time.

mod client;
mod frame;

pub use client::{Client, Error};
pub use frame::{FrameError, MessageReader};
