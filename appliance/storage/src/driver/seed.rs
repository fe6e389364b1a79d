//! What guests are told when they start for the first time: small volumes that are made of what is kept elsewhere, and can be
//! made again at any time.

use std::{
    fmt::Display,
    fs::{self, File, OpenOptions, Permissions},
    io::{ErrorKind, Write},
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::PathBuf,
};

use super::directory::{Directory, in_files, remove};
use crate::model::pool::Failed;

impl Directory {
    /// The volume on which the guest of a machine finds what it is told.
    pub fn seed(&self, machine: impl Display) -> PathBuf {
        self.root().join("seeds").join(format!("{machine}.img"))
    }

    /// Writes that volume, if there is not the same already. A guest that runs goes on reading what it has.
    pub async fn keep_seed(&self, machine: impl Display, bytes: Vec<u8>) -> Result<(), Failed> {
        self.room().await?;
        let path = self.seed(machine);
        in_files("What the guest is told cannot be written", move || {
            match fs::read(&path) {
                Ok(there) if there == bytes => return Ok(()),
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            if let Some(dir) = path.parent() {
                fs::create_dir_all(dir)?;
                fs::set_permissions(dir, Permissions::from_mode(0o711))?;
            }
            let beside = path.with_extension("new");
            remove(&beside)?;
            let mut file = OpenOptions::new().create_new(true).write(true).mode(0o600).open(&beside)?;
            // Most of it is empty, and takes no room.
            let end = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
            file.write_all(&bytes[..end])?;
            file.set_len(bytes.len() as u64)?;
            file.sync_all()?;
            fs::rename(&beside, &path)?;
            path.parent().map_or(Ok(()), |dir| File::open(dir)?.sync_all())
        })
        .await
    }

    /// Removes that volume. One that is not there is removed.
    pub async fn remove_seed(&self, machine: impl Display) -> Result<(), Failed> {
        self.room().await?;
        let path = self.seed(machine);
        in_files("What the guest is told cannot be removed", move || {
            remove(&path.with_extension("new"))?;
            remove(&path)
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[tokio::test]
    async fn what_a_guest_is_told_is_kept_for_nobody_else_and_goes() {
        let dir = tempfile::tempdir().unwrap();
        let pool = Directory::at(dir.path().join("local"));
        assert!(pool.keep_seed("a", vec![1]).await.is_err());
        pool.prepare().await.unwrap();
        let mut bytes = vec![0; 2 << 20];
        bytes[..3].copy_from_slice(b"one");
        pool.keep_seed("a", bytes.clone()).await.unwrap();
        let about = fs::metadata(pool.seed("a")).unwrap();
        assert_eq!((about.len(), about.mode() & 0o777), (2 << 20, 0o600));
        assert!(about.blocks() * 512 < 1 << 20);
        pool.keep_seed("a", bytes.clone()).await.unwrap();
        assert_eq!(fs::metadata(pool.seed("a")).unwrap().ino(), about.ino());
        bytes[..3].copy_from_slice(b"two");
        pool.keep_seed("a", bytes.clone()).await.unwrap();
        assert_eq!(fs::read(pool.seed("a")).unwrap(), bytes);
        for _ in 0..2 {
            pool.remove_seed("a").await.unwrap();
            assert!(!pool.seed("a").exists());
        }
    }
}
