//! The audit log, sent elsewhere as syslog (RFC 5424) over TLS (RFC 5425) by the host that leads.
//!
//! Syslog knows no receipt. So the lines that are there travel on a connection of their own: it is ended behind the last
//! of them, and only a receiver that has read all of it ends it too, while one that has died or was cut off resets it.
//! Then, and no sooner, is it written down how far the lines have got. Whoever leads goes on from there: every line
//! arrives, in order, and twice only when a receiver or a leader was lost in between.

pub(crate) mod kept;
mod line;
mod sender;

pub(crate) use sender::{Trouble, deliver, forward, test_line};

/// Where receivers listen unless it is said otherwise.
pub(crate) const PORT: u16 = 6514;
