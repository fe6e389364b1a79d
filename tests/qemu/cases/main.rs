//! What must be true of the booted image. Each file is a part of the promise; each case is a script of what a person
//! does. Cases start from a machine that has booted once, unless the boot itself is what they are about.
//!
//! `QUANTIX_SOAK=1` gives the full counts, `QUANTIX_SEED` repeats the random choices of an earlier run.
#![expect(clippy::unwrap_used, reason = "a case that cannot go on ends there, and the message says where")]

mod boot;
mod cluster;
mod disks;
mod full_state;
mod guest;
mod kvm;
mod machines;
mod network;
mod persistence;
mod ports;
mod power;
mod root;
mod services;
mod sign_in;
mod tampering;
mod wrong_requests;

/// A count in the short form, or in full when soaking.
fn count<T>(short: T, full: T) -> T {
    if std::env::var_os("QUANTIX_SOAK").is_some() { full } else { short }
}
