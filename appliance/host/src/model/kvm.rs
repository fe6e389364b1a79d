//! Hardware virtualisation.

/// What is known about hardware virtualisation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum KvmState {
    /// The first guest has not ended yet.
    Trying,
    /// A guest ran.
    Works,
    /// The kernel offers none.
    NoDevice,
    /// The kernel offers it and no guest ran; why.
    Fails(String),
}
