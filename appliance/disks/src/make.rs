//! The volumes of a pool. Whatever is begun here may be begun again: a volume has its name only when it is whole.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use quantix_host::run;
use quantix_storage::{
    Failed, VolumeId, qemu_img_ended,
    thin::{SHARED, ThinPool, UNFINISHED},
};

use crate::{
    Hand,
    lvm::{lvm, volumes},
};

/// Whoever writes a whole disk may take so long, and is looked at so often.
const AT_LENGTH: Duration = Duration::from_secs(6 * 3600);
const LOOK: Duration = Duration::from_secs(1);

async fn has(pool: ThinPool, name: &str) -> Result<bool, Failed> {
    Ok(volumes(pool).await?.iter().any(|volume| volume.name == name))
}

/// Makes a volume: empty, or as a copy of an image. One that is there stays as it is.
pub(crate) async fn make(
    pool: ThinPool,
    volume: VolumeId,
    bytes: u64,
    image: Option<PathBuf>,
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
    let first = if image.is_some() { &beside } else { &name };
    lvm("lvcreate", &["-y", "--type", "thin", "-V", &size, "--thinpool", &shared, "-n", first]).await?;
    let Some(image) = image else { return Ok(()) };
    match fill(pool, &beside, &image, hand).await {
        Ok(()) => lvm("lvrename", &[&group, &beside, &name]).await.map(drop),
        Err(failed) => {
            take_away(pool, &beside).await?;
            Err(failed)
        }
    }
}

/// Writes an image to a volume on which nothing is yet.
async fn fill(pool: ThinPool, name: &str, image: &Path, hand: &Hand) -> Result<(), Failed> {
    let (from, to) = (image.display().to_string(), pool.device(name).display().to_string());
    let args =
        ["convert", "-q", "-n", "--target-is-zero", "-t", "none", "-f", "qcow2", "-O", "raw", &from, &to];
    let mut written = std::pin::pin!(run("qemu-img", &args, AT_LENGTH));
    loop {
        tokio::select! {
            done = &mut written => return qemu_img_ended(done),
            () = tokio::time::sleep(LOOK) => {}
        }
        if !hand.is_awaited() {
            return Err(Failed::Other("Nobody waits for it any more".to_owned()));
        }
        if let Some(volume) = volumes(pool).await?.iter().find(|volume| volume.name == name) {
            hand.is_at(volume.used()).await;
        }
    }
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
