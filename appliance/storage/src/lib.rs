//! Storage.
//!
//! `model` says by what things are known, and what a file is; `driver` reaches pools.

mod driver;
mod model;

pub use driver::{
    appliance::{Appliance, Member},
    arriving::{Further, Sums},
    backend::Backend,
    directory::{Directory, qemu_img_ended},
    files::Lying,
    foreign::Foreign,
    image::{Came, Going, Kept as KeptImage},
    layers::{Below, is_same},
    thin::{ThinVolumes, host_disks},
};
pub use model::{
    content::{Content, DiskFormat, HEAD, Packing, Unfit, recognise},
    id::{NoId, VolumeId},
    os::Os,
    pool::{Failed, Found, Room},
    thin,
};
