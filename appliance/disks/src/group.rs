//! A pool as a whole: a volume group that is ours, on whole disks, with one thin pool in it that all its volumes share.

use quantix_storage::{
    Failed,
    thin::{self, Disk, Holds, Listed, SHARED, Thin, ThinPool},
};

use crate::lvm::{disks, lvm, system, volumes};

/// What of the disks the volumes get at first. With the rest the records of what lies where grow.
const SHARE: &str = "98%FREE";
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
    for path in chosen.iter().filter(|_| erase) {
        system("wipefs", &["--all", "--quiet", path]).await?;
    }
    let group = pool.group();
    // It is found when it is asked for: what other hosts' disks bring is not started with this host.
    let mut args = vec!["-y", "--setautoactivation", "n", "-s", "1m", group.as_str()];
    args.extend(chosen.iter().map(String::as_str));
    lvm("vgcreate", &args).await?;
    let shared = ["-y", "--type", "thin-pool", "-l", SHARE, "-n", SHARED, &group];
    let made = lvm("lvcreate", &shared).await;
    if made.is_err() {
        remove(pool).await?;
    }
    made.map(drop)
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
    let group = pool.group();
    let ours = format!("vg_name={group}");
    let listed = lvm("pvs", &["--noheadings", "-o", "pv_name", "-S", &ours]).await?;
    let disks: Vec<_> = listed.lines().map(str::trim).filter(|path| path.starts_with('/')).collect();
    if disks.is_empty() {
        return Ok(());
    }
    lvm("vgremove", &["-f", "-y", &group]).await?;
    for disk in &disks {
        lvm("pvremove", &["-y", disk]).await?;
    }
    // What is on a disk is looked up where udev has noted it, which it does some time later: it is asked to do so now.
    let mut args = vec!["trigger", "--settle", "--action=change"];
    args.extend(&disks);
    if let Err(failed) = system("udevadm", &args).await {
        log::warn!("Whether the disks of {pool} are seen to be empty is not known: {failed}");
    }
    Ok(())
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
