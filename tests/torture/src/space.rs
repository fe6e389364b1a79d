//! Networks of their own: every member stands in a namespace with one wire, and all wires end in a switch here, which
//! loses packets, holds them back, or lets one overtake another.

use std::{
    collections::HashMap,
    fs::{self, File},
    io,
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use nix::{
    mount::{MntFlags, MsFlags, mount, umount2},
    sched::{CloneFlags, setns, unshare},
    unistd::{Gid, Uid},
};
use rand::Rng;
use tokio::runtime::Handle;
use tun_rs::{DeviceBuilder, SyncDevice};

/// The largest packet.
const PACKET: usize = 1500;

/// What happens to packets from one place to another.
#[derive(Clone, Copy, Debug, Default)]
pub struct Weather {
    /// Nothing comes through.
    pub cut: bool,
    /// So many of a hundred do not.
    pub lost: u32,
    /// All take so long.
    pub delay: Duration,
    /// Each takes up to so much longer: one overtakes another.
    pub uneven: Duration,
}

/// Where a process can stand.
#[derive(Debug)]
pub struct Space {
    net: File,
    /// Its address.
    pub ip: String,
}

/// Where all wires end.
#[derive(Debug, Default)]
pub struct Switch {
    weather: Mutex<HashMap<(usize, usize), Weather>>,
}

/// Leaves the machine's network and mounts for good. The process must have one thread only.
pub fn leave_the_machine() -> io::Result<()> {
    let (user, group) = (Uid::current(), Gid::current());
    let mut apart = CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS;
    if !user.is_root() {
        apart |= CloneFlags::CLONE_NEWUSER;
    }
    unshare(apart)?;
    if !user.is_root() {
        fs::write("/proc/self/setgroups", "deny")?;
        fs::write("/proc/self/uid_map", format!("0 {user} 1"))?;
        fs::write("/proc/self/gid_map", format!("0 {group} 1"))?;
    }
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)?;
    Ok(())
}

/// A disk that is soon full.
#[derive(Debug)]
pub struct SmallDisk<'a>(&'a Path);

impl<'a> SmallDisk<'a> {
    /// Mounts one.
    pub fn mount(at: &'a Path, mebibytes: u32) -> io::Result<Self> {
        fs::create_dir_all(at)?;
        let size = format!("size={mebibytes}m");
        mount(Some("small"), at, Some("tmpfs"), MsFlags::empty(), Some(size.as_str()))?;
        Ok(Self(at))
    }
}

impl Drop for SmallDisk<'_> {
    fn drop(&mut self) {
        // It goes with the namespace in any case.
        let _ = umount2(self.0, MntFlags::MNT_DETACH);
    }
}

impl Switch {
    /// A switch with so many places; this process stands at the first.
    pub fn new(places: usize) -> io::Result<(Arc<Self>, Vec<Space>)> {
        let switch = Arc::new(Self::default());
        let (mut wires, mut spaces) = (Vec::new(), Vec::new());
        for place in 0..places {
            let (wire, space) = if place == 0 {
                Space::make(place)?
            } else {
                let made = std::thread::spawn(move || {
                    unshare(CloneFlags::CLONE_NEWNET)?;
                    Space::make(place)
                });
                made.join().map_err(|_| io::Error::other("no namespace"))??
            };
            wires.push(Arc::new(wire));
            spaces.push(space);
        }
        let wires: Arc<[_]> = wires.into();
        let later = Handle::current();
        for place in 0..places {
            let (switch, wires, later) = (Arc::clone(&switch), Arc::clone(&wires), later.clone());
            std::thread::spawn(move || switch.carry(place, &wires, &later));
        }
        Ok((switch, spaces))
    }

    /// Sets the weather from one place to another.
    pub fn set(&self, from: usize, to: usize, weather: Weather) {
        self.weather.lock().unwrap().insert((from, to), weather);
    }

    /// Good weather everywhere.
    pub fn clear(&self) {
        self.weather.lock().unwrap().clear();
    }

    /// Reads a wire until the end of the process, on a thread of its own: nothing waits for what else goes on here.
    fn carry(&self, from: usize, wires: &[Arc<SyncDevice>], later: &Handle) -> io::Result<()> {
        let mut packet = [0; PACKET];
        loop {
            let length = wires[from].recv(&mut packet)?;
            // The end of an IPv4 destination says which place; there is nothing else here.
            let Some(to) = packet[..length].get(19).and_then(|end| usize::from(*end).checked_sub(1)) else {
                continue;
            };
            let Some(wire) = wires.get(to).filter(|_| packet[0] >> 4 == 4) else { continue };
            let weather = self.weather.lock().unwrap().get(&(from, to)).copied().unwrap_or_default();
            let mut random = rand::rng();
            if weather.cut || random.random_ratio(weather.lost, 100) {
                continue;
            }
            let takes = weather.delay + weather.uneven.mul_f64(random.random());
            if takes.is_zero() {
                // A full wire loses packets, as wires do.
                drop(wire.send(&packet[..length]));
            } else {
                let (wire, packet) = (Arc::clone(wire), packet[..length].to_vec());
                later.spawn(async move {
                    tokio::time::sleep(takes).await;
                    drop(wire.send(&packet));
                });
            }
        }
    }
}

impl Space {
    /// Makes the namespace of this thread a place.
    fn make(place: usize) -> io::Result<(SyncDevice, Self)> {
        let ip = format!("10.77.0.{}", place + 1);
        let mtu = u16::try_from(PACKET).map_err(io::Error::other)?;
        let wire = DeviceBuilder::new().name("wire").ipv4(ip.as_str(), 24, None).mtu(mtu).build_sync()?;
        Ok((wire, Self { net: File::open("/proc/thread-self/ns/net")?, ip }))
    }

    /// Does something there, which a new thread is needed for.
    pub fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> io::Result<T> {
        let done = std::thread::scope(|scope| {
            let inside = scope.spawn(|| {
                setns(&self.net, CloneFlags::CLONE_NEWNET)?;
                Ok(work())
            });
            inside.join()
        });
        done.unwrap_or_else(|_| Err(io::Error::other("it broke off")))
    }
}
