//! Requests as people and programs make them, and how long they take.

#![expect(clippy::unwrap_used, reason = "a bench ends at what it did not expect")]

pub mod figures;
pub mod pace;
pub mod peers;
pub mod programs;
pub mod streams;
pub mod wire;
