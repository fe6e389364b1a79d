//! The header of QEMU's own format, as far as it decides on whether a file is taken.

use super::content::{LARGEST, Unfit, at, unfit};

/// Bits of what whoever opens a file must know: that it was not closed, how it is packed, and finer tables. That it is spoilt
/// and that its data lie in another file are not among them.
const TAKEN: u64 = 1 | 1 << 3 | 1 << 4;
const IS_SPOILT: u64 = 1 << 1;
const HAS_DATA_FILE: u64 = 1 << 2;
const DATA_FILE: u32 = 0x4441_5441;
const BACKING_FORMAT: u32 = 0xe279_2aca;
const ENCRYPTION: u32 = 0x0537_be77;
/// More extensions than anybody writes.
const MOST_EXTENSIONS: usize = 32;

/// Whether a file that begins so stands by itself.
pub(crate) fn check(head: &[u8]) -> Result<(), Unfit> {
    check_as(head, false)
}

/// The same of one that may lie on another, which is looked at besides.
pub(crate) fn check_layer(head: &[u8]) -> Result<(), Unfit> {
    check_as(head, true)
}

fn check_as(head: &[u8], may_lie: bool) -> Result<(), Unfit> {
    let Some(header) = Header::read(head) else {
        return unfit("This qcow2 is cut off within its header.");
    };
    header.check(may_lie)?;
    match header.version {
        2 => Ok(()),
        _ => check_extensions(head, header.length, may_lie),
    }
}

struct Header {
    version: u32,
    backing_file: u64,
    cluster_bits: u32,
    size: u64,
    encryption: u32,
    snapshots: u32,
    incompatible: u64,
    length: usize,
}

impl Header {
    fn read(head: &[u8]) -> Option<Self> {
        let long = |place| at(head, place).map(u64::from_be_bytes);
        let short = |place| at(head, place).map(u32::from_be_bytes);
        let version = short(4)?;
        let (incompatible, length) = match version {
            0..=2 => (0, 72),
            _ => (long(72)?, usize::try_from(short(100)?).ok()?),
        };
        Some(Self {
            version,
            backing_file: long(8)?,
            cluster_bits: short(20)?,
            size: long(24)?,
            encryption: short(32)?,
            snapshots: short(60)?,
            incompatible,
            length,
        })
    }

    fn check(&self, may_lie: bool) -> Result<(), Unfit> {
        if !(2..=3).contains(&self.version) {
            return unfit(format!("This is qcow2 of version {}, which nobody here knows.", self.version));
        }
        if self.backing_file != 0 && !may_lie {
            return unfit(
                "This qcow2 holds only what differs from another file, which it names. It could be a file of the host. Write it out whole first: qemu-img convert -O qcow2.",
            );
        }
        if self.incompatible & HAS_DATA_FILE != 0 {
            return unfit(
                "This qcow2 names another file that has its data. It could be a file of the host. Write it out whole first: qemu-img convert -O qcow2.",
            );
        }
        if self.encryption != 0 {
            return unfit("This qcow2 is encrypted. Decrypt it first: nobody here has its key.");
        }
        if self.incompatible & IS_SPOILT != 0 {
            return unfit("This qcow2 says of itself that it is spoilt. See what qemu-img check says of it.");
        }
        if self.incompatible & !TAKEN != 0 {
            return unfit("This qcow2 has a feature that nobody here knows.");
        }
        if self.snapshots != 0 {
            return unfit(
                "This qcow2 has snapshots in it. Write it out without them: qemu-img convert -O qcow2.",
            );
        }
        if !(9..=21).contains(&self.cluster_bits) || self.size == 0 || self.size > LARGEST {
            return unfit("The header of this qcow2 says what cannot be.");
        }
        Ok(())
    }
}

fn check_extensions(head: &[u8], begin: usize, may_lie: bool) -> Result<(), Unfit> {
    let cannot_be = || unfit("The header of this qcow2 says what cannot be.");
    if begin < 104 || !begin.is_multiple_of(8) {
        return cannot_be();
    }
    let mut place = begin;
    for _ in 0..MOST_EXTENSIONS {
        let kind = at(head, place).map(u32::from_be_bytes);
        let length = at(head, place.saturating_add(4)).map(u32::from_be_bytes);
        let (Some(kind), Some(length)) = (kind, length) else { return cannot_be() };
        match kind {
            0 => return Ok(()),
            BACKING_FORMAT if may_lie => {}
            DATA_FILE | BACKING_FORMAT => {
                return unfit("This qcow2 names another file, which could be a file of the host.");
            }
            ENCRYPTION => {
                return unfit("This qcow2 is encrypted. Decrypt it first: nobody here has its key.");
            }
            _ => {}
        }
        let Ok(length) = usize::try_from(length) else { return cannot_be() };
        let Some(next) = length.checked_next_multiple_of(8).and_then(|length| place.checked_add(8 + length))
        else {
            return cannot_be();
        };
        place = next;
    }
    cannot_be()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A header as QEMU writes it.
    fn usual() -> Vec<u8> {
        let mut head = vec![0; 512];
        head[..4].copy_from_slice(b"QFI\xfb");
        head[7] = 3;
        head[23] = 16;
        head[24..32].copy_from_slice(&(1_u64 << 30).to_be_bytes());
        head[103] = 112;
        head
    }

    fn said(changes: &[(usize, &[u8])]) -> String {
        let mut head = usual();
        for (place, bytes) in changes {
            head[*place..place + bytes.len()].copy_from_slice(bytes);
        }
        check(&head).map_or_else(|unfit| unfit.0, |()| String::new())
    }

    #[test]
    fn only_what_stands_by_itself_is_taken() {
        assert_eq!(said(&[]), "");
        assert_eq!(said(&[(7, &[2]), (72, &[0xff; 8])]), "");
        assert_eq!(said(&[(79, &[0b1_1001])]), "");
        for (changes, why) in [
            (&[(15, &[1_u8][..])][..], "differs from another file"),
            (&[(79, &[4])], "another file that has its data"),
            (&[(35, &[2])], "encrypted"),
            (&[(79, &[2])], "spoilt"),
            (&[(72, &[0x80])], "a feature"),
            (&[(63, &[1])], "snapshots"),
            (&[(7, &[4])], "version 4"),
            (&[(23, &[63])], "cannot be"),
            (&[(24, &[0xff])], "cannot be"),
            (&[(24, &[0; 8])], "cannot be"),
            (&[(103, &[8])], "cannot be"),
            (&[(112, b"DATA\0\0\0\x04")], "names another file"),
            (&[(112, &[0xe2, 0x79, 0x2a, 0xca])], "names another file"),
            (&[(112, &[0x05, 0x37, 0xbe, 0x77])], "encrypted"),
            // An extension that reaches over what is read, and one behind another.
            (&[(112, &[1, 1, 1, 1, 0xff, 0xff, 0xff, 0xff])], "cannot be"),
            (&[(112, &[1, 1, 1, 1, 0, 0, 0, 3]), (128, b"DATA")], "names another file"),
        ] {
            assert!(said(changes).contains(why), "{changes:?}: {}", said(changes));
        }
        for length in [4, 40, 103, 112, 118] {
            assert!(check(&usual()[..length]).is_err(), "{length}");
        }
    }
}
