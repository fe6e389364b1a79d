//! `quantix-member FOLDER IP PORT`: one host of the store. It ends when its input does.

use std::{path::PathBuf, process::ExitCode};

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> ExitCode {
    let args: Vec<_> = std::env::args().skip(1).collect();
    let [folder, ip, port] = args.as_slice() else { return ExitCode::from(2) };
    let Ok(port) = port.parse() else { return ExitCode::from(2) };
    std::thread::spawn(|| {
        // Nothing is sent; this waits for the end.
        drop(std::io::copy(&mut std::io::stdin(), &mut std::io::sink()));
        std::process::exit(0);
    });
    match quantix_torture::member::run(&PathBuf::from(folder), ip, port).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            use std::io::Write;
            let _ = writeln!(std::io::stderr(), "{error}");
            ExitCode::FAILURE
        }
    }
}
