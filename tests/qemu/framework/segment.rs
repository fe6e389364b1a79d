//! A network segment on this machine: a switch in the test process. Machines are plugged into it, each with an uplink
//! of its own to QEMU's user network, and the test process stands on it as one or more stations.
//!
//! The switch is here and not in QEMU because the user network answers for every address it does not know: a station
//! would see its connections reset. So a machine's uplink sees only what is meant for it.

use std::{
    collections::HashMap,
    os::unix::net::UnixDatagram,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError, Weak,
        mpsc::{self, Receiver, Sender},
    },
    thread,
    time::Duration,
};

use crate::OrFail;

/// A hardware address.
pub type Mac = [u8; 6];

/// The two ends of a leg: the machine's socket and ours.
pub(crate) type Leg = (PathBuf, PathBuf);

/// A segment; clones are the same segment.
#[derive(Clone, Debug, Default)]
pub struct Segment {
    switch: Arc<Mutex<Switch>>,
}

#[derive(Debug, Default)]
struct Switch {
    ports: Vec<Port>,
    learned: HashMap<Mac, usize>,
}

#[derive(Debug)]
struct Port {
    kind: Kind,
    out: Out,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// A machine's interface. The number tells which uplink is its own.
    Machine(usize),
    /// A machine's way to the user network.
    Uplink(usize),
    /// The test process.
    Station,
}

#[derive(Debug)]
enum Out {
    Socket(Arc<UnixDatagram>, PathBuf),
    Channel(Sender<Vec<u8>>),
}

impl Segment {
    /// An empty segment.
    pub fn new() -> Self {
        Self::default()
    }

    /// Stands on the segment with frames of one's own.
    pub fn wire(&self) -> Wire {
        let (out, frames) = mpsc::channel();
        let port = self.add(Kind::Station, Out::Channel(out));
        Wire { segment: self.clone(), port, frames }
    }

    /// Makes a leg for a machine's interface.
    #[track_caller]
    pub(crate) fn plug(&self, folder: &Path, name: &str) -> (Leg, usize) {
        let number = self.lock().ports.len();
        (self.leg(folder, name, Kind::Machine(number)), number)
    }

    /// Makes the leg for the uplink of the machine that was plugged in with this number.
    #[track_caller]
    pub(crate) fn uplink(&self, folder: &Path, name: &str, number: usize) -> Leg {
        self.leg(folder, name, Kind::Uplink(number))
    }

    #[track_caller]
    fn leg(&self, folder: &Path, name: &str, kind: Kind) -> Leg {
        let (theirs, ours) = (folder.join(format!("{name}-qemu")), folder.join(format!("{name}-switch")));
        let socket = Arc::new(UnixDatagram::bind(&ours).or_fail("Making a leg of the segment"));
        socket.set_read_timeout(Some(Duration::from_millis(500))).or_fail("Setting a bound on the leg");
        socket.set_write_timeout(Some(Duration::from_millis(500))).or_fail("Setting a bound on the leg");
        let port = self.add(kind, Out::Socket(Arc::clone(&socket), theirs.clone()));
        let switch = Arc::downgrade(&self.switch);
        thread::spawn(move || read_leg(&socket, port, &switch));
        (theirs, ours)
    }

