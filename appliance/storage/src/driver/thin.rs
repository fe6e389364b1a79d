//! Thin volumes, reached through the program that has the rights for it: it is asked over a socket, and does no more than
//! what can be asked.

use std::{
    io,
    path::{Path, PathBuf},
};

use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::UnixStream,
};

use super::image::{Going, stopped};
use crate::model::{
    id::VolumeId,
    pool::Failed,
    thin::{Asked, Disk, Of, Thin, ThinPool, Told},
};

/// The longest that is read of an answer: as many volumes as a pool can have.
const LONGEST: u64 = 16 << 20;

/// A pool of thin volumes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ThinVolumes {
    pool: ThinPool,
    helper: PathBuf,
}

impl ThinVolumes {
    /// The pool, whether it is there or not.
    pub fn new(pool: ThinPool, helper: &Path) -> Self {
        Self { pool, helper: helper.to_owned() }
    }

    /// The device of a volume.
    pub fn path(&self, id: VolumeId) -> PathBuf {
        self.pool.device(id)
    }

    /// Makes the pool of whole disks; what is on them is lost, if so.
    pub async fn make_pool(&self, disks: Vec<String>, erase: bool) -> Result<(), Failed> {
        self.does(Asked::MakePool { pool: self.pool, disks, erase }).await
    }

    /// Makes the pool bigger by whole disks; what is on them is lost, if so. One that is its own already stays so.
    pub async fn add_disks(&self, disks: Vec<String>, erase: bool) -> Result<(), Failed> {
        self.does(Asked::AddDisks { pool: self.pool, disks, erase }).await
    }

    /// Takes disks out of it on which nothing of it is yet. Others are left alone.
    pub async fn give_back(&self, disks: Vec<String>) -> Result<(), Failed> {
        self.does(Asked::GiveBack { pool: self.pool, disks }).await
    }

    /// Removes the pool with all that is in it. One that is not there is removed.
    pub async fn remove_pool(&self) -> Result<(), Failed> {
        self.does(Asked::RemovePool { pool: self.pool }).await
    }

    /// How it is.
    pub async fn look(&self) -> Result<Thin, Failed> {
        match ask(&self.helper, &Asked::Look { pool: self.pool }, |_, _| true).await? {
            Told::Pool(thin) => Ok(thin),
            _ => Err(unexpected()),
        }
    }

    /// Makes a volume: empty, or as a copy. One that is there stays as it is.
    pub(super) async fn make(
        &self,
        volume: VolumeId,
        bytes: u64,
        of: Option<Of>,
        going: impl Going,
    ) -> Result<(), Failed> {
        let asked = Asked::Make { pool: self.pool, volume, bytes, of };
        done(ask(&self.helper, &asked, going).await?)
    }

    /// Writes out a volume as a file of the pool that every host has, which has no name yet.
    pub(super) async fn write_out(
        &self,
        volume: VolumeId,
        file: VolumeId,
        going: impl Going,
    ) -> Result<(), Failed> {
        let asked = Asked::WriteOut { pool: self.pool, volume, file };
        done(ask(&self.helper, &asked, going).await?)
    }

    /// The same as something that a volume begins as a copy of.
    pub(super) fn of(&self, volume: VolumeId) -> Of {
        Of::Thin { pool: self.pool, volume }
    }

    pub(super) async fn lay(
        &self,
        volume: VolumeId,
        below: VolumeId,
        bytes: Option<u64>,
    ) -> Result<(), Failed> {
        self.does(Asked::Lay { pool: self.pool, volume, below, bytes }).await
    }

    pub(super) async fn grow(&self, volume: VolumeId, bytes: u64) -> Result<(), Failed> {
        self.does(Asked::Grow { pool: self.pool, volume, bytes }).await
    }

    pub(super) async fn remove(&self, volume: VolumeId) -> Result<(), Failed> {
        self.does(Asked::Remove { pool: self.pool, volume }).await
    }

    async fn does(&self, asked: Asked) -> Result<(), Failed> {
        done(ask(&self.helper, &asked, |_, _| true).await?)
    }
}

/// The disks of this host.
pub async fn host_disks(helper: &Path) -> Result<Vec<Disk>, Failed> {
    match ask(helper, &Asked::Disks, |_, _| true).await? {
        Told::Disks(disks) => Ok(disks),
        _ => Err(unexpected()),
    }
}

fn done(told: Told) -> Result<(), Failed> {
    match told {
        Told::Done => Ok(()),
        _ => Err(unexpected()),
    }
}

fn unexpected() -> Failed {
    Failed::Other("What looks after the disks answered something else".to_owned())
}

/// Asks one thing. Whoever gives up asking ends what was begun.
async fn ask(helper: &Path, asked: &Asked, going: impl Going) -> Result<Told, Failed> {
    let unreachable = |error: io::Error| {
        Failed::Other(format!("What looks after the disks (quantix-disks) does not answer: {error}"))
    };
    let mut stream = UnixStream::connect(helper).await.map_err(unreachable)?;
    let mut line = serde_json::to_vec(asked).map_err(|error| unreachable(error.into()))?;
    line.push(b'\n');
    stream.write_all(&line).await.map_err(unreachable)?;
    let mut answers = BufReader::new(stream.take(LONGEST));
    loop {
        let mut line = String::new();
        if answers.read_line(&mut line).await.map_err(unreachable)? == 0 {
            return Err(unreachable(io::ErrorKind::UnexpectedEof.into()));
        }
        match serde_json::from_str(&line).map_err(|error| unreachable(error.into()))? {
            Told::At(written) if going(written, None) => {}
            Told::At(_) => return Err(stopped()),
            Told::Failed(failed) => return Err(failed),
            told => return Ok(told),
        }
    }
}
