//! The volume that a guest finds its texts on: a FAT12 file system of always the same shape, labelled `CIDATA`. The same
//! texts make the same bytes.

use super::Texts;

const SECTOR: usize = 512;
const SECTORS: u16 = 4096;
const FAT_SECTORS: u16 = 12;
const ROOT_ENTRIES: u16 = 512;
const ENTRY: usize = 32;
const FAT_AT: usize = SECTOR;
const ROOT_AT: usize = FAT_AT + 2 * FAT_SECTORS as usize * SECTOR;
const DATA_AT: usize = ROOT_AT + ROOT_ENTRIES as usize * ENTRY;
const SIZE: usize = SECTORS as usize * SECTOR;
const MEDIA: u8 = 0xf8;
const LABEL: &[u8; 11] = b"CIDATA     ";
/// Volumes are told apart by what they hold, not by when they were made.
const SERIAL: u32 = 0x5158_4349;
/// 2000-01-01.
const DATE: u16 = 20 << 9 | 1 << 5 | 1;
const IS_LABEL: u8 = 0x08;
const IS_FILE: u8 = 0x20;
const IS_LONG_NAME: u8 = 0x0f;
/// Letters of a long name in an entry.
const LONG_NAME: usize = 13;
const LAST_CLUSTER: u16 = 0xfff;

/// How many bytes of files there is room for, whatever they are divided into.
pub(super) const ROOM: usize = SIZE - DATA_AT - FILES * SECTOR;
const FILES: usize = 4;

/// Draws the volume.
pub fn seed(texts: &Texts) -> Vec<u8> {
    let mut root = entry(LABEL, IS_LABEL, 0, 0);
    let mut chains: Vec<u16> = vec![0xf00 | u16::from(MEDIA), LAST_CLUSTER];
    let mut data = Vec::new();
    for (name, short, text) in texts.files() {
        let cluster = if text.is_empty() { 0 } else { chains.len() as u16 };
        long_name(name, short, &mut root);
        root.extend(entry(short, IS_FILE, cluster, text.len() as u32));
        let count = text.len().div_ceil(SECTOR);
        let first = chains.len() as u16;
        chains.extend((1..count as u16).map(|next| first + next));
        chains.extend((count > 0).then_some(LAST_CLUSTER));
        data.extend(text.as_bytes());
        data.resize(data.len().next_multiple_of(SECTOR), 0);
    }
    let fat = packed(&chains);
    let mut volume = boot_sector();
    volume.extend(&fat);
    volume.resize(FAT_AT + FAT_SECTORS as usize * SECTOR, 0);
    volume.extend(&fat);
    volume.resize(ROOT_AT, 0);
    volume.extend(root);
    volume.resize(DATA_AT, 0);
    volume.extend(data);
    volume.resize(SIZE, 0);
    volume
}

fn boot_sector() -> Vec<u8> {
    let mut sector = b"\xeb\x3c\x90MSDOS5.0".to_vec();
    sector.extend((SECTOR as u16).to_le_bytes());
    // One sector a cluster, one reserved, two tables.
    sector.extend([1, 1, 0, 2]);
    sector.extend(ROOT_ENTRIES.to_le_bytes());
    sector.extend(SECTORS.to_le_bytes());
    sector.push(MEDIA);
    sector.extend(FAT_SECTORS.to_le_bytes());
    // Sectors of a track, heads; nothing hidden in front, and no larger count of sectors.
    sector.extend([32, 0, 2, 0]);
    sector.extend([0; 8]);
    // A fixed disk, whose serial number, label and kind follow.
    sector.extend([0x80, 0, 0x29]);
    sector.extend(SERIAL.to_le_bytes());
    sector.extend(LABEL);
    sector.extend(b"FAT12   ");
    sector.resize(SECTOR - 2, 0);
    sector.extend([0x55, 0xaa]);
    sector
}

fn entry(name: &[u8; 11], attributes: u8, cluster: u16, size: u32) -> Vec<u8> {
    let mut entry = name.to_vec();
    entry.extend([attributes, 0, 0, 0, 0]);
    // When it was made and read; the high half of the cluster; when it was written.
    entry.extend(DATE.to_le_bytes());
    entry.extend(DATE.to_le_bytes());
    entry.extend([0; 4]);
    entry.extend(DATE.to_le_bytes());
    entry.extend(cluster.to_le_bytes());
    entry.extend(size.to_le_bytes());
    entry
}

/// The entries in front of a file that have its real name, the last part of it first.
fn long_name(name: &str, short: &[u8; 11], root: &mut Vec<u8>) {
    let sum = short.iter().fold(0_u8, |sum, byte| sum.rotate_right(1).wrapping_add(*byte));
    let letters: Vec<u16> = name.encode_utf16().collect();
    let count = letters.len().div_ceil(LONG_NAME);
    for (at, part) in letters.chunks(LONG_NAME).enumerate().rev() {
        let is_last = if at + 1 == count { 0x40 } else { 0 };
        let padding = [0].into_iter().chain(std::iter::repeat(0xffff));
        let mut part = part.iter().copied().chain(padding).take(LONG_NAME).flat_map(u16::to_le_bytes);
        let mut next = |count| part.by_ref().take(count).collect::<Vec<u8>>();
        root.extend([(at + 1) as u8 | is_last]);
        root.extend(next(10));
        root.extend([IS_LONG_NAME, 0, sum]);
        root.extend(next(12));
        root.extend([0, 0]);
        root.extend(next(4));
    }
}

/// Numbers of twelve bits each, two in three bytes.
fn packed(chains: &[u16]) -> Vec<u8> {
    let pair = |pair: &[u16]| {
        let first = pair.first().copied().unwrap_or_default();
        let second = pair.get(1).copied().unwrap_or_default();
        let [low, middle, high, _] = (u32::from(first) | u32::from(second) << 12).to_le_bytes();
        [low, middle, high]
    };
    chains.chunks(2).flat_map(pair).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_twelve_bits_lie_two_in_three_bytes() {
        assert_eq!(packed(&[0xff8, 0xfff, 0x123]), [0xf8, 0xff, 0xff, 0x23, 0x01, 0x00]);
    }

    #[test]
    fn a_volume_is_always_of_one_size_and_the_same_for_the_same_texts() {
        let texts = |length: usize| Texts {
            user_data: "a".repeat(length),
            meta_data: String::new(),
            network_config: None,
            vendor_data: Some("b".into()),
        };
        for length in [0, 1, 511, 512, 513, ROOM] {
            assert_eq!(seed(&texts(length)).len(), SIZE, "{length}");
        }
        assert_eq!(seed(&texts(700)), seed(&texts(700)));
        assert_ne!(seed(&texts(700)), seed(&texts(701)));
    }
}
