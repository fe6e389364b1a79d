//! A pool, whatever it is made of: the one seam between what is wanted of volumes and how a kind of pool does it.

use std::path::{Path, PathBuf};

use super::{
    directory::Directory,
    image::Going,
    layers::{Below, is_same},
    thin::ThinVolumes,
};
use crate::model::{
    id::VolumeId,
    pool::{Failed, Found, Room},
    thin::{Of, ThinPool},
};

/// A pool of this host.
#[derive(Clone, Debug)]
pub enum Backend {
    /// Files in a directory.
    Directory(Directory),
    /// Thin volumes of LVM.
    Thin(ThinVolumes),
}

impl Backend {
    /// The pool of an id: in the folder of the pools, or reached through whoever has the rights, at a socket.
    pub fn of(id: &str, folder: &Path, helper: &Path) -> Self {
        match id.parse::<ThinPool>() {
            Ok(pool) => Self::Thin(ThinVolumes::new(pool, helper)),
            Err(_) => Self::Directory(Directory::at(folder.join(id))),
        }
    }

    /// Where a volume is.
    pub fn path(&self, id: VolumeId) -> PathBuf {
        match self {
            Self::Directory(pool) => pool.path(id),
            Self::Thin(pool) => pool.path(id),
        }
    }

    /// Whether volumes are devices, written to as they are, and not files in QEMU's format.
    pub fn has_devices(&self) -> bool {
        matches!(self, Self::Thin(_))
    }

    /// Whether a file or a device that somebody has open is a volume.
    pub async fn is_file_of(&self, id: VolumeId, path: PathBuf) -> bool {
        is_same(self.path(id), path).await
    }

    /// Makes it, if it is one that comes of itself and is not there yet.
    pub async fn prepare(&self) -> Result<(), Failed> {
        match self {
            Self::Directory(pool) => pool.prepare().await,
            Self::Thin(_) => Ok(()),
        }
    }

    /// Refuses a pool that is not there. One that is can be used from now on.
    pub async fn must_be_there(&self) -> Result<(), Failed> {
        match self {
            Self::Directory(pool) => pool.room().await.map(drop),
            Self::Thin(pool) => pool.look().await.map(drop),
        }
    }

    /// How much room there is, and the volumes that are there.
    pub async fn look(&self) -> Result<(Room, Vec<Found>), Failed> {
        match self {
            Self::Directory(pool) => Ok((pool.room().await?, pool.volumes().await?)),
            Self::Thin(pool) => pool.look().await.map(|thin| (thin.room, thin.volumes)),
        }
    }

    /// Makes an empty volume. One that is there stays as it is.
    pub async fn make(&self, id: VolumeId, bytes: u64) -> Result<(), Failed> {
        match self {
            Self::Directory(pool) => pool.make(id, bytes).await,
            Self::Thin(pool) => pool.make(id, bytes, None, |_, _| true).await,
        }
    }

    /// Makes a volume that begins as a copy of an image.
    pub async fn make_from(
        &self,
        id: VolumeId,
        image: VolumeId,
        bytes: u64,
        going: impl Going + 'static,
    ) -> Result<(), Failed> {
        match self {
            Self::Directory(pool) => pool.make_from(id, image, bytes, going).await,
            Self::Thin(pool) => pool.make(id, bytes, Some(Of::Image(image)), going).await,
        }
    }

    /// Makes a volume that goes on from what is there.
    pub async fn lay(&self, id: VolumeId, below: Below, bytes: Option<u64>) -> Result<(), Failed> {
        match (self, below) {
            (Self::Directory(pool), below) => pool.lay(id, below, bytes).await,
            (Self::Thin(pool), Below::Layer(below)) => pool.lay(id, below, bytes).await,
            (Self::Thin(_), Below::Image(_)) => Err(Failed::Other(
                "In this pool a disk cannot lie on an image: make it a full copy".to_owned(),
            )),
        }
    }

    /// Makes a volume that begins as a whole copy of another with all that lies below it.
    pub async fn write_out(
        &self,
        id: VolumeId,
        from: VolumeId,
        bytes: u64,
        going: impl Going,
    ) -> Result<(), Failed> {
        match self {
            Self::Directory(pool) => pool.write_out(id, from, bytes, going).await,
            // Neither needs the other from the first moment on.
            Self::Thin(pool) => pool.lay(id, from, Some(bytes)).await,
        }
    }

    /// Makes a volume that is a whole copy of one in another pool, which nobody has open.
    pub async fn copy_from(
        &self,
        id: VolumeId,
        other: &Self,
        from: VolumeId,
        bytes: u64,
        going: impl Going,
    ) -> Result<(), Failed> {
        match (self, other) {
            // There is one directory that holds volumes.
            (Self::Directory(pool), Self::Directory(_)) => pool.write_out(id, from, bytes, going).await,
            (Self::Directory(pool), Self::Thin(other)) => {
                let Some(beside) = pool.begin(id).await? else { return Ok(()) };
                let written = other.write_out(from, id, going).await;
                pool.finish(id, beside, written).await
            }
            (Self::Thin(pool), Self::Directory(_)) => pool.make(id, bytes, Some(Of::File(from)), going).await,
            (Self::Thin(pool), Self::Thin(other)) => pool.make(id, bytes, Some(other.of(from)), going).await,
        }
    }

    /// Makes a volume bigger. What no machine has open, or, where volumes are devices, any.
    pub async fn grow(&self, id: VolumeId, bytes: u64) -> Result<(), Failed> {
        match self {
            Self::Directory(pool) => pool.grow(id, bytes).await,
            Self::Thin(pool) => pool.grow(id, bytes).await,
        }
    }

    /// Removes a volume with all that is on it. One that is not there is removed.
    pub async fn remove(&self, id: VolumeId) -> Result<(), Failed> {
        match self {
            Self::Directory(pool) => pool.remove(id).await,
            Self::Thin(pool) => pool.remove(id).await,
        }
    }
}
