//! Does hardware virtualisation work? A device file proves nothing: there are machines where `/dev/kvm` exists
//! and no guest ever gets past its firmware. So a guest is run: 64 KiB of ROM whose first instructions tell QEMU
//! to exit with a number only they know.

use std::{io::Write, path::Path, sync::Arc, time::Duration};

use tokio::sync::{Notify, watch};

use super::run::{RunError, run};
use crate::model::kvm::KvmState;

const QEMU: &str = "qemu-system-x86_64";
const DEVICE: &str = "/dev/kvm";
/// Seconds before each try. On a slow machine the device comes later than the agent does.
const PAUSES: [u64; 7] = [5, 5, 5, 5, 10, 20, 60];
const LIMIT: Duration = Duration::from_secs(30);
/// The guest writes this to the exit port; QEMU's exit code is then twice that plus one.
const ANSWER: u8 = 0x2a;
const EXIT_CODE: i32 = (ANSWER as i32) << 1 | 1;
const ROM_BYTES: usize = 64 * 1024;
/// Where a processor begins after a reset: sixteen bytes before the end of the ROM.
const RESET_VECTOR: usize = ROM_BYTES - 16;

/// Tries in the background until a guest has run; the state is read from the receiver. An agent is there early in the
/// boot, when the pages are waited for more than this, and the kernel may not have loaded what KVM needs. Whoever needs to
/// know at once rings `asked`.
pub(crate) fn try_in_background(asked: Arc<Notify>) -> watch::Receiver<KvmState> {
    let (sender, receiver) = watch::channel(KvmState::Trying);
    tokio::spawn(async move {
        for pause in PAUSES {
            // That it was asked before is remembered.
            drop(tokio::time::timeout(Duration::from_secs(pause), asked.notified()).await);
            let state = if Path::new(DEVICE).exists() { try_guest("kvm").await } else { KvmState::NoDevice };
            let works = state == KvmState::Works;
            if *sender.borrow() != state {
                log::info!(state:? = state; "KVM was tried with a guest: {state:?}");
            }
            sender.send_replace(state);
            if works {
                break;
            }
        }
    });
    receiver
}

async fn try_guest(accelerator: &str) -> KvmState {
    let rom = match rom_file() {
        Ok(rom) => rom,
        Err(error) => return KvmState::Fails(format!("the test guest could not be written: {error}")),
    };
    let args = [
        "-nodefaults",
        "-no-user-config",
        "-display",
        "none",
        "-machine",
        &format!("pc,accel={accelerator}"),
        // All that the processor can: there are machines where a plain one starts, and none as libvirt describes them.
        "-cpu",
        "max",
        "-m",
        "16",
        "-device",
        "isa-debug-exit,iobase=0xf4,iosize=1",
        "-bios",
        &rom.path().to_string_lossy(),
    ];
    match run(QEMU, &args, LIMIT).await {
        Ok(finished) if finished.code == Some(EXIT_CODE) => KvmState::Works,
        Ok(finished) => {
            let said = finished.stderr.lines().next_back().unwrap_or("it ended without an answer").to_owned();
            KvmState::Fails(said)
        }
        Err(RunError::TimedOut { .. }) => KvmState::Fails("it started and never got anywhere".to_owned()),
        Err(error @ RunError::NotStarted { .. }) => KvmState::Fails(error.to_string()),
    }
}

fn rom_file() -> std::io::Result<tempfile::NamedTempFile> {
    let mut file = tempfile::NamedTempFile::new()?;
    file.write_all(&rom())?;
    file.flush()?;
    Ok(file)
}

fn rom() -> Vec<u8> {
    const HALT: u8 = 0xf4;
    let mut rom = vec![HALT; ROM_BYTES];
    // mov al, ANSWER; out 0xf4, al
    rom[RESET_VECTOR..RESET_VECTOR + 4].copy_from_slice(&[0xb0, ANSWER, 0xe6, 0xf4]);
    rom
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_guest_answers_where_it_can_run() {
        assert_eq!(try_guest("tcg").await, KvmState::Works);
    }

    #[tokio::test]
    async fn an_accelerator_that_is_not_there_is_no_answer() {
        assert!(matches!(try_guest("nonesuch").await, KvmState::Fails(_)));
    }
}
