//! Disks of machines under test, and looking into them: overlays, the partition table, flipped bytes.

use std::{
    fs::File,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use gpt::{GptConfig, disk::LogicalBlockSize};

use crate::{OrFail, fail, spawn::tool};

/// Makes a qcow2 disk on top of another, which stays as it is.
#[track_caller]
pub fn overlay(disk: &Path, backing: &Path, format: &str, gib: Option<u64>) {
    let size = gib.map(|gib| format!("{gib}G"));
    let (disk, backing) = (path(disk), path(backing));
    let mut arguments = vec!["qemu-img", "create", "-q", "-f", "qcow2", "-F", format, "-b", &backing, &disk];
    arguments.extend(size.as_deref());
    tool(&arguments);
}

/// Makes a qcow2 disk that the image was written to, bigger than the image and independent of it.
#[track_caller]
pub fn copy(disk: &Path, image: &Path, gib: u64) {
    let (disk, image, size) = (path(disk), path(image), format!("{gib}G"));
    tool(&["qemu-img", "convert", "-f", "raw", "-O", "qcow2", &image, &disk]);
    tool(&["qemu-img", "resize", "-q", "-f", "qcow2", &disk, &size]);
}

/// A partition of the image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Partition {
    /// Its label.
    pub label: String,
    /// The type's identifier.
    pub kind: String,
    /// Where it begins, in bytes.
    pub offset: u64,
    /// How long it is, in bytes.
    pub length: u64,
}

/// Type of a verified root for x86-64.
pub const ROOT: &str = "4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709";
/// Type of the hash tree that belongs to it.
pub const ROOT_VERITY: &str = "2C7357ED-EBD2-46D9-AEC1-23D437EC2BF5";
/// Type of the EFI system partition.
pub const ESP: &str = "C12A7328-F81F-11D2-BA4B-00A0C93EC93B";

/// The partitions of a raw image, in the order of the table.
#[track_caller]
pub fn partitions(image: &Path) -> Vec<Partition> {
    let block = LogicalBlockSize::Lb512;
    let disk = GptConfig::new()
        .writable(false)
        .logical_block_size(block)
        .open(image)
        .or_fail(format!("Reading the partition table of {}", image.display()));
    disk.partitions()
        .values()
        .filter(|entry| entry.is_used())
        .map(|entry| Partition {
            label: entry.name.clone(),
            kind: entry.part_type_guid.guid.to_string().to_uppercase(),
            offset: entry.bytes_start(block).or_fail("Reading a partition's start"),
            length: entry.bytes_len(block).or_fail("Reading a partition's length"),
        })
        .collect()
}

/// The first partition of a type.
#[track_caller]
pub fn partition(image: &Path, kind: &str) -> Partition {
    partitions(image)
        .into_iter()
        .find(|partition| partition.kind == kind)
        .or_fail(format!("The image has no partition of type {kind}."))
}

/// Where the bytes of a file of the root file system lie, counted from the start of the disk: the middle of the
/// first piece that is stored on its own.
#[track_caller]
pub fn byte_of_file(image: &Path, file: &str) -> u64 {
    let root = partition(image, ROOT);
    let (image, offset) = (path(image), format!("--offset={}", root.offset));
    let table = tool(&["dump.erofs", &offset, &format!("--path={file}"), "-e", &image]);
    let (start, length) = table.lines().find_map(extent).or_fail(format!("No extent of {file} in:\n{table}"));
    root.offset + start + length / 2
}

/// Reads `0:        0..    4739 |    4739 :   61263872..  61267968 |    4096`.
fn extent(line: &str) -> Option<(u64, u64)> {
    let (_, physical) = line.split_once('|')?.1.split_once(':')?;
    let (start, end) = physical.split_once('|')?.0.trim().split_once("..")?;
    let (start, end): (u64, u64) = (start.trim().parse().ok()?, end.trim().parse().ok()?);
    (end > start).then(|| (start, end - start))
}

/// Turns every bit of one byte around on a disk that no machine uses, reading it through its backing files.
#[track_caller]
pub fn flip_byte(disk: &Path, image: &Path, offset: u64) {
    let mut byte = [0];
    let file = File::open(image).or_fail("Opening the image");
    file.read_exact_at(&mut byte, offset).or_fail("Reading the byte to flip");
    let write = format!("write -P {} {offset} 1", byte[0] ^ 0xff);
    let said = tool(&["qemu-io", "-f", "qcow2", "-c", &write, &path(disk)]);
    if !said.contains("wrote 1/1 bytes") {
        fail(format!("The byte at {offset} could not be flipped: {said}"));
    }
}

fn path(path: &Path) -> String {
    path.display().to_string()
}

/// The files a machine's disk consists of, besides the image itself.
#[derive(Clone, Debug)]
pub struct DiskFiles {
    /// The disk.
    pub disk: PathBuf,
    /// The firmware's variables.
    pub variables: PathBuf,
}

impl DiskFiles {
    /// Their places in a folder.
    pub fn in_folder(folder: &Path) -> Self {
        Self { disk: folder.join("disk.qcow2"), variables: folder.join("vars.fd") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_extent_is_read_from_its_line() {
        let line = "   0:        0..    4739 |    4739 :   61263872..  61267968 |    4096  ";
        assert_eq!(extent(line), Some((61_263_872, 4096)));
        assert_eq!(extent(" Ext:   logical offset   |  length :     physical offset    |  length "), None);
        assert_eq!(extent("Size: 28994112  On-disk size: 7311360  regular file"), None);
    }
}