    fn add(&self, kind: Kind, out: Out) -> usize {
        let mut switch = self.lock();
        switch.ports.push(Port { kind, out });
        switch.ports.len() - 1
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Switch> {
        self.switch.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Carries frames until nobody holds the segment any more.
fn read_leg(socket: &UnixDatagram, port: usize, switch: &Weak<Mutex<Switch>>) {
    let mut frame = vec![0; 65536];
    loop {
        let received = socket.recv(&mut frame);
        let Some(switch) = switch.upgrade() else { return };
        if let Ok(length @ 14..) = received {
            switch.lock().unwrap_or_else(PoisonError::into_inner).carry(port, &frame[..length]);
        }
    }
}

impl Switch {
    fn carry(&mut self, from: usize, frame: &[u8]) {
        let (Some(to), Some(source)) = (mac(frame, 0), mac(frame, 6)) else { return };
        self.learned.insert(source, from);
        let known = self.learned.get(&to).copied().filter(|_| to[0] & 1 == 0);
        let kind = self.ports[from].kind;
        for (index, port) in self.ports.iter().enumerate() {
            if index != from && joined(kind, port.kind) && known.is_none_or(|known| known == index) {
                port.send(frame);
            }
        }
    }
}

/// An uplink is joined with its own machine only.
fn joined(one: Kind, other: Kind) -> bool {
    match (one, other) {
        (Kind::Uplink(number), Kind::Machine(machine)) | (Kind::Machine(machine), Kind::Uplink(number)) => {
            number == machine
        }
        (Kind::Uplink(_), Kind::Uplink(_) | Kind::Station) | (Kind::Station, Kind::Uplink(_)) => false,
        (Kind::Machine(_) | Kind::Station, Kind::Machine(_) | Kind::Station) => true,
    }
}

impl Port {
    /// A frame to somebody who is not there, or does not take it in time, is lost: as on a wire.
    fn send(&self, frame: &[u8]) {
        match &self.out {
            Out::Socket(socket, peer) => drop(socket.send_to(frame, peer)),
            Out::Channel(channel) => drop(channel.send(frame.to_vec())),
        }
    }
}

fn mac(frame: &[u8], at: usize) -> Option<Mac> {
    frame.get(at..at + 6)?.try_into().ok()
}

/// The test process's own port: whole Ethernet frames in and out.
#[derive(Debug)]
pub struct Wire {
    segment: Segment,
    port: usize,
    frames: Receiver<Vec<u8>>,
}

impl Wire {
    /// Sends a frame.
    pub fn send(&self, frame: &[u8]) {
        self.segment.lock().carry(self.port, frame);
    }

    /// The next frame, if one comes in time.
    pub fn receive(&self, bound: Duration) -> Option<Vec<u8>> {
        self.frames.recv_timeout(bound).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: Mac = [0xff; 6];
    const BOUND: Duration = Duration::from_millis(100);

    fn frame(to: Mac, from: Mac) -> Vec<u8> {
        [&to[..], &from[..], &[8, 0, 1, 2, 3]].concat()
    }

    #[test]
    fn a_frame_goes_to_all_until_its_address_is_known() {
        let segment = Segment::new();
        let (a, b, c) = (segment.wire(), segment.wire(), segment.wire());
        a.send(&frame(ALL, [2; 6]));
        assert!(b.receive(BOUND).is_some() && c.receive(BOUND).is_some());
        b.send(&frame([2; 6], [4; 6]));
        assert!(a.receive(BOUND).is_some());
        assert!(c.receive(BOUND).is_none() && b.receive(BOUND).is_none());
    }

    #[test]
    fn an_uplink_is_seen_by_its_own_machine_only() {
        let folder = tempfile::tempdir().unwrap();
        let segment = Segment::new();
        let ((_, switch_end), number) = segment.plug(folder.path(), "nic");
        let (_, up_end) = segment.uplink(folder.path(), "up", number);
        let machine = UnixDatagram::bind(folder.path().join("nic-qemu")).unwrap();
        let uplink = UnixDatagram::bind(folder.path().join("up-qemu")).unwrap();
        machine.set_read_timeout(Some(BOUND)).unwrap();
        uplink.set_read_timeout(Some(BOUND)).unwrap();
        let station = segment.wire();
        let mut buffer = [0; 64];
        uplink.send_to(&frame(ALL, [6; 6]), &up_end).unwrap();
        assert_eq!(machine.recv(&mut buffer).unwrap(), 17);
        assert!(station.receive(BOUND).is_none());
        station.send(&frame(ALL, [2; 6]));
        assert_eq!(machine.recv(&mut buffer).unwrap(), 17);
        assert!(uplink.recv(&mut buffer).is_err());
        machine.send_to(&frame([2; 6], [8; 6]), &switch_end).unwrap();
        assert!(station.receive(BOUND).is_some());
        assert!(uplink.recv(&mut buffer).is_err());
    }
}
