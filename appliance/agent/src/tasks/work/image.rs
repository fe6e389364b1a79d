//! What is done with images on their host.

use quantix_api::VmDraft;
use quantix_compute::{MOST_DISKS, read_ovf};
use quantix_storage::{Appliance, Came, Directory, Further, Sums, VolumeId};
use serde_json::Value;
use subtle::ConstantTimeEq;

use super::{
    Work, fetch,
    volume::{going, tell},
};
use crate::{
    storage::{
        asked::Asked,
        images::{self, Facts, Machine},
        pools,
    },
    tasks::runner::{Did, Hand},
};

fn text<'a>(work: &'a Work, name: &str) -> Option<&'a str> {
    work.task.params.get(name).and_then(Value::as_str)
}

/// The image that a task is about, and its pool.
pub(super) fn own(work: &Work) -> Result<(VolumeId, &str), String> {
    let id = work.task.object.strip_prefix("image/").and_then(|id| id.parse().ok());
    id.zip(text(work, "pool")).ok_or_else(|| "The task names no image.".to_owned())
}

/// What was done, or that it was stopped.
fn done<T>(done: Result<T, quantix_storage::Failed>, hand: &Hand) -> Result<Option<T>, String> {
    match done {
        Ok(done) => Ok(Some(done)),
        Err(_) if hand.is_to_end() => Ok(None),
        Err(failed) => Err(failed.to_string()),
    }
}

/// Checks the sum of its file.
pub(super) async fn check_sum(work: &Work, hand: &Hand) -> Result<Did, String> {
    let (id, pool) = own(work)?;
    if let Some(path) = text(work, "lies_at") {
        // It lies in the pool already.
        let taken = work.agent.directory(pool).take_file(path, id).await;
        taken.map_err(|failed| failed.to_string())?;
    }
    let wanted = match fetch::wanted(work) {
        Some(wanted) => fetch::checksum(&wanted).await?,
        None => text(work, "sha256").map(str::to_owned),
    };
    let length = work.task.params.get("length").and_then(Value::as_u64);
    if let Some(length) = length.filter(|length| *length > 0) {
        let come = work.agent.directory(pool).arrived(id).await.map_err(|failed| failed.to_string())?;
        if come < length {
            return Err(format!("Only {come} of {length} bytes have come. Bring the file once more."));
        }
    }
    let further = wanted.as_deref().and_then(Further::for_sum);
    let sums = work.agent.directory(pool).sum(id, further, going(hand)).await;
    let Some(Sums { sha256, further }) = done(sums, hand)? else { return Ok(Did::Stopped) };
    let (name, sum) = further.as_ref().map_or(("SHA-256", &sha256), |sum| ("SHA-512", sum));
    if let Some(wanted) = wanted
        && !bool::from(wanted.as_bytes().ct_eq(sum.as_bytes()))
    {
        return Err(format!(
            "The file is not the one that was meant, and was removed: its {name} is {sum}, and not {wanted}."
        ));
    }
    tell(&work.agent, Asked::ImageHasSum { image: id.to_string(), sum: sha256 }).await?;
    Ok(Did::Done)
}

/// How many bytes its pool still takes.
pub(super) async fn most(work: &Work, dir: &Directory) -> Result<u64, String> {
    let (_, pool) = own(work)?;
    let name = pool.to_owned();
    let kept = work.agent.cluster.read(move |connection| Ok(pools::one(connection, &name).ok())).await;
    let limit = kept.map_err(|problem| problem.detail)?.map_or(0, |pool| pool.limit);
    let room = dir.room().await.map_err(|failed| failed.to_string())?;
    Ok((room.capacity / 100).saturating_mul(limit.into()).saturating_sub(room.used))
}

