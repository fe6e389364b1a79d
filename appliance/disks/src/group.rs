//! A pool as a whole: a volume group that is ours, on whole disks, with one thin pool in it that all its volumes share.

use quantix_storage::{
    Failed,
    thin::{self, Disk, Holds, Listed, SHARED, THIN_UNIT, Thin, ThinPool},
};

use crate::lvm::{disks, lvm, system, volumes};

/// What of the disks the volumes get, in per cent. With the rest the records of what lies where grow.
const SHARED_PER_CENT: u64 = 98;
/// By so much at a time.
const MORE_RECORDS: &str = "+16m";

/// Makes a pool. One that is there stays as it is.
pub(crate) async fn make(pool: ThinPool, wanted: &[String], erase: bool) -> Result<(), Failed> {
    match volumes(pool).await {
        Ok(there) if there.iter().any(|volume| volume.name == SHARED) => return Ok(()),
        // It was begun, and not brought to its end.
        Ok(_) => remove(pool).await?,
        Err(Failed::Missing(_)) => {}
        Err(failed) => return Err(failed),
    }
    let chosen = choose(&disks().await?, wanted, erase)?;
    empty(&chosen, erase).await?;
    let group = pool.group();
    // It is found when it is asked for: what other hosts' disks bring is not started with this host.
    let mut args = vec!["-y", "--setautoactivation", "n", "-s", "1m", group.as_str()];
    args.extend(chosen.iter().map(String::as_str));
    lvm("vgcreate", &args).await?;
    let share = format!("{SHARED_PER_CENT}%FREE");
    let shared = ["-y", "--type", "thin-pool", "-l", &share, "-n", SHARED, &group];
    let made = lvm("lvcreate", &shared).await;
    if made.is_err() {
        remove(pool).await?;
    }
    made.map(drop)
}

/// Takes what is on disks from them, if it may be.
async fn empty(chosen: &[String], erase: bool) -> Result<(), Failed> {
    for path in chosen.iter().filter(|_| erase) {
        system("wipefs", &["--all", "--quiet", path]).await?;
    }
    Ok(())
}

/// Makes a pool bigger by disks. What was begun is brought to its end: a disk that is the pool's own already stays so.
pub(crate) async fn add_disks(pool: ThinPool, wanted: &[String], erase: bool) -> Result<(), Failed> {
    let there = volumes(pool).await?;
    // One of which a disk is missing says so, before anything is taken from another.
    thin::pool(&there)?;
    let (all, own, group) = (disks().await?, disks_of(pool).await?, pool.group());
    let is_own = |id: &&String| all.iter().any(|disk| disk.id == **id && own.contains(&disk.path));
    let more: Vec<String> = wanted.iter().filter(|id| !is_own(id)).cloned().collect();
    if !more.is_empty() {
        let chosen = choose(&all, &more, erase)?;
        empty(&chosen, erase).await?;
        let mut args = vec!["-y", group.as_str()];
        args.extend(chosen.iter().map(String::as_str));
        lvm("vgextend", &args).await?;
    }
    let size = lvm("vgs", &["--noheadings", "--units", "b", "--nosuffix", "-o", "vg_size", &group]).await?;
    let size: u64 =
        size.trim().parse().map_err(|_| Failed::Other("The pool's size is not known".to_owned()))?;
    let wanted = size / 100 * SHARED_PER_CENT / THIN_UNIT * THIN_UNIT;
    // As much as that it has when somebody has come to this end before.
    if there.iter().any(|volume| volume.name == SHARED && volume.bytes() >= wanted) {
        return Ok(());
    }
    let (bytes, shared) = (format!("{wanted}b"), format!("{group}/{SHARED}"));
    lvm("lvextend", &["-y", "-L", &bytes, &shared]).await.map(drop)
}

/// Takes disks out of a pool that were to make it bigger. One on which there is something of it stays, and that is told.
pub(crate) async fn give_back(pool: ThinPool, wanted: &[String]) -> Result<(), Failed> {
    let all = disks().await?;
    let is_wanted = |path: &String| all.iter().any(|disk| disk.path == *path && wanted.contains(&disk.id));
    if let Some(path) = disks_that(pool, " && pv_used>0").await?.iter().find(|path| is_wanted(path)) {
        return Err(Failed::Other(format!("{path} holds something of the pool already")));
    }
    let mut paths = disks_of(pool).await?;
    paths.retain(is_wanted);
    for path in &paths {
        lvm("vgreduce", &[&pool.group(), path]).await?;
    }
    free(pool, &paths).await
}

/// Where the disks of a pool are; none where it is not.
async fn disks_of(pool: ThinPool) -> Result<Vec<String>, Failed> {
    disks_that(pool, "").await
}

