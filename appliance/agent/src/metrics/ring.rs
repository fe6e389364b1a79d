//! A file of figures over time that never grows: seconds for minutes, and means of them up to a year.
//!
//! There is a ring for each length of time that is looked at. A value's place in a ring follows from its time, and its time
//! is written with it, so that a value that was overwritten, or never written, is seen as such: whatever the clock did, and
//! wherever the program or the power ended. Nothing is synced; what is lost with the power are the last seconds.

use std::{
    fs::{File, OpenOptions},
    io,
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::Path,
};

use quantix_api::{Metric, Span};

use super::rates::{self, NOTHING, Sample};

/// What every such file begins with; what the figures are counts for as much as how they lie.
const HEAD: [u8; 16] = *b"quantix-metrics1";
const SLOT: usize = 4 + 4 * Metric::ALL.len();
/// Seconds between two looks of which all are given what was between them; a longer time is one of which nobody knows.
const LONGEST: u64 = 60;

/// One of the rings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Tier {
    /// How many seconds a value stands for.
    step: u64,
    /// How many there are.
    slots: u64,
    /// How many slots there are in the rings before it.
    before: u64,
}

/// Each value of one is the mean of values of the one before, which must reach back as far as that.
const TIERS: [Tier; 5] = [
    Tier { step: 1, slots: 300, before: 0 },
    Tier { step: 10, slots: 360, before: 300 },
    Tier { step: 3 * 60, slots: 480, before: 660 },
    Tier { step: 15 * 60, slots: 672, before: 1140 },
    Tier { step: 6 * 60 * 60, slots: 1460, before: 1812 },
];
const SLOTS: u64 = 3272;

/// The ring that goes so far back.
fn tier(span: Span) -> usize {
    match span {
        Span::Minutes => 0,
        Span::Hour => 1,
        Span::Day => 2,
        Span::Week => 3,
        Span::Year => 4,
    }
}

/// What was found for a span.
#[derive(Debug)]
pub(crate) struct Course {
    /// When it begins, in seconds since 1970.
    pub(crate) begin: u64,
    /// How many seconds each value stands for.
    pub(crate) step: u64,
    /// From then up to now.
    pub(crate) values: Vec<Option<Sample>>,
}

/// The figures of one thing, for whoever adds to them.
#[derive(Debug)]
pub(super) struct Ring {
    file: File,
    /// For each tier, up to which value there are means.
    settled: [u64; TIERS.len()],
}

impl Ring {
    /// Opens a file, or makes it. One that cannot be read is begun anew: these are figures, and nothing hangs on them.
    pub(super) fn open(path: &Path, now: u64) -> io::Result<Self> {
        let file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
        let length = HEAD.len() as u64 + SLOTS * SLOT as u64;
        let mut head = [0; HEAD.len()];
        let is_whole = file.read_exact_at(&mut head, 0).is_ok() && head == HEAD;
        if !is_whole || file.metadata()?.len() != length {
            file.set_len(0)?;
            file.set_len(length)?;
            file.write_all_at(&HEAD, 0)?;
        }
        let mut ring = Self { file, settled: TIERS.map(|tier| now / tier.step) };
        ring.catch_up()?;
        Ok(ring)
    }

    /// Adds what was between two moments.
    pub(super) fn add(&mut self, after: u64, until: u64, sample: &Sample) -> io::Result<()> {
        let first = (after + 1).max((until + 1).saturating_sub(LONGEST));
        for second in first..=until {
            write(&self.file, TIERS[0], second, sample)?;
        }
        for (finer, tier) in TIERS.into_iter().skip(1).enumerate() {
            let now = until / tier.step;
            let settled = std::mem::replace(&mut self.settled[finer + 1], now);
            // A clock that was set far ahead leaves a gap, and not a year of work.
            for index in settled.max(now.saturating_sub(LONGEST))..now {
                if let Some(mean) = mean_of(&self.file, finer, tier, index, until)? {
                    write(&self.file, tier, index, &mean)?;
                }
            }
        }
        Ok(())
    }

    /// Writes the means of what is under way, for there will be no more of it soon.
    pub(super) fn close(&self, now: u64) -> io::Result<()> {
        for (finer, tier) in TIERS.into_iter().skip(1).enumerate() {
            let index = now / tier.step;
            if let Some(mean) = mean_of(&self.file, finer, tier, index, now)? {
                write(&self.file, tier, index, &mean)?;
            }
        }
        Ok(())
    }

