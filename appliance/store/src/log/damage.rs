//! A write-ahead file that ends in the middle of a write is what a power cut leaves. One that is broken *before* its
//! last write has lost what was acknowledged. SQLite takes both for the end of the file; this tells them apart.

use std::{fs::File, io, io::Read, path::Path};

const HEADER: usize = 32;
const FRAME_HEADER: usize = 24;

/// Whether whole writes lie behind a broken one. Every write is on the disk before the next begins, so a power cut
/// breaks at most the last.
pub(super) fn is_damaged(write_ahead: &Path) -> io::Result<bool> {
    let mut file = match File::open(write_ahead) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
    };
    let mut header = [0; HEADER];
    if read_full(&mut file, &mut header)? < HEADER || header == [0; HEADER] {
        return Ok(false);
    }
    let Some((page, salt, mut sum)) = read_header(&header) else {
        return Ok(true);
    };
    let mut frame = vec![0; FRAME_HEADER + page];
    let (mut broken, mut commits_behind) = (false, 0);
    while read_full(&mut file, &mut frame)? == frame.len() {
        if frame[8..16] != salt {
            // What an earlier round of the file left.
            broken = true;
            continue;
        }
        if !broken {
            sum.add(&frame[..8]);
            sum.add(&frame[FRAME_HEADER..]);
            broken = frame[16..24] != sum.bytes();
        }
        if broken && frame[4..8] != [0; 4] {
            commits_behind += 1;
        }
    }
    Ok(commits_behind > 1)
}

fn read_header(header: &[u8; HEADER]) -> Option<(usize, [u8; 8], Sum)> {
    let big_endian = match word(&header[0..4]) {
        0x377f_0682 => false,
        0x377f_0683 => true,
        _ => return None,
    };
    let mut sum = Sum { big_endian, first: 0, second: 0 };
    sum.add(&header[..24]);
    let page = usize::try_from(word(&header[8..12])).ok().filter(|page| (512..=65536).contains(page))?;
    (header[24..32] == sum.bytes())
        .then(|| (page, [16, 17, 18, 19, 20, 21, 22, 23].map(|at| header[at]), sum))
}

/// The running checksum of SQLite's write-ahead files.
struct Sum {
    big_endian: bool,
    first: u32,
    second: u32,
}

impl Sum {
    fn add(&mut self, bytes: &[u8]) {
        for pair in bytes.chunks_exact(8) {
            let (one, two) = (word(&pair[..4]), word(&pair[4..]));
            let (one, two) = if self.big_endian { (one, two) } else { (one.swap_bytes(), two.swap_bytes()) };
            self.first = self.first.wrapping_add(one).wrapping_add(self.second);
            self.second = self.second.wrapping_add(two).wrapping_add(self.first);
        }
    }

    fn bytes(&self) -> [u8; 8] {
        let (one, two) = (self.first.to_be_bytes(), self.second.to_be_bytes());
        [one[0], one[1], one[2], one[3], two[0], two[1], two[2], two[3]]
    }
}

fn word(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0, |word, byte| word << 8 | u32::from(*byte))
}

fn read_full(file: &mut File, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read(&mut buffer[filled..])? {
            0 => break,
            read => filled += read,
        }
    }
    Ok(filled)
}
