//! The header of VMware's disks in one file, as far as it decides on whether one is taken.

use super::content::{LARGEST, Unfit, at, unfit};

const SECTOR: u64 = 512;

/// Whether a file that begins so stands by itself.
pub(super) fn check(head: &[u8]) -> Result<(), Unfit> {
    let long = |place| at(head, place).map(u64::from_le_bytes);
    let (Some(capacity), Some(begin), Some(sectors)) = (long(12), long(28), long(36)) else {
        return unfit("This VMDK is cut off within its header.");
    };
    // Without a size of its own it is only a description of other files.
    if capacity == 0 || capacity > LARGEST / SECTOR {
        return unfit(
            "This VMDK only describes a disk that lies in other files. Export the disk as one file.",
        );
    }
    let description = (|| {
        let begin = usize::try_from(begin.checked_mul(SECTOR)?).ok().filter(|begin| *begin > 0)?;
        let length = usize::try_from(sectors.checked_mul(SECTOR)?).ok()?;
        head.get(begin..begin.checked_add(length)?)
    })();
    let Some(description) = description else {
        return unfit("This VMDK does not say at its begin what it is. Export the disk anew.");
    };
    let text = description.split(|byte| *byte == 0).next().unwrap_or_default();
    let text = String::from_utf8_lossy(text);
    // Whichever is read by whom: none may name a parent.
    let parents = text.lines().filter_map(|line| value(line, "parentCID"));
    if text.contains("parentFileNameHint") || !parents.eq(["ffffffff"]) {
        return unfit(
            "This VMDK holds only what differs from another file. Consolidate its snapshots first.",
        );
    }
    let kinds: Vec<_> = text.lines().filter_map(|line| value(line, "createType")).collect();
    match kinds[..] {
        ["\"monolithicSparse\"" | "\"streamOptimized\""] => Ok(()),
        _ => unfit("This VMDK consists of several files. Export the disk as one file."),
    }
}

fn value<'a>(line: &'a str, name: &str) -> Option<&'a str> {
    let (key, value) = line.split_once('=')?;
    (key.trim() == name).then_some(value.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(capacity: u64, text: &str) -> String {
        let mut head = vec![0; 2048];
        head[..4].copy_from_slice(b"KDMV");
        head[12..20].copy_from_slice(&capacity.to_le_bytes());
        head[28] = 1;
        head[36] = 2;
        head[512..512 + text.len()].copy_from_slice(text.as_bytes());
        check(&head).map_or_else(|unfit| unfit.0, |()| String::new())
    }

    #[test]
    fn only_what_stands_by_itself_is_taken() {
        let whole = "# Disk DescriptorFile\nCID=1\nparentCID=ffffffff\ncreateType=\"streamOptimized\"\n";
        assert_eq!(said(1 << 20, whole), "");
        assert!(said(0, whole).contains("lies in other files"));
        for (from, to, why) in [
            ("ffffffff", "12345678", "differs"),
            ("CID=1", "parentFileNameHint=\"/etc/shadow\"", "differs"),
            ("CID=1", "parentCID = 1", "differs"),
            ("streamOptimized", "monolithicFlat", "several files"),
            ("createType", "type", "several files"),
        ] {
            assert!(said(1 << 20, &whole.replacen(from, to, 1)).contains(why), "{to}");
        }
        let mut far = vec![0; 100];
        far[..4].copy_from_slice(b"KDMV");
        far[12] = 1;
        far[28..36].copy_from_slice(&u64::MAX.to_le_bytes());
        assert!(check(&far).is_err());
        assert!(check(&far[..20]).is_err());
    }
}
