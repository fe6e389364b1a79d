//! quantix-hostui: the pages. It faces the network and holds no authority: it speaks TLS, draws pages, and asks the
//! agent with the person's own session.

use std::process::ExitCode;

mod access;
mod account;
mod activity;
mod address;
mod api;
mod assets;
mod backup;
mod certificate;
mod cluster;
mod component;
mod confirm;
mod consoles;
mod dev;
mod events;
mod find;
mod folders;
mod frame;
#[cfg(feature = "fuzz")]
pub mod fuzz;
mod groups;
mod health;
mod hosts;
mod idle;
mod live;
mod load;
mod member;
mod next;
mod options;
mod origin;
mod overview;
mod places;
mod power;
mod problem;
mod provider;
mod reader;
mod redirect;
mod reference;
mod roles;
mod server;
mod session;
mod settings;
mod shown;
mod storage;
mod syslog;
mod tasks;
mod users;
mod vms;
mod web;
mod words;

/// The page server, from its start to its end, as its command line says.
pub fn run(args: impl Iterator<Item = String>) -> ExitCode {
    quantix_service::start_log();
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let options = match options::Options::from_args(args) {
        Ok(options) => options,
        Err(sentence) => {
            log::error!("{sentence}");
            return ExitCode::from(2);
        }
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .max_blocking_threads(2)
        .enable_all()
        .build();
    match runtime
        .map_err(server::StartError::Runtime)
        .and_then(|runtime| runtime.block_on(server::serve(options)))
    {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            log::error!("The pages cannot be served: {error}");
            ExitCode::FAILURE
        }
    }
}
