//! `quantix-member FOLDER IP PORT ADDRESS`: one host of the store, which others reach at the address.

use std::{path::PathBuf, process::ExitCode};

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> ExitCode {
    let args: Vec<_> = std::env::args().skip(1).collect();
    let [folder, ip, port, address] = args.as_slice() else { return ExitCode::from(2) };
    let Ok(port) = port.parse() else { return ExitCode::from(2) };
    match quantix_torture::member::run(&PathBuf::from(folder), ip, port, address).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            use std::io::Write;
            let _ = writeln!(std::io::stderr(), "{error}");
            ExitCode::FAILURE
        }
    }
}
