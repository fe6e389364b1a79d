//! Several agents, each a process of its own, that become a cluster over loopback.

#![expect(clippy::unwrap_used, clippy::panic, reason = "what goes wrong in a test ends it")]

mod agree;
mod appliance;
mod away;
mod backup;
mod cds;
mod certificate;
mod cloud_init;
mod consoles;
mod copies;
mod devices;
mod fetch;
mod files;
mod full;
mod guests;
mod hostile;
mod hosts;
mod import;
mod lies;
mod live;
mod meddled;
mod membership;
mod metrics;
mod nospace;
mod once;
mod place;
mod provider;
mod rights;
mod snapshots;
mod states;
mod steps;
mod storage;
mod stream;
mod syslog;
mod tasks;
mod vms;
