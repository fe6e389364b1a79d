//! The volumes of a pool. Whatever is begun here may be begun again: a volume has its name only when it is whole.

use std::{future::Future, os::unix::fs::MetadataExt, time::Duration};

use quantix_host::run;
use quantix_storage::{
    Directory, DiskFormat, Failed, VolumeId, qemu_img_ended,
    thin::{Of, SHARED, ThinPool, UNFINISHED},
};

use crate::{
    Hand, LOCAL,
    lvm::{lvm, volumes},
};

/// Whoever writes a whole disk may take so long, and is looked at so often.
const AT_LENGTH: Duration = Duration::from_secs(6 * 3600);
const LOOK: Duration = Duration::from_secs(1);

async fn has(pool: ThinPool, name: &str) -> Result<bool, Failed> {
    Ok(volumes(pool).await?.iter().any(|volume| volume.name == name))
}

/// Makes a volume: empty, or as a copy. One that is there stays as it is.
pub(crate) async fn make(
    pool: ThinPool,
    volume: VolumeId,
    bytes: u64,
    of: Option<Of>,
    hand: &Hand,
) -> Result<(), Failed> {
    let (group, name) = (pool.group(), volume.to_string());
    let (shared, size, beside) =
        (format!("{group}/{SHARED}"), format!("{bytes}b"), format!("{UNFINISHED}{volume}"));
    let there = volumes(pool).await?;
    if there.iter().any(|volume| volume.name == name) {
        return Ok(());
    }
    if there.iter().any(|volume| volume.name == beside) {
        take_away(pool, &beside).await?;
    }
    let first = if of.is_some() { &beside } else { &name };
    lvm("lvcreate", &["-y", "--type", "thin", "-V", &size, "--thinpool", &shared, "-n", first]).await?;
    let Some(of) = of else { return Ok(()) };
    match fill(pool, &beside, of, hand).await {
        Ok(()) => lvm("lvrename", &[&group, &beside, &name]).await.map(drop),
        Err(failed) => {
            take_away(pool, &beside).await?;
            Err(failed)
        }
    }
}

/// Where something is that is copied, and how it is kept.
async fn source(of: Of) -> Result<(String, &'static str), Failed> {
    let local = Directory::at(LOCAL);
    let (path, format) = match of {
        Of::Image(image) => (local.disk_image(image), "qcow2"),
        Of::File(layer) => {
            // Whoever ran its guest could write to it: what it names may be anything.
            let path = local.path(layer);
            local.look_at_foreign(&path, DiskFormat::Qcow2).await?;
            (path, "qcow2")
        }
        Of::Thin { pool, volume } => (pool.device(volume), "raw"),
    };
    Ok((path.display().to_string(), format))
}

/// Writes what is copied to a volume on which nothing is yet.
async fn fill(pool: ThinPool, name: &str, of: Of, hand: &Hand) -> Result<(), Failed> {
    let ((from, format), to) = (source(of).await?, pool.device(name).display().to_string());
    let args =
        ["convert", "-q", "-n", "--target-is-zero", "-t", "none", "-f", format, "-O", "raw", &from, &to];
    copied(&args, hand, async || {
        let there = volumes(pool).await?;
        Ok(there.iter().find(|volume| volume.name == name).map_or(0, |volume| volume.used()))
    })
    .await
}

/// Lets QEMU's tool copy for as long as somebody waits, who is told how much is written.
async fn copied<F: Future<Output = Result<u64, Failed>>>(
    args: &[&str],
    hand: &Hand,
    written: impl Fn() -> F,
) -> Result<(), Failed> {
    let mut copied = std::pin::pin!(run("qemu-img", args, AT_LENGTH));
    loop {
        tokio::select! {
            done = &mut copied => return qemu_img_ended(done),
            () = tokio::time::sleep(LOOK) => {}
        }
        if !hand.is_awaited() {
            return Err(Failed::Other("Nobody waits for it any more".to_owned()));
        }
        hand.is_at(written().await?).await;
    }
}

/// Writes out a volume that nobody has open as a file of the pool that every host has, which has no name yet.
pub(crate) async fn write_out(
    pool: ThinPool,
    volume: VolumeId,
    file: VolumeId,
    hand: &Hand,
) -> Result<(), Failed> {
    if !has(pool, &volume.to_string()).await? {
        return Err(Failed::Missing(format!("the volume {volume} is not there")));
    }
    let beside = Directory::at(LOCAL).unfinished(file);
    let (from, to) = (pool.device(volume).display().to_string(), beside.display().to_string());
    let args = ["convert", "-q", "-f", "raw", "-O", "qcow2", &from, &to];
    copied(&args, hand, async || {
        let about = tokio::fs::metadata(&beside).await;
        Ok(about.map_or(0, |about| about.blocks().saturating_mul(512)))
    })
    .await
}

/// Makes a volume that begins as another. One that is there stays as it is.
pub(crate) async fn lay(
    pool: ThinPool,
    volume: VolumeId,
    below: VolumeId,
    bytes: Option<u64>,
) -> Result<(), Failed> {
    let (name, origin) = (volume.to_string(), format!("{}/{below}", pool.group()));
    if !has(pool, &name).await? {
        // While it is made, nothing is written to the other.
        lvm("lvcreate", &["-y", "-s", "-kn", "-ay", "-n", &name, &origin]).await?;
    }
    match bytes {
        Some(bytes) => grow(pool, volume, bytes).await,
        None => Ok(()),
    }
}

/// Makes a volume bigger. One that is as big stays as it is.
pub(crate) async fn grow(pool: ThinPool, volume: VolumeId, bytes: u64) -> Result<(), Failed> {
    let (name, size) = (volume.to_string(), format!("{bytes}b"));
    let there = volumes(pool).await?;
    let Some(now) = there.iter().find(|volume| volume.name == name) else {
        return Err(Failed::Missing(format!("the volume {volume} is not there")));
    };
    if now.bytes() >= bytes {
        return Ok(());
    }
    lvm("lvextend", &["-y", "-L", &size, &format!("{}/{name}", pool.group())]).await.map(drop)
}

/// Removes a volume. One that is not there is removed.
pub(crate) async fn remove(pool: ThinPool, volume: VolumeId) -> Result<(), Failed> {
    let names = [volume.to_string(), format!("{UNFINISHED}{volume}")];
    for there in volumes(pool).await?.iter().filter(|there| names.contains(&there.name)) {
        take_away(pool, &there.name).await?;
    }
    Ok(())
}

async fn take_away(pool: ThinPool, name: &str) -> Result<(), Failed> {
    lvm("lvremove", &["-f", "-y", &format!("{}/{name}", pool.group())]).await.map(drop)
}
