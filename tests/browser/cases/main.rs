//! What people do with the pages, in a real browser. Pictures of every page are kept in `out/browser`.
#![expect(clippy::panic, clippy::unwrap_used, reason = "what goes wrong in a test ends it")]

mod addresses;
mod at_once;
mod disks;
mod files;
mod found;
mod hostile;
mod hostile_machines;
mod images;
mod journeys;
mod keyboard;
mod live;
mod load;
mod looks;
mod machines;
mod sign_in;
mod snapshots;
mod wizard;
