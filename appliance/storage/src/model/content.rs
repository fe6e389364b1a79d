//! What a file is, from what is in it: a disk, a CD, something packed, or nothing that anybody here opens.
//!
//! Files come from anywhere. Nothing is given to QEMU before it was looked at here: a disk's file may name other files, and
//! QEMU would read those of the host.

use super::{qcow2, vmdk};

/// So much of a file's begin is looked at.
pub const HEAD: usize = 64 * 1024;
/// The biggest disk there is.
pub(crate) const LARGEST: u64 = 64 << 40;
const SECTOR: u64 = 512;

/// What a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// A disk.
    Disk(DiskFormat),
    /// A CD or a DVD, with the label that is on it.
    Iso,
    /// Files put together; an OVA, if they are a machine.
    Archive,
    /// Something packed: what it is shows when it is unpacked.
    Packed(Packing),
}

/// How a disk is kept in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiskFormat {
    /// Sector by sector.
    Raw,
    /// QEMU's.
    Qcow2,
    /// VMware's, in one file.
    Vmdk,
    /// Hyper-V's.
    Vhdx,
    /// Virtual PC's.
    Vhd,
}

impl DiskFormat {
    /// Its name for people.
    pub fn name(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Qcow2 => "qcow2",
            Self::Vmdk => "vmdk",
            Self::Vhdx => "vhdx",
            Self::Vhd => "vhd",
        }
    }

    /// Its name for QEMU.
    pub(crate) fn driver(self) -> &'static str {
        match self {
            Self::Vhd => "vpc",
            other => other.name(),
        }
    }
}

/// How something is packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packing {
    /// gzip.
    Gzip,
    /// xz.
    Xz,
    /// Zstandard.
    Zstd,
    /// bzip2.
    Bzip2,
}

/// Why a file is not taken; a sentence for whoever brought it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Unfit(pub(crate) String);

pub(super) fn unfit<T>(sentence: impl Into<String>) -> Result<T, Unfit> {
    Err(Unfit(sentence.into()))
}

/// Some bytes at a place, if they are there.
pub(super) fn at<const N: usize>(bytes: &[u8], place: usize) -> Option<[u8; N]> {
    bytes.get(place..place.checked_add(N)?)?.try_into().ok()
}

/// What a file is. `head` is its begin, up to [`HEAD`] bytes of it, `tail` its last sector, and `length` how long it is.
pub fn recognise(head: &[u8], tail: &[u8], length: u64) -> Result<Content, Unfit> {
    let begins = |magic: &[u8]| head.starts_with(magic);
    if length == 0 {
        return unfit("The file is empty.");
    }
    if begins(b"QFI\xfb") {
        return qcow2::check(head).map(|()| Content::Disk(DiskFormat::Qcow2));
    }
    if begins(b"KDMV") {
        return vmdk::check(head).map(|()| Content::Disk(DiskFormat::Vmdk));
    }
    if begins(b"# Disk DescriptorFile") || begins(b"COWD") {
        return unfit(
            "This VMDK only describes a disk that lies in other files. Export the machine as an OVA, or its disk as one file.",
        );
    }
    if begins(b"vhdxfile") {
        return Ok(Content::Disk(DiskFormat::Vhdx));
    }
    if let Some(found) = vhd(head).or_else(|| vhd(tail)) {
        return found.map(|()| Content::Disk(DiskFormat::Vhd));
    }
    let packings: [(&[u8], Packing); 3] = [
        (b"\x1f\x8b\x08", Packing::Gzip),
        (b"\xfd7zXZ\0", Packing::Xz),
        (b"\x28\xb5\x2f\xfd", Packing::Zstd),
    ];
    if let Some((_, packing)) = packings.into_iter().find(|(magic, _)| begins(magic)) {
        return Ok(Content::Packed(packing));
    }
    if begins(b"BZh") && head.get(4..10) == Some(b"1AY&SY") {
        return Ok(Content::Packed(Packing::Bzip2));
    }
    if at(head, 257) == Some(*b"ustar") {
        return Ok(Content::Archive);
    }
    if begins(b"PK\x03\x04") || begins(b"7z\xbc\xaf\x27\x1c") {
        return unfit("This is an archive, not a disk or a CD. Unpack it, and give what is in it.");
    }
    // What lies behind the first sixteen sectors of a CD. One that starts from a USB stick too looks like a disk as well.
    if at(head, 0x8001) == Some(*b"CD001") || at(head, 0x8001) == Some(*b"BEA01") {
        return Ok(Content::Iso);
    }
    let has_boot_sector = at(head, 510) == Some([0x55, 0xaa]);
    let has_table = at(head, 512) == Some(*b"EFI PART") || at(head, 4096) == Some(*b"EFI PART");
    let has_file_system =
        at(head, 0x438) == Some([0x53, 0xef]) || begins(b"XFSB") || at(head, 0x10040) == Some(*b"_BHRfS_M");
    if !(has_boot_sector || has_table || has_file_system) {
        return unfit(
            "This is neither a disk (qcow2, raw, vmdk, vhdx, vhd) nor a CD (iso), packed or not: nothing in it is known here.",
        );
    }
    if !length.is_multiple_of(SECTOR) || length > LARGEST {
        return unfit(
            "It looks like a disk, but does not consist of whole sectors. It may have been cut off.",
        );
    }
    Ok(Content::Disk(DiskFormat::Raw))
}

