//! What lies in a pool that is a directory, whoever put it there. Files are named by their way from the pool on.

use std::{
    fs::{self, Metadata},
    io::{self, ErrorKind},
    os::unix::fs::MetadataExt,
    path::{Component, Path, PathBuf},
};

use super::directory::{Directory, in_files, remove};
use crate::model::{id::VolumeId, pool::Failed};

/// More are not listed, and what lies deeper is not, either.
const MOST: usize = 10_000;
const DEEPEST: usize = 6;

/// A file in a pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lying {
    /// Its way from the pool on.
    pub path: String,
    /// How long it is, and what it takes.
    pub length: u64,
    /// What it takes.
    pub used: u64,
    /// When it was last written to, in milliseconds since 1970.
    pub changed_ms: i64,
    /// Whether it is a file, and not a link, a pipe or a device.
    pub is_file: bool,
}

impl Directory {
    /// The files in it, and whether there are more of them.
    pub async fn files(&self) -> Result<(Vec<Lying>, bool), Failed> {
        self.room().await?;
        let root = self.root().to_owned();
        in_files("The pool cannot be listed", move || {
            let mut found = Vec::new();
            let is_cut = !list(&root, &mut PathBuf::new(), 0, &mut found)?;
            found.sort_by(|one, other| one.path.cmp(&other.path));
            Ok((found, is_cut))
        })
        .await
    }

    /// One of its files, if it is there.
    pub async fn lying(&self, path: &str) -> Result<Option<Lying>, Failed> {
        self.room().await?;
        let (pool, way) = (self.clone(), path.to_owned());
        in_files("The file cannot be looked at", move || {
            let Some(path) = pool.file(&way) else { return Ok(None) };
            match fs::symlink_metadata(path) {
                Ok(about) => Ok((!about.is_dir()).then(|| Lying::of(Path::new(&way), &about))),
                Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
                Err(error) => Err(error),
            }
        })
        .await
    }

    /// Where a file of it is. Nothing leads out of it, by whatever name.
    pub fn file(&self, path: &str) -> Option<PathBuf> {
        let way = Path::new(path);
        let is_within = way.components().all(|part| matches!(part, Component::Normal(_)));
        if !is_within || path.is_empty() {
            return None;
        }
        // On its way there is no link.
        let mut at = self.root().to_owned();
        for part in way.components() {
            if !fs::symlink_metadata(&at).is_ok_and(|about| about.is_dir()) {
                return None;
            }
            at.push(part);
        }
        Some(at)
    }

    /// Removes a file of it. One that is not there is removed.
    pub async fn remove_file(&self, path: &str) -> Result<(), Failed> {
        self.room().await?;
        let (pool, path) = (self.clone(), path.to_owned());
        in_files("The file cannot be removed", move || match pool.file(&path) {
            Some(path) => remove(&path),
            None => Ok(()),
        })
        .await
    }

    /// Takes a file of it for one that has come as an image, and leaves it where it is. What has come already stays.
    pub async fn take_file(&self, path: &str, id: VolumeId) -> Result<(), Failed> {
        self.room().await?;
        let (pool, path) = (self.clone(), path.to_owned());
        in_files("The file cannot be taken", move || {
            let part = pool.arriving(id);
            if part.try_exists()? || pool.disk_image(id).try_exists()? || pool.iso_image(id).try_exists()? {
                return Ok(());
            }
            let file = pool.file(&path).ok_or(ErrorKind::NotFound)?;
            if !fs::symlink_metadata(&file)?.is_file() {
                return Err(io::Error::other("it is no file"));
            }
            if let Some(dir) = part.parent() {
                fs::create_dir_all(dir)?;
            }
            fs::hard_link(file, part)
        })
        .await
    }
}

