//! quantixd: the one program on a host that decides and acts. Everything else asks it over its socket.

use std::{path::PathBuf, process::ExitCode};

mod account;
mod api;
mod certificate;
mod durable;
mod options;
mod sessions;
mod throttle;

fn main() -> ExitCode {
    let options = match options::Options::from_args(std::env::args_os().skip(1)) {
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
        Ok(runtime) => match runtime.block_on(serve(options)) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                log::error!("The agent ends: {error}");
                ExitCode::FAILURE
            }
        },
        Err(error) => {
            log::error!("The agent cannot start: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn serve(options: options::Options) -> Result<(), StartError> {
    let agent = api::Agent::open(&options.state_dir);
    let socket = options.run_dir.join("api.sock");
    let listener = api::listen(&socket).map_err(|error| StartError::Socket(socket.clone(), error))?;
    let client = quantix_api::AgentClient::new(&socket);
    log::info!(socket:% = socket.display(); "The agent answers at {}", socket.display());
    quantix_service::ready("answering");
    tokio::select! {
        ended = api::serve(listener, agent) => ended.map_err(StartError::Serve),
        () = async {
            // Ready means that the API answers, so that is what the watchdog asks.
            quantix_service::feed_watchdog(|| async { client.call(&quantix_api::calls::ready()).await.is_ok() }).await;
            std::future::pending::<()>().await;
        } => Ok(()),
        () = quantix_service::asked_to_end() => Ok(()),
    }
}

#[derive(Debug, thiserror::Error)]
enum StartError {
    #[error("the socket {} cannot be made: {}", .0.display(), .1)]
    Socket(PathBuf, std::io::Error),
    #[error("the socket cannot be served: {0}")]
    Serve(std::io::Error),
}
