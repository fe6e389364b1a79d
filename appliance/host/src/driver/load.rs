//! What this machine uses, read from the kernel.

use std::{collections::BTreeSet, path::Path};

use super::hardware;
use crate::model::{load::Load, proc};

/// What this machine has used since it started. This reads files that the kernel keeps in memory, and waits for nothing.
pub fn load() -> Load {
    read(Path::new("/"))
}

fn read(root: &Path) -> Load {
    let text = |path: &str| hardware::text(&root.join(path)).unwrap_or_default();
    let memory = proc::memory(&text("proc/meminfo"));
    let mut load =
        Load { memory: Some(memory.total_bytes.saturating_sub(memory.available_bytes)), ..Load::default() };
    load.add_processors(&text("proc/stat"));
    load.add_disks(&text("proc/diskstats"), &hardware::disk_names(root).collect());
    let interfaces: BTreeSet<String> = hardware::interface_names(root).collect();
    load.add_network(&text("proc/net/dev"), &interfaces);
    load
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_machine_that_the_tests_run_on_uses_is_plausible() {
        let load = load();
        assert!(load.processors >= 1 && load.cpu_seconds.is_some_and(|seconds| seconds > 0.0));
        assert!(load.memory.is_some_and(|memory| memory > 16 << 20));
    }
}
