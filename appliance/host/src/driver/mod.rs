//! All that reaches the machine: files under `/proc` and `/sys`, daemons' sockets, and outside programs.

pub(crate) mod blocking;
pub(crate) mod hardware;
pub(crate) mod host;
pub(crate) mod kvm;
pub(crate) mod load;
pub(crate) mod pci;
pub(crate) mod run;
pub(crate) mod services;
