//! Everything that can go wrong.

use std::{
    fs::{self, File},
    io::{self, Read, Seek, SeekFrom, Write},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use quantix_torture::{
    cluster::{Process, until},
    space::Weather,
    wire::{Answer, Ask},
};
use rand::{Rng, seq::IndexedRandom};

use crate::Torture;

impl Torture {
    /// Does one thing that must not matter.
    pub(crate) async fn fault(&mut self) -> String {
        let one = self.random.random_range(0..self.members.len());
        let leader = self.leader().await.unwrap_or(one);
        let either = if self.random.random() { leader } else { one };
        let millis = |millis: u64| Duration::from_millis(millis);
        match self.random.random_range(0..19) {
            0 => {
                self.kill_and_start(&[leader]);
                format!("killed {leader}, which led")
            }
            1 => {
                self.kill_and_start(&[one]);
                format!("killed {one}")
            }
            2 => {
                self.kill_and_start(&(0..self.members.len()).collect::<Vec<_>>());
                "killed all".into()
            }
            3 => {
                self.cut(&[leader], true, true);
                format!("cut off {leader}, which led")
            }
            4 => {
                let half: Vec<_> = (0..self.members.len()).filter(|_| self.random.random()).collect();
                self.cut(&half, true, true);
                format!("cut {half:?} from the others")
            }
            5 => {
                self.cut(&[one], true, false);
                format!("{one} is not heard")
            }
            6 => {
                self.cut(&[one], false, true);
                format!("{one} hears nothing")
            }
            7 => {
                let delay = self.random.random_range(5..200);
                self.weather(one, Weather { delay: millis(delay), ..Weather::default() });
                format!("{one} is {delay} ms away")
            }
            8 => {
                let lost = self.random.random_range(1..30);
                self.weather(either, Weather { lost, ..Weather::default() });
                format!("{lost} % of what {either} sends and gets is lost")
            }
            9 => {
                let uneven = self.random.random_range(1..60);
                self.weather(either, Weather { uneven: millis(uneven), ..Weather::default() });
                format!("packets of {either} overtake others by {uneven} ms")
            }
            10 => {
                self.pause(either).await;
                format!("paused {either}")
            }
            11 => {
                self.tear(one);
                format!("tore the tail of {one}'s log")
            }
            12 => {
                let seconds = self.random.random_range(-40_000_000..40_000_000);
                fs::write(self.members[either].clock(), format!("{seconds:+}")).unwrap();
                format!("the clock of {either} is off by {seconds} s")
            }
            13 => self.fill_disk(if either % 2 == 1 { either } else { 1 }).await,
            14 => self.flip(one).await,
            15 => {
                self.be_whole().await;
                self.replace(one).await
            }
            16 => {
                self.restart(either).await;
                format!("restarted {either}")
            }
            _ => {
                self.heal();
                "healed".into()
            }
        }
    }

    async fn leader(&self) -> Option<usize> {
        for (number, member) in self.members.iter().enumerate() {
            let asked = tokio::time::timeout(Duration::from_millis(200), member.standing()).await;
            if asked.ok().flatten().is_some_and(|standing| standing.leads) {
                return Some(number);
            }
        }
        None
    }

    fn kill_and_start(&mut self, which: &[usize]) {
        for at in which {
            self.members[*at].kill();
        }
        for at in which {
            self.members[*at].start();
        }
    }

    fn cut(&self, these: &[usize], out: bool, into: bool) {
        let cut = Weather { cut: true, ..Weather::default() };
        for one in these {
            for other in (0..self.members.len()).filter(|other| !these.contains(other)) {
                if out {
                    self.switch.set(place(*one), place(other), cut);
                }
                if into {
                    self.switch.set(place(other), place(*one), cut);
                }
            }
        }
    }

    fn weather(&self, one: usize, weather: Weather) {
        for other in (0..self.members.len()).filter(|other| *other != one) {
            self.switch.set(place(one), place(other), weather);
            self.switch.set(place(other), place(one), weather);
        }
    }

    pub(crate) fn heal(&mut self) {
        self.switch.clear();
        for member in &mut self.members {
            remove(&member.clock());
            remove(&filler(member));
            if member.has_ended() {
                // One that starts while its disk is full is started again until there is room.
                let said = member.last_words();
                assert!(
                    said.contains("disk is full") || said.contains("No space left"),
                    "{} ended by itself: {said}",
                    member.address()
                );
                member.kill();
                member.start();
            }
        }
    }

    /// As an update does: it is asked to end, and may hand over before.
    async fn restart(&mut self, at: usize) {
        if let Some(pid) = self.members[at].pid().and_then(|pid| i32::try_from(pid).ok()) {
            kill(Pid::from_raw(pid), Signal::SIGTERM).unwrap();
            let start = Instant::now();
            while !self.members[at].has_ended() && start.elapsed() < Duration::from_secs(8) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
        self.kill_and_start(&[at]);
    }

    async fn pause(&mut self, at: usize) {
        let Some(pid) = self.members[at].pid().and_then(|pid| i32::try_from(pid).ok()).map(Pid::from_raw)
        else {
            return;
        };
        kill(pid, Signal::SIGSTOP).unwrap();
        tokio::time::sleep(Duration::from_millis(self.random.random_range(200..4000))).await;
        kill(pid, Signal::SIGCONT).unwrap();
    }

    /// What a power cut in the middle of a write leaves: the last write's end is something else.
    fn tear(&mut self, at: usize) {
        self.members[at].kill();
        let path = self.members[at].folder.join("log.db-wal");
        // Not what was acknowledged: a write that was on its way and never came to its end.
        if let Ok(mut file) = File::options().read(true).append(true).open(path) {
            let mut header = [0; 32];
            file.seek(SeekFrom::Start(0)).unwrap();
            if file.read_exact(&mut header).is_ok() {
                let mut frame = vec![0; self.random.random_range(1..4120)];
                self.random.fill(&mut frame[..]);
                let salt = frame.len().min(16);
                if salt == 16 {
                    frame[8..16].copy_from_slice(&header[16..24]);
                }
                // On a full disk less of it, or nothing.
                drop(file.write_all(&frame));
            }
        }
        self.members[at].start();
    }

    /// No byte more goes onto its disk. If it leads, another has to.
    async fn fill_disk(&mut self, at: usize) -> String {
        if self.leader().await == Some(at) {
            self.be_whole().await;
        }
        let led = self.leader().await;
        let mut file = File::create(filler(&self.members[at])).unwrap();
        for size in [1024 * 1024, 4096, 1] {
            while file.write_all(&vec![0; size]).is_ok() {}
        }
        if led != Some(at) {
            return format!("filled the disk of {at}");
        }
        // It may take itself for the leader for as long as it stands still; it can do nothing with that.
        until("another leads than the one whose disk is full", async || {
            for (number, member) in self.members.iter().enumerate() {
                if number != at && member.standing().await.is_some_and(|standing| standing.leads) {
                    return true;
                }
            }
            false
        })
        .await;
        format!("filled the disk of {at}, which led")
    }

    /// Turns a bit in a log. Either nothing needs it, or the member says that it is damaged and another takes its
    /// place.
    async fn flip(&mut self, at: usize) -> String {
        self.be_whole().await;
        let member = &mut self.members[at];
        member.kill();
        let logs = ["log.db", "log.db-wal"].map(|name| member.folder.join(name));
        let logs = logs.iter().filter(|log| fs::metadata(log).is_ok_and(|log| log.len() > 0));
        let logs: Vec<_> = logs.collect();
        let log = logs.choose(&mut self.random).unwrap();
        let file = File::options().read(true).write(true).open(log).unwrap();
        let position = self.random.random_range(0..file.metadata().unwrap().len());
        let mut byte = [0];
        file.read_exact_at(&mut byte, position).unwrap();
        byte[0] ^= 1 << self.random.random_range(0..8);
        file.write_all_at(&byte, position).unwrap();
        member.start();
        let mut said = None;
        until("a member with another bit in its log is up or has ended", async || {
            said = Some(match member.standing().await {
                _ if member.has_ended() => member.last_words(),
                Some(standing) if !standing.trouble.is_empty() => standing.trouble.join(" "),
                Some(standing) if standing.led => String::new(),
                _ => return false,
            });
            true
        })
        .await;
        let said = said.unwrap();
        if said.is_empty() {
            return format!("turned a bit in the log of {at}, which it did not need");
        }
        assert!(said.contains("the store in") || said.contains("put back"), "not what a bit does: {said}");
        format!("turned a bit in the log of {at}, which said so; {}", self.replace(at).await)
    }

    /// Takes a member out and lets it in again with nothing; and while it gets the database, something happens.
    async fn replace(&mut self, at: usize) -> String {
        self.members[at].kill();
        let other = (at + 1) % self.members.len();
        let remove = Ask::Remove(self.ids[at]);
        until("a member is put out", async || self.is_done(other, &remove).await).await;
        for file in fs::read_dir(&self.members[at].folder).unwrap() {
            fs::remove_file(file.unwrap().path()).unwrap();
        }
        let member = &mut self.members[at];
        member.start();
        until("the new member answers", async || member.client().await.is_ok()).await;
        let Ok(Answer::Figures(id)) = member.ask(&Ask::Id).await else { panic!("no id") };
        self.ids[at] = id[0];
        let add = Ask::Add(id[0], member.address());
        until("it is let in", async || self.is_done(other, &add).await).await;
        tokio::time::sleep(Duration::from_millis(self.random.random_range(0..600))).await;
        let then = match self.random.random_range(0..4) {
            0 => {
                self.kill_and_start(&[at]);
                "killed it as it came"
            }
            1 => {
                let leader = self.leader().await.unwrap_or(other);
                self.kill_and_start(&[leader]);
                "killed the leader as it came"
            }
            2 => {
                self.cut(&[at], true, true);
                "cut it off as it came"
            }
            _ => "let it come",
        };
        format!("replaced {at} and {then}")
    }

    async fn is_done(&self, at: usize, ask: &Ask) -> bool {
        let asked = tokio::time::timeout(Duration::from_secs(8), self.members[at].ask(ask)).await;
        if !matches!(asked, Ok(Ok(Answer::Done(_)))) {
            println!("    {ask:?} at {at}: {asked:?}");
        }
        matches!(asked, Ok(Ok(Answer::Done(_))))
    }

    /// Waits until the cluster bears the loss of any one member's data.
    async fn be_whole(&mut self) {
        self.heal();
        let count = self.members.len();
        until("all vote", async || match self.leader().await {
            Some(leader) => {
                let standing = self.members[leader].standing().await;
                standing.is_some_and(|standing| standing.voters == count)
            }
            None => false,
        })
        .await;
    }
}

/// The switch's place of a member.
fn place(member: usize) -> usize {
    member + 1
}

/// What takes all the room on its disk.
fn filler(member: &Process) -> PathBuf {
    member.folder.join("filler")
}

fn remove(path: &Path) {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => panic!("{error}"),
        _ => {}
    }
}
