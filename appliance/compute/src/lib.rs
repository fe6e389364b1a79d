//! Virtual machines.
//!
//! `model` says what they are, `plan` what libvirt is to be told and what is allowed when, `driver` speaks to libvirt.

mod driver;
mod model;
mod plan;

pub use driver::{
    console::Console,
    events::{Event, Happened},
    layers::Job,
    libvirt::{Failed, Libvirt, Seen, noticing_absence},
};
pub use model::{
    access::{
        Access, KeysRefused, NoPassword, NoPasswordHash, PasswordHash, SshKeys, UserName, UserNameRefused,
        hash_password,
    },
    check::{Flaw, check},
    element::{Element, Malformed},
    id::VmId,
};
pub use plan::{
    allowed::{Refused, allowed, allows_hold},
    cloud_init::{Address, Addressing, CardNetwork, CloudInit, StaticAddresses, Texts, UserData, seed},
    differences::differences,
    domain::{
        Accelerator, Drawn, Drive, Format, domain_name, draw, draw_cd, draw_memory, draw_nic, draw_plugged,
    },
    found::{Found, found},
    ovf::{Came, MOST_DISKS, read_ovf},
    plugged::{cards, plugged_as, targets},
    recognise::{Missing, Recognised, recognise},
    runs::Runs,
    snapshot::{Chain, Layer, chains, draw_copy, draw_hold, with_files},
    strayed::strayed,
};
