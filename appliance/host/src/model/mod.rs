//! The kernel's and the tools' texts, read into plain values. Nothing here touches the machine.

pub(crate) mod kvm;
pub(crate) mod load;
pub(crate) mod proc;
pub(crate) mod slot;
