//! The cluster's data in a file that only a passphrase opens, and a host that begins again from one.
//!
//! The file is an age file (age-encryption.org): what is in it can be read without Quantix as well. It is an SQLite
//! database, with the keys of the cluster's authority in it.

use std::{
    fs::{self, File},
    io::{self, Read, Write},
    path::Path,
    sync::Arc,
};

use age::{Decryptor, Encryptor, scrypt, secrecy::SecretString};
use axum::body::Bytes;
use quantix_api::{Problem, ProblemCode, Secret};
use quantix_host::blocking;
use quantix_store::{Address, Store};
use tokio::sync::mpsc;

use super::{Cluster, failed, recover, schema};
use crate::{audit::Line, durable};

/// How much guessing one passphrase costs: 64 MiB and some tenths of a second.
const WORK: u8 = 16;
/// A file that wants more is not opened; it would take the host's memory.
const MOST_WORK: u8 = 18;
/// The shortest passphrase; whoever has the file can guess for as long as they like.
const SHORTEST: usize = 12;
/// What of the file is on its way at once.
const PIECE: usize = 64 * 1024;
const PIECES: usize = 4;

/// The copy that a backup is made of.
const COPY: &str = "backup.db";

/// The parts of a backup, as they come or go.
pub(crate) type Pieces = mpsc::Receiver<io::Result<Bytes>>;

impl Cluster {
    /// Removes what a backup left behind that was being made when the process ended.
    pub(super) fn finish_backup(&self) -> io::Result<()> {
        durable::remove(&self.folder.join(COPY))
    }

    /// The data as it is now, encrypted.
    pub(crate) async fn backup(&self, passphrase: &Secret) -> Result<Pieces, Problem> {
        if passphrase.expose().chars().count() < SHORTEST {
            let sentence = format!("Choose a passphrase of at least {SHORTEST} characters.");
            return Err(Problem::new(ProblemCode::Invalid, sentence).in_field("passphrase"));
        }
        let store = self.store()?;
        let only = Arc::clone(&self.backing_up).try_lock_owned();
        let only = only.map_err(|_| {
            let sentence = "A backup of this host is being made already.";
            Problem::new(ProblemCode::Unavailable, sentence).retry_after(10)
        })?;
        // A host that hears no leader gives what it has; that is when a backup may matter most.
        if store.status().writable {
            store.catch_up().await.map_err(failed)?;
        }
        let path = self.folder.join(COPY);
        durable::remove(&path).map_err(|error| not_written(&error))?;
        let made = store.backup(path.clone()).await;
        let opened = File::open(&path);
        // Open, it stays readable; and nothing of it is left whatever happens.
        durable::remove(&path).map_err(|error| not_written(&error))?;
        made.map_err(failed)?;
        let file = opened.map_err(|error| not_written(&error))?;
        let passphrase = SecretString::from(passphrase.expose().to_owned());
        let (pieces, taken) = mpsc::channel(PIECES);
        std::thread::Builder::new()
            .name("backup".into())
            .spawn(move || {
                let _only = only;
                if let Err(error) = encrypt(file, passphrase, &pieces) {
                    // Whoever takes it sees that it breaks off.
                    drop(pieces.blocking_send(Err(error)));
                }
            })
            .map_err(|error| not_written(&error))?;
        Ok(taken)
    }

    /// Makes this host a cluster of its own with the data of a backup, in place of what it has, and starts again.
    pub(crate) async fn restore(
        &self,
        pieces: Pieces,
        passphrase: Secret,
        line: Line,
    ) -> Result<(), Problem> {
        let _only = self.only_change()?;
        self.must_be_alone()?;
        self.must_have_no_machines().await?;
        self.finish_switch().map_err(|error| not_written(&error))?;
        let joining = self.joining.clone();
        let restored = blocking(move || begin_again(&joining, pieces, &passphrase, &line)).await;
        let restored = restored.unwrap_or_else(|| Err(not_written(&"it broke off")));
        // Whether this version can use what is in it shows when it is opened.
        let usable = match restored {
            Ok(()) => self.try_restored().await,
            failed => failed,
        };
        if let Err(problem) = usable {
            self.finish_switch().map_err(|error| not_written(&error))?;
            return Err(problem);
        }
        self.switch().map_err(|error| not_written(&error))?;
        log::warn!("This host starts again from a backup");
        self.start_again.notify_one();
        Ok(())
    }

    async fn try_restored(&self) -> Result<(), Problem> {
        let folder = self.joining.join("store");
        let store = Store::open(&folder, schema::SCHEMA, Box::new(self.dialler.clone())).await;
        store.map_err(|error| unusable(&error))?.close().await;
        Ok(())
    }
}

fn unusable(error: &dyn std::fmt::Display) -> Problem {
    Problem::new(ProblemCode::Invalid, format!("This backup cannot be used: {error}.")).in_field("backup")
}

fn encrypt(
    mut file: File,
    passphrase: SecretString,
    pieces: &mpsc::Sender<io::Result<Bytes>>,
) -> io::Result<()> {
    let mut recipient = scrypt::Recipient::new(passphrase);
    recipient.set_work_factor(WORK);
    let encryptor = Encryptor::with_recipients(std::iter::once(&recipient as _)).map_err(io::Error::other)?;
    let leaving = io::BufWriter::with_capacity(PIECE, Leaving(pieces));
    let mut sealed = encryptor.wrap_output(leaving)?;
    io::copy(&mut file, &mut sealed)?;
    sealed.finish()?.flush()
}

