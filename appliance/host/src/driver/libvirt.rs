//! libvirt's calls block, and may block for ever, so they live on a thread of their own that keeps the connection.

use std::{sync::mpsc, time::Duration};

use tokio::{sync::oneshot, time::timeout};
use virt::connect::Connect;

const URI: &str = "qemu:///system";
const LIMIT: Duration = Duration::from_secs(4);
/// A thread that hangs leaves its callers waiting; more than a few are turned away at once.
const QUEUE: usize = 4;

type Answer = Result<String, String>;

/// The way to the thread.
#[derive(Debug)]
pub(crate) struct Libvirt {
    questions: mpsc::SyncSender<oneshot::Sender<Answer>>,
}

impl Libvirt {
    pub(crate) fn start() -> std::io::Result<Self> {
        let (questions, asked) = mpsc::sync_channel::<oneshot::Sender<Answer>>(QUEUE);
        std::thread::Builder::new().name("libvirt".into()).spawn(move || {
            let mut connection = None;
            // Ends when the last sender, and with it the host, is gone.
            for question in asked {
                let answer = version(&mut connection);
                let _ = question.send(answer);
            }
        })?;
        Ok(Self { questions })
    }

    /// The daemon's version, asked anew each time.
    pub(crate) async fn version(&self) -> Answer {
        let hangs = || format!("no answer within {} seconds", LIMIT.as_secs());
        let (sender, receiver) = oneshot::channel();
        self.questions.try_send(sender).map_err(|_| hangs())?;
        match timeout(LIMIT, receiver).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err("the thread that asks it has ended".to_owned()),
            Err(_) => Err(hangs()),
        }
    }
}

fn version(connection: &mut Option<Connect>) -> Answer {
    if let Some(open) = connection {
        if let Ok(version) = open.lib_version() {
            return Ok(dotted(version.into()));
        }
        // The daemon was restarted; the next connection reaches the new one.
        *connection = None;
    }
    let open = Connect::open(Some(URI)).map_err(|error| error.message().to_owned())?;
    let version = open.lib_version().map_err(|error| error.message().to_owned())?;
    *connection = Some(open);
    Ok(dotted(version.into()))
}

/// libvirt packs a version into a number: a million times major, a thousand times minor, release.
fn dotted(version: u64) -> String {
    format!("{}.{}.{}", version / 1_000_000, version / 1000 % 1000, version % 1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packed_version_is_read_as_people_write_it() {
        assert_eq!(dotted(11_003_000), "11.3.0");
    }

    #[tokio::test]
    async fn a_daemon_that_is_not_there_is_an_answer_too() {
        let libvirt = Libvirt::start().unwrap();
        assert!(libvirt.version().await.is_err());
    }
}
