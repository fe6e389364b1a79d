//! The file of an image while it comes, in pieces or from elsewhere: what there is of it, what is known of it, and its sums.

use std::{
    fs::{self, File, OpenOptions, Permissions},
    io::{self, ErrorKind, Read},
    os::unix::fs::{FileExt, PermissionsExt},
    path::PathBuf,
};

use sha2::{Digest, Sha256, Sha512};

use super::{
    directory::{Directory, in_files, remove},
    image::{Going, stopped},
};
use crate::model::{id::VolumeId, pool::Failed};

const PIECE: usize = 1 << 20;

/// The sums of a file, in hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sums {
    /// Its SHA-256.
    pub sha256: String,
    /// Its SHA-512, if it was asked for.
    pub sha512: Option<String>,
}

impl Sums {
    /// Whether one of these is the sum that is meant.
    pub(super) fn has(&self, sum: &str) -> bool {
        self.sha256 == sum || self.sha512.as_deref() == Some(sum)
    }
}

impl Directory {
    /// What has come of an image so far.
    pub(super) fn arriving(&self, id: VolumeId) -> PathBuf {
        self.images_dir().join(format!("{id}.part"))
    }

    /// How much of an image has come.
    pub async fn arrived(&self, id: VolumeId) -> Result<u64, Failed> {
        self.room().await?;
        let path = self.arriving(id);
        in_files("What has come cannot be looked at", move || match fs::metadata(&path) {
            Ok(about) => Ok(about.len()),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(0),
            Err(error) => Err(error),
        })
        .await
    }

    /// Puts a piece where it belongs: behind what has come. What comes twice is written once.
    pub async fn take_piece(&self, id: VolumeId, at: u64, piece: Vec<u8>) -> Result<(), Failed> {
        self.room().await?;
        let (dir, path) = (self.images_dir(), self.arriving(id));
        in_files("The image cannot be written", move || {
            fs::create_dir_all(&dir)?;
            fs::set_permissions(&dir, Permissions::from_mode(0o711))?;
            let file = OpenOptions::new().create(true).truncate(false).write(true).open(&path)?;
            file.set_permissions(Permissions::from_mode(0o600))?;
            file.write_all_at(&piece, at)?;
            // After a power cut the file must not be longer than what is in it: whoever goes on goes on behind its end.
            file.sync_data()
        })
        .await
    }

    /// Takes away what has come: its file comes anew.
    pub async fn begin_anew(&self, id: VolumeId) -> Result<(), Failed> {
        self.room().await?;
        let (path, origin) = (self.arriving(id), self.origin_of(id));
        in_files("What has come cannot be removed", move || {
            remove(&path)?;
            remove(&origin)
        })
        .await
    }

    pub(super) fn origin_of(&self, id: VolumeId) -> PathBuf {
        self.images_dir().join(format!("{id}.from"))
    }

    /// What was noted of the file that comes, by which it is known again.
    pub async fn origin(&self, id: VolumeId) -> Result<Option<Vec<u8>>, Failed> {
        let path = self.origin_of(id);
        in_files("What is known of the file cannot be read", move || match fs::read(&path) {
            Ok(origin) => Ok(Some(origin)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        })
        .await
    }

    /// Notes something of the file that comes. It need not survive the power: without it the file comes anew.
    pub async fn keep_origin(&self, id: VolumeId, origin: Vec<u8>) -> Result<(), Failed> {
        self.room().await?;
        let (dir, path) = (self.images_dir(), self.origin_of(id));
        in_files("What is known of the file cannot be kept", move || {
            fs::create_dir_all(&dir)?;
            fs::set_permissions(&dir, Permissions::from_mode(0o711))?;
            fs::write(&path, origin)?;
            fs::set_permissions(&path, Permissions::from_mode(0o600))
        })
        .await
    }

    /// The sums of what has come.
    pub async fn sum(
        &self,
        id: VolumeId,
        with_sha512: bool,
        going: impl Going + 'static,
    ) -> Result<Sums, Failed> {
        self.room().await?;
        let path = self.arriving(id);
        let sum = in_files("The image cannot be read", move || {
            let file = File::open(&path)?;
            let whole = file.metadata()?.len();
            sums(file, whole, with_sha512, &going)
        });
        sum.await?.ok_or_else(stopped)
    }
}

/// The sums of what is read; nothing, if it was stopped.
pub(super) fn sums(
    mut from: impl Read,
    whole: u64,
    with_sha512: bool,
    going: &impl Going,
) -> io::Result<Option<Sums>> {
    let (mut sha256, mut sha512, mut piece) = (Sha256::new(), Sha512::new(), vec![0; PIECE]);
    let mut done = 0;
    loop {
        let count = from.read(&mut piece)?;
        if count == 0 {
            let sha512 = with_sha512.then(|| hex(&sha512.finalize()));
            return Ok(Some(Sums { sha256: hex(&sha256.finalize()), sha512 }));
        }
        sha256.update(&piece[..count]);
        if with_sha512 {
            sha512.update(&piece[..count]);
        }
        done += count as u64;
        if !going(done, Some(whole)) {
            return Ok(None);
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
