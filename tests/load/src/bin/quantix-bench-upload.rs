//! `quantix-bench-upload FOLDER`: how fast an image comes, with `qx` over TLS, beside the same file that curl puts on Debian's
//! nginx over TLS.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a bench prints, and ends at what it did not expect"
)]

use std::{
    fs,
    io::{Read, Write},
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    time::{Duration, Instant},
};

use quantix_api::{ImageState, calls};
use quantix_load::{
    peers::Peer,
    programs::{PASSWORD, Programs},
};

const MIB: usize = 512;
/// Each way, in turn.
const ROUNDS: usize = 7;

/// Runs a program to its end.
#[expect(clippy::disallowed_methods, reason = "what is measured are processes")]
fn run(program: &Path, args: &[&str], home: &Path, typed: &str) -> Output {
    let mut child = Command::new(program)
        .args(args)
        .env("XDG_STATE_HOME", home)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(typed.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

fn timed(program: &Path, args: &[&str], home: &Path) -> Duration {
    let begin = Instant::now();
    let output = run(program, args, home, "");
    let took = begin.elapsed();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    took
}

/// Signs `qx` in, which trusts the certificate that it is told of.
fn sign_in(qx: &Path, address: &str, home: &Path) {
    let refused = run(qx, &["sign-in", address], home, &format!("{PASSWORD}\n"));
    let refused = String::from_utf8_lossy(&refused.stderr).into_owned();
    let fingerprint = refused.trim().rsplit(' ').next().unwrap();
    let signed_in =
        run(qx, &["sign-in", address, "--fingerprint", fingerprint], home, &format!("{PASSWORD}\n"));
    assert!(signed_in.status.success(), "{}", String::from_utf8_lossy(&signed_in.stderr));
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

fn rate(took: Duration) -> f64 {
    MIB as f64 / took.as_secs_f64()
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let built = PathBuf::from(std::env::args().nth(1).unwrap());
    let folder = tempfile::tempdir_in(".").unwrap();
    let folder = folder.path().canonicalize().unwrap();
    let programs = Programs::start(&built, &folder, 1, 0, None).await;
    let (session, client, home) = (&programs.sessions[0], programs.agent(), folder.join("home"));
    let qx = built.join("qx");
    sign_in(&qx, &format!("localhost:{}", programs.port()), &home);
    let nginx = Peer::nginx(&folder).await.unwrap();

    // What cannot be made smaller on its way, and what is in the memory already when it is read.
    let file = folder.join("image");
    let mut content = Vec::new();
    fs::File::open("/dev/urandom").unwrap().take((MIB << 20) as u64).read_to_end(&mut content).unwrap();
    fs::write(&file, &content).unwrap();
    drop(content);
    let (file, ca) = (file.display().to_string(), folder.join("state/tls/cert.pem").display().to_string());
    let (mut ours, mut theirs, mut worked) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        let address = format!("https://localhost:{}/{round}", nginx.port());
        let put = ["--silent", "--show-error", "--fail", "--cacert", &ca, "-T", &file, &address];
        theirs.push(timed(Path::new("curl"), &put, &home));
        fs::remove_file(folder.join("files").join(round.to_string())).unwrap();
        let name = format!("image {round}");
        let before = programs.worked();
        ours.push(timed(&qx, &["image", "upload", &file, "--name", &name, "--no-wait"], &home));
        let after = programs.worked();
        worked.push((after.0 - before.0) + (after.1 - before.1));
        // In the end it is refused, for nobody knows what it is, and its file is removed.
        loop {
            let images = client.call(&calls::images().as_session(session)).await.unwrap().items;
            if !images.iter().any(|image| image.name == name && image.state != ImageState::Ready) {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    let (ours, theirs, worked) = (median(ours), median(theirs), median(worked));
    println!("| {MIB} MiB over TLS on loopback, median of {ROUNDS} | MiB/s | beside curl |");
    println!("| --- | --- | --- |");
    println!("| `curl -T` to nginx | {:.0} | |", rate(theirs));
    println!(
        "| `qx image upload`, in pieces of up to 64 MiB | {:.0} | {:.2} |",
        rate(ours),
        rate(ours) / rate(theirs)
    );
    println!();
    println!("For one, page server and agent work {} ms of {} ms.", worked.as_millis(), ours.as_millis());
}
