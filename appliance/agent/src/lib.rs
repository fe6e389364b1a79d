//! quantixd: the one program on a host that decides and acts. Everything else asks it over its socket.

use std::{
    ffi::OsString,
    path::PathBuf,
    process::ExitCode,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

mod account;
mod acme;
mod api;
mod audit;
mod certificate;
mod changes;
mod cluster;
mod durable;
mod duties;
mod events;
#[cfg(feature = "fuzz")]
pub mod fuzz;
mod hashing;
mod list;
mod metrics;
mod options;
mod outside;
mod provider;
mod rate;
mod sessions;
mod storage;
mod syslog;
mod tasks;
mod throttle;
mod version;
mod vms;

use quantix_api::text;
use tokio::sync::oneshot;

/// How long requests that were being answered have left when the service is asked to end.
const LAST_ANSWERS: Duration = Duration::from_secs(5);
const LAST_WORK: Duration = Duration::from_secs(5);

/// The agent, from its start to its end, as its command line says.
pub fn run(args: impl Iterator<Item = OsString>) -> ExitCode {
    let options = match options::Options::from_args(args) {
        Ok(options) => options,
        Err(sentence) => {
            use std::io::Write;
            let _ = writeln!(std::io::stderr(), "{sentence}");
            return ExitCode::from(2);
        }
    };
    quantix_service::start_log();
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    // Two workers serve a page in milliseconds on any host; more would only hold memory.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .max_blocking_threads(8)
        .enable_all()
        .build();
    match runtime {
        Ok(runtime) => {
            let served = runtime.block_on(serve(options));
            // Work that hangs on a dead disk does not keep the process.
            runtime.shutdown_timeout(LAST_WORK);
            match served {
                Ok(()) => ExitCode::SUCCESS,
                Err(error) => {
                    log::error!("The agent ends: {error}");
                    ExitCode::FAILURE
                }
            }
        }
        Err(error) => {
            log::error!("The agent cannot start: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn serve(options: options::Options) -> Result<(), StartError> {
    let hosts = tokio::net::TcpListener::bind(options.hosts).await;
    let hosts = hosts.map_err(|error| StartError::Port(options.hosts, error))?;
    // Port 0 stands for any that is free.
    let reached = hosts.local_addr().unwrap_or(options.hosts);
    let agent = api::Agent::open(&options, reached).map_err(StartError::Libvirt)?;
    let socket = options.run_dir.join("api.sock");
    let listener = api::listen(&socket).map_err(|error| StartError::Socket(socket.clone(), error))?;
    let client = quantix_api::AgentClient::new(&socket);
    log::info!(socket:% = socket.display(); "The agent answers at {}", socket.display());
    quantix_service::ready("answering");
    let (ask_to_end, asked_to_end) = oneshot::channel::<()>();
    let served = api::serve(listener, hosts, Arc::clone(&agent), async {
        let _ = asked_to_end.await;
    });
    tokio::pin!(served);
    tokio::select! {
        ended = &mut served => return ended.map_err(StartError::Serve),
        () = async {
            // Ready means that the API answers, so that is what the watchdog asks.
            quantix_service::feed_watchdog(|| async { client.call(&quantix_api::calls::ready()).await.is_ok() }).await;
            std::future::pending::<()>().await;
        } => {}
        () = async {
            quantix_service::asked_to_end().await;
            agent.changes.end();
            agent.prepare_to_end().await;
        } => {}
    }
    drop(ask_to_end);
    match tokio::time::timeout(LAST_ANSWERS, served).await {
        Ok(ended) => ended.map_err(StartError::Serve),
        Err(_) => Ok(()),
    }
}

/// A panic in a holder would have ended the process; in tests the value is still whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[derive(Debug, thiserror::Error)]
enum StartError {
    #[error("the socket {} cannot be made: {}", .0.display(), .1)]
    Socket(PathBuf, std::io::Error),
    #[error("the port for other hosts, {0}, cannot be opened: {1}")]
    Port(std::net::SocketAddr, std::io::Error),
    #[error("libvirt cannot be asked: {0}")]
    Libvirt(std::io::Error),
    #[error("the socket cannot be served: {0}")]
    Serve(std::io::Error),
}