    /// Writes the means that nobody wrote, because the program ended before it was their time.
    fn catch_up(&mut self) -> io::Result<()> {
        for (finer, tier) in TIERS.into_iter().skip(1).enumerate() {
            let mut indices = Vec::new();
            for slot in 0..TIERS[finer].slots {
                let Some((time, _)) = at(&self.file, TIERS[finer], slot)? else { continue };
                indices.push(u64::from(time) * TIERS[finer].step / tier.step);
            }
            indices.sort_unstable();
            indices.dedup();
            for index in indices.into_iter().filter(|index| *index < self.settled[finer + 1]) {
                let there = at(&self.file, tier, index % tier.slots)?;
                if there.is_none_or(|(time, _)| u64::from(time) < index)
                    && let Some(mean) = mean_of(&self.file, finer, tier, index, u64::MAX)?
                {
                    write(&self.file, tier, index, &mean)?;
                }
            }
        }
        Ok(())
    }
}

/// Reads how something was, up to now. A file that is not there has nothing to tell.
pub(crate) fn read(path: &Path, span: Span, now: u64) -> io::Result<Course> {
    let number = tier(span);
    let tier = TIERS[number];
    // What is under way counts; a second is not told of before it is over.
    let end = if number == 0 { now / tier.step } else { now / tier.step + 1 };
    let first = end.saturating_sub(tier.slots);
    let mut course = Course { begin: first * tier.step, step: tier.step, values: Vec::new() };
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            course.values.resize(usize::try_from(tier.slots).unwrap_or_default(), None);
            return Ok(course);
        }
        Err(error) => return Err(error),
    };
    for index in first..end {
        course.values.push(value(&file, number, index, now)?);
    }
    Ok(course)
}

/// A value that was written, or the mean so far of one that is under way.
fn value(file: &File, number: usize, index: u64, now: u64) -> io::Result<Option<Sample>> {
    let tier = TIERS[number];
    if number > 0
        && index == now / tier.step
        && let Some(mean) = mean_of(file, number - 1, tier, index, now)?
    {
        return Ok(Some(mean));
    }
    let there = at(file, tier, index % tier.slots)?;
    match there.filter(|(time, _)| u64::from(*time) == index) {
        Some((_, sample)) => Ok(Some(sample)),
        // It is just over, and its mean is not written yet.
        None if number > 0 && index + 1 == now / tier.step => mean_of(file, number - 1, tier, index, now),
        None => Ok(None),
    }
}

/// The mean of those values of a finer ring that a value stands for, as far as there are any.
fn mean_of(file: &File, finer: usize, tier: Tier, index: u64, now: u64) -> io::Result<Option<Sample>> {
    let step = TIERS[finer].step;
    let mut samples = Vec::new();
    for index in (index * tier.step / step)..((index + 1) * tier.step / step) {
        samples.extend(value(file, finer, index, now)?);
    }
    Ok(rates::mean(samples))
}

fn place(tier: Tier, slot: u64) -> u64 {
    HEAD.len() as u64 + (tier.before + slot) * SLOT as u64
}

/// What is in a slot: which value of all it is, and that value.
fn at(file: &File, tier: Tier, slot: u64) -> io::Result<Option<(u32, Sample)>> {
    let mut bytes = [0; SLOT];
    match file.read_exact_at(&mut bytes, place(tier, slot)) {
        // It is being made anew just now.
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        read => read?,
    }
    let (time, values) = bytes.split_at(4);
    let time = u32::from_le_bytes(time.try_into().unwrap_or_default());
    let mut sample = NOTHING;
    for (value, bytes) in sample.iter_mut().zip(values.chunks_exact(4)) {
        *value = f32::from_le_bytes(bytes.try_into().unwrap_or_default());
    }
    Ok((time > 0).then_some((time, sample)))
}

