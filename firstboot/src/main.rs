//! quantix-firstboot: what a person sees at the machine itself, on its screen and its serial line.

use std::process::ExitCode;

mod console;
mod form;
mod view;

fn main() -> ExitCode {
    quantix_service::start_log();
    let args: Vec<String> = std::env::args().skip(1).collect();
    let result = match args.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["console"] => console::run("/run/quantix/api.sock".as_ref()),
        ["console", "--agent", socket] => console::run(socket.as_ref()),
        _ => {
            log::error!("Usage: quantix-firstboot console [--agent SOCKET]");
            return ExitCode::from(2);
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            log::error!("The console screen ends: {error}");
            ExitCode::FAILURE
        }
    }
}
