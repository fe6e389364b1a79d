//! What drives hosts of the store that are processes of their own.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test stops at what it did not expect")]

pub mod clients;
pub mod cluster;
pub mod etcd;
pub mod history;
pub mod member;
pub mod space;
pub mod wire;