fn write(file: &File, tier: Tier, index: u64, sample: &Sample) -> io::Result<()> {
    let Ok(time) = u32::try_from(index) else { return Ok(()) };
    let mut bytes = [0; SLOT];
    let (head, values) = bytes.split_at_mut(4);
    head.copy_from_slice(&time.to_le_bytes());
    for (bytes, value) in values.chunks_exact_mut(4).zip(sample) {
        bytes.copy_from_slice(&value.to_le_bytes());
    }
    file.write_all_at(&bytes, place(tier, index % tier.slots))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// At the begin of a value of each tier.
    const BEGIN: u64 = 1_800_014_400;

    fn sample(value: f32) -> Sample {
        let mut sample = NOTHING;
        sample[0] = value;
        sample
    }

    fn first(course: &Course) -> Vec<Option<f32>> {
        course.values.iter().map(|sample| sample.map(|sample| sample[0])).collect()
    }

    fn ring(dir: &tempfile::TempDir) -> (std::path::PathBuf, Ring) {
        let path = dir.path().join("a.ring");
        let ring = Ring::open(&path, BEGIN).unwrap();
        (path, ring)
    }

    fn last(path: &Path, span: Span, now: u64, count: usize) -> Vec<Option<f32>> {
        let course = read(path, span, now).unwrap();
        let end = course.begin + course.step * course.values.len() as u64;
        assert!(end >= now && end <= now + course.step, "{span:?} ends at {end}, and it is {now}");
        first(&course).split_off(course.values.len() - count)
    }

    #[test]
    fn the_rings_lie_one_behind_the_other_and_each_reaches_far_enough_for_the_next() {
        let mut before = 0;
        for (tier, next) in TIERS.iter().zip(TIERS.iter().skip(1)) {
            assert_eq!(tier.before, before);
            before += tier.slots;
            assert!(BEGIN.is_multiple_of(next.step));
            assert!(next.step.is_multiple_of(tier.step) && tier.step * tier.slots >= next.step);
        }
        assert_eq!((TIERS[4].before, TIERS[4].before + TIERS[4].slots), (before, SLOTS));
    }

    #[test]
    fn seconds_become_means_of_longer_times() {
        let dir = tempfile::tempdir().unwrap();
        let (path, mut ring) = ring(&dir);
        for second in 0..1800_u64 {
            let value = if second < 900 { 1.0 } else { 3.0 };
            ring.add(BEGIN + second - 1, BEGIN + second, &sample(value)).unwrap();
        }
        let now = BEGIN + 1800;
        assert_eq!(last(&path, Span::Minutes, now, 2), [Some(3.0), Some(3.0)]);
        assert_eq!(last(&path, Span::Hour, now, 92)[..2], [Some(1.0), Some(3.0)]);
        assert_eq!(last(&path, Span::Week, now, 4), [None, Some(1.0), Some(3.0), None]);
        // Six hours are not over, and what is known of them is shown.
        assert_eq!(last(&path, Span::Year, now, 2), [None, Some(2.0)]);
    }

    #[test]
    fn a_look_after_some_time_counts_for_all_of_it_and_one_after_a_long_time_does_not() {
        let dir = tempfile::tempdir().unwrap();
        let (path, mut ring) = ring(&dir);
        ring.add(BEGIN, BEGIN + 3, &sample(1.0)).unwrap();
        assert_eq!(last(&path, Span::Minutes, BEGIN + 4, 4), [None, Some(1.0), Some(1.0), Some(1.0)]);
        ring.add(BEGIN, BEGIN + 200, &sample(2.0)).unwrap();
        let known =
            last(&path, Span::Minutes, BEGIN + 201, 300).into_iter().filter(|value| *value == Some(2.0));
        assert_eq!(known.count() as u64, LONGEST);
    }

    #[test]
    fn what_ended_without_its_means_gets_them_when_it_is_opened_again() {
        let dir = tempfile::tempdir().unwrap();
        let (path, mut ring) = ring(&dir);
        for second in 1..=130 {
            ring.add(BEGIN + second - 1, BEGIN + second, &sample(5.0)).unwrap();
        }
        drop(ring);
        let later = BEGIN + 24 * 60 * 60;
        drop(Ring::open(&path, later).unwrap());
        let year = last(&path, Span::Year, later, 6);
        assert_eq!(year, [None, Some(5.0), None, None, None, None]);
        // One that is closed tells of what was under way.
        let mut ring = Ring::open(&path, later).unwrap();
        ring.add(later, later + 1, &sample(7.0)).unwrap();
        ring.close(later + 1).unwrap();
        assert_eq!(last(&path, Span::Day, later + 60 * 60, 21)[0], Some(7.0));
    }

    #[test]
    fn a_clock_that_jumps_leaves_gaps_and_does_no_harm() {
        let dir = tempfile::tempdir().unwrap();
        let (path, mut ring) = ring(&dir);
        for (after, until) in
            [(0, BEGIN), (BEGIN, 4_000_000_000), (4_000_000_000, 10), (10, BEGIN + 1), (5, u64::MAX - 1)]
        {
            ring.add(after, until, &sample(1.0)).unwrap();
        }
        ring.add(BEGIN, BEGIN + 1, &sample(2.0)).unwrap();
        assert_eq!(last(&path, Span::Minutes, BEGIN + 2, 1), [Some(2.0)]);
        assert_eq!(last(&path, Span::Year, 5, 1), [None]);
    }

    #[test]
    fn a_file_that_is_not_there_or_spoilt_tells_nothing_and_is_begun_anew() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.ring");
        assert!(first(&read(&path, Span::Day, BEGIN).unwrap()).iter().all(Option::is_none));
        std::fs::write(&path, b"quantix-metrics0 and something else").unwrap();
        let mut ring = Ring::open(&path, BEGIN).unwrap();
        ring.add(BEGIN, BEGIN + 1, &sample(1.0)).unwrap();
        assert_eq!(last(&path, Span::Minutes, BEGIN + 2, 1), [Some(1.0)]);
        let file = OpenOptions::new().write(true).open(&path).unwrap();
        file.set_len(100).unwrap();
        assert!(first(&read(&path, Span::Year, BEGIN).unwrap()).iter().all(Option::is_none));
        file.write_all_at(&[0xff; 200_000], 16).unwrap();
        assert!(read(&path, Span::Year, BEGIN).is_ok());
    }
}