fn begin_again(folder: &Path, pieces: Pieces, passphrase: &Secret, line: &Line) -> Result<(), Problem> {
    let database = folder.join(COPY);
    fs::create_dir_all(folder).map_err(|error| not_written(&error))?;
    decrypt(pieces, passphrase, &database)?;
    quantix_store::restore(&folder.join("store"), &database, Address::default())
        .map_err(|error| unusable(&error))?;
    durable::remove(&database).map_err(|error| not_written(&error))?;
    // The hosts of old are not hosts of this cluster: should they come back, they are refused.
    recover::note_that_it_is_alone(folder, line).map_err(|error| not_written(&error))
}

pub(super) fn decrypt(pieces: Pieces, passphrase: &Secret, to: &Path) -> Result<(), Problem> {
    let no_backup = |why: &dyn std::fmt::Display| {
        let sentence = format!("This is no backup, or not all of it: {why}.");
        Problem::new(ProblemCode::Invalid, sentence).in_field("backup")
    };
    let arriving = io::BufReader::with_capacity(PIECE, Arriving { pieces, now: Bytes::new() });
    let decryptor = Decryptor::new_buffered(arriving).map_err(|error| no_backup(&error))?;
    if !decryptor.is_scrypt() {
        return Err(no_backup(&"it is not encrypted with a passphrase"));
    }
    let mut identity = scrypt::Identity::new(SecretString::from(passphrase.expose().to_owned()));
    identity.set_max_work_factor(MOST_WORK);
    let mut opened = decryptor.decrypt(std::iter::once(&identity as _)).map_err(|error| match error {
        age::DecryptError::DecryptionFailed | age::DecryptError::KeyDecryptionFailed => {
            Problem::new(ProblemCode::Invalid, "The passphrase is wrong.").in_field("passphrase")
        }
        error => no_backup(&error),
    })?;
    let mut file = File::create_new(to).map_err(|error| not_written(&error))?;
    let mut piece = vec![0; PIECE];
    loop {
        let read = opened.read(&mut piece).map_err(|error| no_backup(&error))?;
        if read == 0 {
            return Ok(());
        }
        file.write_all(&piece[..read]).map_err(|error| not_written(&error))?;
    }
}

/// Writes into pieces that leave.
struct Leaving<'a>(&'a mpsc::Sender<io::Result<Bytes>>);

impl Write for Leaving<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let sent = self.0.blocking_send(Ok(Bytes::copy_from_slice(bytes)));
        sent.map(|()| bytes.len()).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Reads from pieces that arrive.
struct Arriving {
    pieces: Pieces,
    now: Bytes,
}

impl Read for Arriving {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while self.now.is_empty() {
            let Some(next) = self.pieces.blocking_recv() else { return Ok(0) };
            self.now = next?;
        }
        let length = into.len().min(self.now.len());
        into[..length].copy_from_slice(&self.now.split_to(length));
        Ok(length)
    }
}

fn not_written(error: &dyn std::fmt::Display) -> Problem {
    Problem::new(ProblemCode::StorageUnavailable, format!("The backup could not be written: {error}."))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passphrase(text: &str) -> Secret {
        Secret::new(text)
    }

    fn sealed(text: &[u8]) -> Vec<u8> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("plain");
        fs::write(&path, text).unwrap();
        let (pieces, mut taken) = mpsc::channel(PIECES);
        let writer = std::thread::spawn(move || {
            encrypt(File::open(path).unwrap(), SecretString::from("correct horse".to_owned()), &pieces)
        });
        let mut all = Vec::new();
        while let Some(piece) = taken.blocking_recv() {
            all.extend(piece.unwrap());
        }
        writer.join().unwrap().unwrap();
        all
    }

    fn opened(sealed: &[u8], passphrase: &Secret) -> Result<Vec<u8>, Problem> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("plain");
        let (pieces, taken) = mpsc::channel(sealed.len() / 1000 + 1);
        for piece in sealed.chunks(1000) {
            pieces.try_send(Ok(Bytes::copy_from_slice(piece))).unwrap();
        }
        drop(pieces);
        decrypt(taken, passphrase, &path).map(|()| fs::read(&path).unwrap())
    }

    #[test]
    fn a_backup_is_opened_by_its_passphrase_and_only_whole() {
        let text = b"not to be read".repeat(20_000);
        let sealed = sealed(&text);
        assert!(!sealed.windows(14).any(|window| window == b"not to be read"));
        assert_eq!(opened(&sealed, &passphrase("correct horse")).unwrap(), text);
        let wrong = opened(&sealed, &passphrase("correct house")).unwrap_err();
        assert_eq!(wrong.field.as_deref(), Some("passphrase"));
        for cut in [0, 10, 200, sealed.len() / 2, sealed.len() - 1] {
            let problem = opened(&sealed[..cut], &passphrase("correct horse")).unwrap_err();
            assert_eq!(problem.field.as_deref(), Some("backup"), "{cut}: {problem}");
        }
        let mut altered = sealed.clone();
        altered[sealed.len() / 2] ^= 1;
        assert!(opened(&altered, &passphrase("correct horse")).is_err());
        assert!(opened(b"SQLite format 3\0", &passphrase("correct horse")).is_err());
    }
}
