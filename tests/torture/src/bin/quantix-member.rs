//! `quantix-member FOLDER IP PORT`: one host of the store. It ends when its input does.

use std::{
    io::{self, Write},
    path::PathBuf,
    process::ExitCode,
    time::Instant,
};

/// What the store has to say goes where errors go.
struct Said(Instant);

impl log::Log for Said {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        let since = self.0.elapsed().as_secs_f32();
        let _ = writeln!(io::stderr(), "[{since:9.3}] {}", record.args());
    }

    fn flush(&self) {}
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> ExitCode {
    if log::set_boxed_logger(Box::new(Said(Instant::now()))).is_ok() {
        log::set_max_level(log::LevelFilter::Info);
    }
    let args: Vec<_> = std::env::args().skip(1).collect();
    let [folder, ip, port] = args.as_slice() else { return ExitCode::from(2) };
    let Ok(port) = port.parse() else { return ExitCode::from(2) };
    std::thread::spawn(|| {
        // Nothing is sent; this waits for the end.
        drop(io::copy(&mut io::stdin(), &mut io::sink()));
        std::process::exit(0);
    });
    match quantix_torture::member::run(&PathBuf::from(folder), ip, port).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "{error}");
            ExitCode::FAILURE
        }
    }
}