fn vhd(footer: &[u8]) -> Option<Result<(), Unfit>> {
    if !footer.starts_with(b"conectix") {
        return None;
    }
    Some(match at(footer, 60).map(u32::from_be_bytes) {
        Some(2 | 3) => Ok(()),
        _ => unfit("This VHD holds only what differs from another one. Merge it with that first."),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(bytes: &[u8]) -> Result<Content, String> {
        let head = &bytes[..bytes.len().min(HEAD)];
        recognise(head, &bytes[bytes.len().saturating_sub(512)..], bytes.len() as u64)
            .map_err(|unfit| unfit.0)
    }

    fn with(length: usize, parts: &[(usize, &[u8])]) -> Vec<u8> {
        let mut bytes = vec![0; length];
        for (at, part) in parts {
            bytes[*at..at + part.len()].copy_from_slice(part);
        }
        bytes
    }

    #[test]
    fn a_file_is_what_is_in_it() {
        let boot: (usize, &[u8]) = (510, b"\x55\xaa");
        let raw = Ok(Content::Disk(DiskFormat::Raw));
        assert_eq!(kind(&with(1024, &[boot])), raw);
        assert_eq!(kind(&with(1024, &[(512, b"EFI PART")])), raw);
        assert_eq!(kind(&with(2048, &[(0x438, &[0x53, 0xef])])), raw);
        assert_eq!(kind(&with(40_000, &[boot, (0x8001, b"CD001")])), Ok(Content::Iso));
        assert_eq!(kind(&with(600, &[(0, b"vhdxfile")])), Ok(Content::Disk(DiskFormat::Vhdx)));
        let fixed = with(1536, &[(1024, b"conectix"), (1024 + 60, &[0, 0, 0, 2])]);
        assert_eq!(kind(&fixed), Ok(Content::Disk(DiskFormat::Vhd)));
        for (magic, packing) in [
            (&b"\x1f\x8b\x08"[..], Packing::Gzip),
            (b"\xfd7zXZ\0", Packing::Xz),
            (b"\x28\xb5\x2f\xfd", Packing::Zstd),
            (b"BZh91AY&SY", Packing::Bzip2),
        ] {
            assert_eq!(kind(&with(64, &[(0, magic)])), Ok(Content::Packed(packing)));
        }
    }

    #[test]
    fn what_nobody_opens_is_refused() {
        let refused = |bytes: &[u8], why: &str| {
            let said = kind(bytes).unwrap_err();
            assert!(said.contains(why), "{said}");
        };
        refused(b"", "empty");
        refused(b"#!/bin/sh\nrm -rf /\n", "neither");
        refused(&[0; 4096], "neither");
        refused(&with(512, &[(0, b"PK\x03\x04")]), "archive");
        assert_eq!(kind(&with(512, &[(257, b"ustar")])), Ok(Content::Archive));
        refused(b"# Disk DescriptorFile\nRW 1 FLAT \"/etc/shadow\" 0\n", "other files");
        refused(&with(1025, &[(510, b"\x55\xaa")]), "whole sectors");
        refused(&with(1024, &[(0, b"conectix"), (60, &[0, 0, 0, 4])]), "differs from another");
        refused(&with(512, &[(0, b"conectix")])[..40], "differs from another");
    }
}