/// Looks at what it is, and writes it as it is kept.
pub(super) async fn keep(work: &Work, hand: &Hand) -> Result<Did, String> {
    let (id, pool) = own(work)?;
    let dir = work.agent.directory(pool);
    let most = most(work, &dir).await?;
    let Some(came) = done(dir.came(id, most, going(hand)).await, hand)? else { return Ok(Did::Stopped) };
    let kept = match came {
        Some(Came::Archive(file)) => {
            let came = dir.appliance(file).await.map_err(|failed| failed.to_string())?;
            return keep_machine(work, &dir, &came, most, hand).await;
        }
        Some(Came::Disk(file, format)) => dir.keep_disk(id, &file, format, most, going(hand)).await,
        Some(Came::Cd(file)) => dir.keep_cd(id, file).await,
        None => dir.kept_before(id).await,
    };
    let Some(kept) = done(kept, hand)? else { return Ok(Did::Stopped) };
    let ready = Asked::ImageIsReady { image: id.to_string(), facts: kept.into(), machine: None };
    tell(&work.agent, ready).await?;
    work.agent.pools_changed.notify_one();
    Ok(Did::Done)
}

/// Writes each disk of a machine that came as one file as an image of its own, and notes what the machine was.
async fn keep_machine(
    work: &Work,
    dir: &Directory,
    came: &Appliance,
    most: u64,
    hand: &Hand,
) -> Result<Did, String> {
    let (id, _) = own(work)?;
    let machine = read_ovf(&came.ovf).map_err(|unfit| format!("{unfit}."))?;
    let mut kept: Vec<(String, Facts)> = Vec::new();
    for (number, file) in (0_u8..).zip(&machine.files) {
        let member = came.members.iter().find(|member| member.name == *file);
        let member = member
            .ok_or_else(|| format!("The description names the disk {file}, which is not in the OVA."))?;
        let image = id.beside(number);
        let made = dir.keep_member(image, &came.file, member, most, going(hand)).await;
        let Some(made) = done(made, hand)? else { return Ok(Did::Stopped) };
        kept.push((image.to_string(), made.into()));
    }
    let disks = kept.iter().map(|(image, _)| image.clone()).collect();
    let draft = VmDraft { disks, ..machine.draft };
    let (image, facts) = kept.remove(0);
    let machine = Some(Machine { draft, others: kept });
    tell(&work.agent, Asked::ImageIsReady { image, facts, machine }).await?;
    dir.forget_arrived(id).await.map_err(|failed| failed.to_string())?;
    work.agent.pools_changed.notify_one();
    Ok(Did::Done)
}

/// Nothing of it stays that could not be made: the file would have to come anew in any case.
pub(super) async fn undo(work: &Work) {
    if let Ok((id, pool)) = own(work) {
        // Of a machine with several disks some may have been written.
        for number in 1..=MOST_DISKS as u8 {
            drop(work.agent.directory(pool).remove_image(id.beside(number)).await);
        }
    }
    for done in [remove(work).await, forget(work).await] {
        if let Err(why) = done {
            log::warn!("What there is of the image {} could not be removed: {why}", work.task.object_name);
        }
    }
}

/// Removes it from its pool.
pub(super) async fn remove(work: &Work) -> Result<Did, String> {
    let (id, pool) = own(work)?;
    let known = work.task.object.trim_start_matches("image/").to_owned();
    let known = work.agent.cluster.read(move |connection| images::find(connection, &known)).await;
    let known = known.map_err(|problem| problem.detail)?;
    let me = work.agent.cluster.store().map_err(|problem| problem.detail)?.id();
    // What was on a host that is gone is nowhere any more.
    if known.is_none_or(|image| image.host == me) {
        work.agent.directory(pool).remove_image(id).await.map_err(|failed| failed.to_string())?;
    }
    Ok(Did::Done)
}

/// Forgets it.
pub(super) async fn forget(work: &Work) -> Result<Did, String> {
    let (id, _) = own(work)?;
    tell(&work.agent, Asked::ForgetImage { image: id.to_string() }).await?;
    work.agent.pools_changed.notify_one();
    Ok(Did::Done)
}