/// Lists what is below a folder. Whether that is all.
fn list(root: &Path, way: &mut PathBuf, depth: usize, found: &mut Vec<Lying>) -> io::Result<bool> {
    let mut is_all = true;
    let entries = match fs::read_dir(root.join(&*way)) {
        // It went while it was looked at.
        Err(error) if error.kind() == ErrorKind::NotFound && depth > 0 => return Ok(true),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        let Ok(about) = entry.metadata() else { continue };
        if found.len() == MOST {
            return Ok(false);
        }
        way.push(entry.file_name());
        if about.is_dir() {
            is_all &= depth < DEEPEST && list(root, way, depth + 1, found)?;
        } else {
            found.push(Lying::of(way, &about));
        }
        way.pop();
    }
    Ok(is_all)
}

impl Lying {
    fn of(way: &Path, about: &Metadata) -> Self {
        Self {
            path: way.to_string_lossy().into_owned(),
            length: about.len(),
            used: about.blocks().saturating_mul(512),
            changed_ms: about.mtime().saturating_mul(1000).saturating_add(about.mtime_nsec() / 1_000_000),
            is_file: about.is_file(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn pool() -> (tempfile::TempDir, Directory) {
        let dir = tempfile::tempdir().unwrap();
        let pool = Directory::at(dir.path().join("local"));
        pool.prepare().await.unwrap();
        (dir, pool)
    }

    async fn names(pool: &Directory) -> Vec<String> {
        pool.files().await.unwrap().0.into_iter().map(|file| file.path).collect()
    }

    #[tokio::test]
    async fn all_that_lies_there_is_listed_and_nothing_outside() {
        let (dir, pool) = pool().await;
        let root = dir.path().join("local");
        fs::write(dir.path().join("secret"), "secret").unwrap();
        fs::create_dir_all(root.join("a/b")).unwrap();
        fs::write(root.join("a/b/old disk.raw"), vec![1; 8192]).unwrap();
        std::os::unix::fs::symlink(dir.path(), root.join("way out")).unwrap();
        let (files, is_cut) = pool.files().await.unwrap();
        let shown: Vec<_> = files.iter().map(|file| (file.path.as_str(), file.is_file)).collect();
        assert_eq!(shown, [("a/b/old disk.raw", true), ("quantix-pool", true), ("way out", false)]);
        assert_eq!((files[0].length, is_cut), (8192, false));
        for file in &files {
            assert_eq!(pool.lying(&file.path).await.unwrap().as_ref(), Some(file));
        }
        assert_eq!(pool.lying("a/b").await.unwrap(), None);
        assert_eq!(pool.file("a/b/old disk.raw").unwrap(), root.join("a/b/old disk.raw"));
        for wrong in
            ["", "..", "../secret", "/etc/passwd", "a/../../secret", "way out/secret", "./a", "nowhere/x"]
        {
            assert_eq!(pool.file(wrong), None, "{wrong}");
            assert_eq!(pool.lying(wrong).await.unwrap(), None, "{wrong}");
            pool.remove_file(wrong).await.unwrap();
            assert!(pool.take_file(wrong, VolumeId::new()).await.is_err(), "{wrong}");
        }
        assert!(dir.path().join("secret").exists());
        // The link goes, and not what it leads to.
        for _ in 0..2 {
            pool.remove_file("way out").await.unwrap();
        }
        assert_eq!(names(&pool).await, ["a/b/old disk.raw", "quantix-pool"]);
        assert!(dir.path().join("secret").exists());
    }

    #[tokio::test]
    async fn a_file_is_taken_for_one_that_has_come_once() {
        let (dir, pool) = pool().await;
        let root = dir.path().join("local");
        fs::write(root.join("cd.iso"), "a cd").unwrap();
        fs::create_dir(root.join("folder")).unwrap();
        let id = VolumeId::new();
        for _ in 0..2 {
            pool.take_file("cd.iso", id).await.unwrap();
            assert_eq!(fs::read(pool.arriving(id)).unwrap(), b"a cd");
        }
        assert!(root.join("cd.iso").exists());
        assert!(pool.take_file("folder", VolumeId::new()).await.is_err());
    }

    #[tokio::test]
    async fn what_lies_too_deep_is_said_to_be_left_out() {
        let (dir, pool) = pool().await;
        fs::create_dir_all(dir.path().join("local").join("x/".repeat(DEEPEST + 2))).unwrap();
        assert!(pool.files().await.unwrap().1);
    }
}
