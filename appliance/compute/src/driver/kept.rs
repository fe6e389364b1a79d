//! Descriptions as libvirt keeps them on disk, of machines as they shall be and of those that are on. It tells of most
//! changes by an event, but not of all: after `virsh setvcpus`, `update-device`, `blkdeviotune` and a few more only the file
//! is another one. So the files are watched.

use std::{
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, WatchDescriptor};
use tokio::sync::broadcast;

use super::events::{Event, Happened};
use crate::model::element::Element;

/// A description is some kilobytes.
const LONGEST: u64 = 1 << 20;
/// One that changes several times is read once.
const TOGETHER: Duration = Duration::from_millis(100);

/// Watches a folder until it is dropped.
#[derive(Debug)]
pub(super) struct Watched {
    notices: Arc<Inotify>,
    folder: WatchDescriptor,
}

impl Drop for Watched {
    fn drop(&mut self) {
        // The kernel says so to the thread, which ends.
        let _ = self.notices.rm_watch(self.folder);
    }
}

/// Begins to watch the folder in which descriptions are kept.
pub(super) fn watch(folder: &Path, told: broadcast::Sender<Event>) -> io::Result<Watched> {
    let notices = Arc::new(Inotify::init(InitFlags::IN_CLOEXEC)?);
    // libvirt writes another file and puts it in the place of the old one.
    let watched = notices.add_watch(folder, AddWatchFlags::IN_MOVED_TO)?;
    let (read, folder) = (Arc::clone(&notices), folder.to_owned());
    std::thread::Builder::new().name("libvirt-kept".into()).spawn(move || {
        while let Ok(mut notices) = read.read_events() {
            if notices.iter().any(|notice| notice.mask.contains(AddWatchFlags::IN_IGNORED)) {
                return;
            }
            notices.sort_by(|one, other| one.name.cmp(&other.name));
            notices.dedup_by(|one, other| one.name == other.name);
            for name in notices.into_iter().filter_map(|notice| notice.name) {
                tell(&folder.join(name), &told);
            }
            std::thread::sleep(TOGETHER);
        }
    })?;
    Ok(Watched { notices, folder: watched })
}

fn tell(file: &PathBuf, told: &broadcast::Sender<Event>) {
    if file.extension().is_none_or(|extension| extension != "xml") {
        return;
    }
    let mut text = String::new();
    // It may be replaced or gone again; then there is another notice, or an event.
    let read = File::open(file).and_then(|opened| opened.take(LONGEST).read_to_string(&mut text));
    let id = || {
        let file = Element::from_xml(&text).ok()?;
        file.child("domain").unwrap_or(&file).child("uuid")?.text.trim().parse().ok()
    };
    if let (Ok(_), Some(id)) = (read, id()) {
        let _ = told.send(Event { id, happened: Happened::Defined });
    }
}