/// The same, but only those for which something holds, as LVM writes it.
async fn disks_that(pool: ThinPool, holds: &str) -> Result<Vec<String>, Failed> {
    let ours = format!("vg_name={}{holds}", pool.group());
    let listed = lvm("pvs", &["--noheadings", "-o", "pv_name", "-S", &ours]).await?;
    Ok(listed.lines().map(str::trim).filter(|path| path.starts_with('/')).map(str::to_owned).collect())
}

/// Leaves disks empty that were a pool's.
async fn free(pool: ThinPool, disks: &[String]) -> Result<(), Failed> {
    if disks.is_empty() {
        return Ok(());
    }
    for disk in disks {
        lvm("pvremove", &["-y", disk]).await?;
    }
    // What is on a disk is looked up where udev has noted it, which it does some time later: it is asked to do so now.
    let mut args = vec!["trigger", "--settle", "--action=change"];
    args.extend(disks.iter().map(String::as_str));
    if let Err(failed) = system("udevadm", &args).await {
        log::warn!("Whether the disks of {pool} are seen to be empty is not known: {failed}");
    }
    Ok(())
}

/// The disks that are wanted, where they are now: all of them, and each free.
fn choose(disks: &[Disk], wanted: &[String], erase: bool) -> Result<Vec<String>, Failed> {
    if wanted.is_empty() {
        return Err(Failed::Other("A pool needs a disk".to_owned()));
    }
    let mut chosen: Vec<String> = Vec::new();
    for id in wanted {
        let disk = disks.iter().find(|disk| disk.id == *id);
        let disk = disk.ok_or_else(|| Failed::Missing(format!("the host has no disk {id}")))?;
        match &disk.holds {
            Holds::Nothing => {}
            Holds::Something(_) if erase => {}
            Holds::Something(what) => {
                let sentence = format!("There is something on {id}: {what}. Say that it may be erased");
                return Err(Failed::Other(sentence));
            }
            Holds::InUse(why) => {
                return Err(Failed::Other(format!("The disk {id} cannot be taken: {why}")));
            }
        }
        if chosen.contains(&disk.path) {
            return Err(Failed::Other(format!("The disk {id} is named twice")));
        }
        chosen.push(disk.path.clone());
    }
    Ok(chosen)
}

/// Removes a pool with all that is in it, and leaves its disks empty.
pub(crate) async fn remove(pool: ThinPool) -> Result<(), Failed> {
    let disks = disks_of(pool).await?;
    if !disks.is_empty() {
        lvm("vgremove", &["-f", "-y", &pool.group()]).await?;
    }
    free(pool, &disks).await
}

/// How a pool is. One that was not in use yet is from now on.
pub(crate) async fn look(pool: ThinPool) -> Result<Thin, Failed> {
    let mut there = volumes(pool).await?;
    if there.iter().any(|volume| !volume.is_active()) {
        lvm("vgchange", &["-ay", &pool.group()]).await?;
        there = volumes(pool).await?;
    }
    if there.iter().any(Listed::is_stuck) {
        log::warn!("What was being done in {pool} was cut off: its volumes go on");
        lvm("vgchange", &["--refresh", &pool.group()]).await?;
    }
    if there.iter().any(|volume| volume.name == SHARED && volume.is_short_of_records()) {
        let shared = format!("{}/{SHARED}", pool.group());
        // There may be no more for them: then the pool is filling up, and people are told of that.
        if let Err(failed) = lvm("lvextend", &["--poolmetadatasize", MORE_RECORDS, &shared]).await {
            log::warn!("The records of {pool} cannot grow: {failed}");
        }
    }
    thin::pool(&there)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disk(id: &str, holds: Holds) -> Disk {
        Disk {
            id: id.to_owned(),
            path: format!("/dev/{id}"),
            bytes: 1 << 40,
            model: String::new(),
            serial: String::new(),
            is_rotating: false,
            holds,
        }
    }

    #[test]
    fn only_disks_that_nobody_uses_become_a_pool() {
        let disks = [
            disk("a", Holds::Nothing),
            disk("b", Holds::Something("One partition".to_owned())),
            disk("c", Holds::InUse("It is mounted at /var".to_owned())),
        ];
        let choose = |wanted: &[&str], erase| {
            let wanted: Vec<_> = wanted.iter().map(|&id| id.to_owned()).collect();
            choose(&disks, &wanted, erase).map_err(|failed| failed.to_string())
        };
        assert_eq!(choose(&["a"], false).unwrap(), ["/dev/a"]);
        assert_eq!(choose(&["a", "b"], true).unwrap(), ["/dev/a", "/dev/b"]);
        assert!(choose(&["b"], false).unwrap_err().contains("One partition"));
        for erase in [false, true] {
            assert!(choose(&["a", "c"], erase).unwrap_err().contains("mounted at /var"));
            assert!(choose(&["d"], erase).unwrap_err().contains("no disk d"));
            assert!(choose(&["a", "a"], erase).unwrap_err().contains("twice"));
            assert!(choose(&[], erase).is_err());
            assert!(choose(&["/dev/a"], erase).is_err());
        }
    }
}
