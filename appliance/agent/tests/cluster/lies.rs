//! Files that lie: servers that send without an end, or something else than they say, that lead to where nobody is to be led,
//! and files that are small and want all there is.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use quantix_api::{FetchImage, RemoveImage, Task, TaskState, calls};
use sha2::{Digest, Sha256};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

use crate::{hosts::until, place::Place};

const MIB: usize = 1 << 20;

#[expect(clippy::disallowed_methods, reason = "tests prepare what the product finds")]
fn tries(program: &str, args: &[&str]) -> Result<Vec<u8>, String> {
    let done = Command::new(program).args(args).output().unwrap();
    if done.status.success() { Ok(done.stdout) } else { Err(String::from_utf8_lossy(&done.stderr).into()) }
}

#[track_caller]
fn ran(program: &str, args: &[&str]) -> Vec<u8> {
    tries(program, args).unwrap_or_else(|why| panic!("{program} {args:?}: {why}"))
}

/// A disk of so many bytes that begins as disks do.
fn disk(bytes: usize, filled_with: u8) -> Vec<u8> {
    let mut disk = vec![filled_with; bytes];
    disk[..510].fill(0);
    disk[510..512].copy_from_slice(&[0x55, 0xaa]);
    disk
}

fn sum(file: &[u8]) -> String {
    Sha256::digest(file).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What a server says to whoever asks.
pub(crate) enum Answer {
    /// This; then it hangs up.
    Says(Vec<u8>),
    /// This, and then this again and again.
    Repeats(Vec<u8>, Vec<u8>),
}

pub(crate) fn says(head: &str, body: &[u8]) -> Answer {
    Answer::Says([format!("HTTP/1.1 {head}\r\n\r\n").as_bytes(), body].concat())
}

/// Behind how many bytes somebody asks to go on.
fn behind(asked: &str) -> Option<usize> {
    asked.split("range: bytes=").nth(1)?.split('-').next()?.parse().ok()
}

/// What an honest server says that has this file, by the tag that all have here.
fn honest(asked: &str, file: &[u8]) -> Answer {
    let whole = file.len();
    match behind(asked) {
        Some(at) if at < whole => {
            let range = format!("bytes {at}-{}/{whole}", whole - 1);
            let head = format!("206 Partial Content\r\netag: \"one\"\r\ncontent-range: {range}");
            says(&format!("{head}\r\ncontent-length: {}", whole - at), &file[at..])
        }
        Some(_) => says("416 Range Not Satisfiable\r\ncontent-length: 0", &[]),
        None => says(&format!("200 OK\r\netag: \"one\"\r\ncontent-length: {whole}"), file),
    }
}

/// A server that answers each request, of which it has had so many before, as it likes.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    /// The heads of what was asked.
    asked: Arc<Mutex<Vec<String>>>,
    /// How many bytes it got rid of.
    sent: Arc<AtomicU64>,
}

impl Server {
    pub(crate) async fn start(
        at: &str,
        answer: impl Fn(usize, &str) -> Answer + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind(at).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (asked, sent) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicU64::new(0)));
        let (heads, got_rid, answer) = (Arc::clone(&asked), Arc::clone(&sent), Arc::new(answer));
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let (heads, got_rid, answer) =
                    (Arc::clone(&heads), Arc::clone(&got_rid), Arc::clone(&answer));
                tokio::spawn(async move {
                    let mut head = Vec::new();
                    while !head.ends_with(b"\r\n\r\n") {
                        let Ok(byte) = stream.read_u8().await else { return };
                        head.push(byte);
                    }
                    let head = String::from_utf8(head).unwrap();
                    let answer = {
                        let mut heads = heads.lock().unwrap();
                        heads.push(head.clone());
                        answer(heads.len() - 1, &head)
                    };
                    let (first, again) = match answer {
                        Answer::Says(all) => (all, None),
                        Answer::Repeats(first, again) => (first, Some(again)),
                    };
                    let mut next = Some(first);
                    while let Some(bytes) = next {
                        if stream.write_all(&bytes).await.is_err() {
                            return;
                        }
                        got_rid.fetch_add(bytes.len() as u64, Ordering::Relaxed);
                        next = again.clone();
                    }
                    let _ = stream.shutdown().await;
                });
            }
        });
        Self { address, asked, sent }
    }

    /// What is fetched from it: that it is not encrypted counts for nothing, because its sum is known.
    pub(crate) fn wanted(&self, name: &str, checksum: String) -> FetchImage {
        FetchImage {
            url: format!("http://{}/disk.raw", self.address),
            name: name.into(),
            pool: "local".into(),
            allow_private: true,
            checksum,
            ..FetchImage::default()
        }
    }

    fn times(&self) -> usize {
        self.asked.lock().unwrap().len()
    }
}

impl Place {
    pub(crate) async fn begins_to_fetch(&self, wanted: &FetchImage) -> Task {
        self.host.client().call(&calls::fetch_image(wanted).as_session(&self.session)).await.unwrap()
    }

    /// The files of images that lie in the pool, whole or not.
    pub(crate) fn images_lie(&self) -> Vec<String> {
        let files = fs::read_dir(self.host.dir().join("quantix-pools/local/images")).into_iter().flatten();
        files.map(|file| file.unwrap().file_name().into_string().unwrap()).collect()
    }

    pub(crate) async fn has_no_images(&self) {
        assert_eq!((self.all_images().await, self.images_lie()), (Vec::new(), Vec::new()));
    }

    pub(crate) async fn removes_images(&self) {
        for image in self.all_images().await {
            let remove = RemoveImage { name: image.name };
            let call = calls::remove_image(&image.id, &remove).as_session(&self.session);
            let task = self.host.client().call(&call).await.unwrap();
            assert_eq!(self.ended(task.id).await.state, TaskState::Done);
        }
        self.has_no_images().await;
    }

    /// Brings a file, and has an image made of it.
    pub(crate) async fn takes(&self, name: &str, file: &str, content: &[u8]) -> Task {
        let image = self.brought(name, file, content).await;
        let finish = calls::finish_image(&image.id).as_session(&self.session);
        self.ended(self.host.client().call(&finish).await.unwrap().id).await
    }
}

#[track_caller]
fn is_refused(task: &Task, why: &str) {
    assert_eq!(task.state, TaskState::Failed, "{task:?}");
    assert!(task.outcome.contains(why), "{}", task.outcome);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_without_an_end_ends_with_the_room_of_its_pool() {
    let (place, pool) = Place::with_small_pool("", 64).await;
    let before = pool.used();
    let chunk = [b"100000\r\n".to_vec(), vec![7; MIB], b"\r\n".to_vec()].concat();
    let head = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n".to_vec();
    let server = Server::start("127.0.0.1:0", move |_, _| Answer::Repeats(head.clone(), chunk.clone())).await;
    let task = place.begins_to_fetch(&server.wanted("endless", sum(b""))).await;
    is_refused(&place.ended(task.id).await, "There is not so much room in the pool");
    place.has_no_images().await;
    assert_eq!(pool.used(), before);
    // It took no more than the pool gives away, and what was on its way.
    assert!(server.sent.load(Ordering::Relaxed) < 80 << 20, "{:?}", server.sent);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_says_something_else_than_before_makes_no_file_of_two() {
    let (place, pool) = Place::with_small_pool("", 160).await;
    let before = pool.used();
    let (file, longer, shorter, other) =
        (disk(4 * MIB, 1), disk(6 * MIB, 2), disk(3 * MIB, 3), disk(4 * MIB, 4));
    let cut = {
        let file = file.clone();
        move || says("200 OK\r\netag: \"one\"\r\ncontent-length: 4194304", &file[..2 * MIB])
    };
    // Cuts what it sends first, lies then so many times, and is honest about one of these files.
    let server = async |lies: Vec<&'static str>, then: &[u8]| {
        let (cut, then, file) = (cut.clone(), then.to_vec(), file.clone());
        Server::start("127.0.0.1:0", move |number, asked| match number.checked_sub(1) {
            None => cut(),
            Some(lie) => match lies.get(lie) {
                Some(lie) => says(lie, &file[MIB..]),
                None => honest(asked, &then),
            },
        })
        .await
    };
    let none = "416 Range Not Satisfiable\r\ncontent-length: 0";
    let mut begun = Vec::new();
    for (name, lies, then) in [
        ("elsewhere", vec!["206 Partial Content\r\ncontent-range: bytes 1048576-4194303/4194304"], &file),
        ("nowhere", vec!["206 Partial Content"], &file),
        ("in letters", vec!["206 Partial Content\r\ncontent-range: bytes two-four/many"], &file),
        ("out of range", vec![none], &file),
        ("longer", vec![], &longer),
        ("shorter", vec![], &shorter),
    ] {
        let server = server(lies, then).await;
        let task = place.begins_to_fetch(&server.wanted(name, sum(then))).await;
        begun.push((name, task, server));
    }
    // First what is cut, and then nothing, and so on.
    let once = cut.clone();
    let on_and_off = Server::start("127.0.0.1:0", move |number, _| match number % 2 {
        0 => once(),
        _ => says(none, &[]),
    })
    .await;
    let on_and_off = (place.begins_to_fetch(&on_and_off.wanted("on and off", sum(&file))).await, on_and_off);
    // As long, by the same name, and another: only its sum tells.
    let same = server(vec![], &other).await;
    let same = (place.begins_to_fetch(&same.wanted("the same", sum(&other))).await, same);
    for (name, task, server) in begun {
        let task = place.ended(task.id).await;
        assert_eq!(task.state, TaskState::Done, "{name}: {task:?}, {:?}", server.asked.lock().unwrap());
    }
    is_refused(&place.ended(same.0.id).await, "is not the one that was meant");
    assert_eq!(same.1.times(), 2);
    is_refused(&place.ended(on_and_off.0.id).await, "The file changes again and again");
    assert_eq!(on_and_off.1.times(), 8);
    assert_eq!(place.images_lie().len(), 6);
    place.removes_images().await;

    // More comes than it said there would be.
    let chunk = [b"100000\r\n".to_vec(), vec![7; MIB], b"\r\n".to_vec()].concat();
    let server = Server::start("127.0.0.1:0", move |number, _| {
        let head = b"HTTP/1.1 206 Partial Content\r\ncontent-range: bytes 2097152-4194303/4194304\r\n\
            transfer-encoding: chunked\r\n\r\n";
        if number == 0 { cut() } else { Answer::Repeats(head.to_vec(), chunk.clone()) }
    })
    .await;
    let task = place.begins_to_fetch(&server.wanted("on and on", sum(&file))).await;
    is_refused(&place.ended(task.id).await, "There is not so much room in the pool");
    place.has_no_images().await;
    assert_eq!(pool.used(), before);

    // Whoever is never told anything else ends it, and nothing is left.
    let server = Server::start("127.0.0.1:0", move |_, _| says(none, &[])).await;
    let task = place.begins_to_fetch(&server.wanted("never", sum(&file))).await;
    until("it was asked twice", async || server.times() > 1).await;
    place.host.client().call(&calls::cancel_task(task.id).as_session(&place.session)).await.unwrap();
    assert_eq!(place.ended(task.id).await.state, TaskState::Cancelled);
    place.has_no_images().await;
}

/// Goes on in a network of its own, in which this machine is somewhere that everybody reaches, and somewhere that only it does.
/// What is started from here on is in it too: this is one thread.
fn as_somebody_public() {
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
    ran("ip", &["link", "set", "lo", "up"]);
    for address in ["1.1.1.1/32", "169.254.169.254/32", "10.0.0.1/32"] {
        ran("ip", &["address", "add", address, "dev", "lo"]);
    }
}

#[tokio::test]
async fn nobody_is_led_from_a_public_address_to_a_private_one() {
    as_somebody_public();
    let place = Place::start().await.with_pool().await;
    let file = disk(MIB, 1);
    let (whole, checksum) = (file.clone(), sum(&file));
    // It leads whoever asks to what stands behind the question mark, by way of another place of its own.
    let server = Server::start("0.0.0.0:0", move |number, asked| {
        let path = asked.split(' ').nth(1).unwrap();
        let status = [301, 302, 303, 307, 308][number % 5];
        let moved =
            |place: String| says(&format!("{status} Moved\r\nlocation: {place}\r\ncontent-length: 0"), &[]);
        match path.split_once('?') {
            Some(("/first", place)) => moved(format!("/second?{place}")),
            Some((_, place)) => moved(place.to_owned()),
            None => honest(asked, &whole),
        }
    })
    .await;
    let port = server.address.port();
    let wanted = |name: &str, url: String, allow_private| FetchImage {
        url,
        allow_private,
        ..server.wanted(name, checksum.clone())
    };
    let public = format!("http://1.1.1.1:{port}");
    let private = [
        format!("http://127.0.0.1:{port}/secret"),
        format!("//127.0.0.1:{port}/secret"),
        format!("http://127.1:{port}/secret"),
        format!("http://2130706433:{port}/secret"),
        format!("http://0x7f.1:{port}/secret"),
        format!("http://0.0.0.0:{port}/secret"),
        format!("http://localhost:{port}/secret"),
        format!("http://169.254.169.254:{port}/secret"),
        format!("http://10.0.0.1:{port}/secret"),
        format!("http://[::1]:{port}/secret"),
        format!("http://[::ffff:127.0.0.1]:{port}/secret"),
        format!("http://[::ffff:a00:1]:{port}/secret"),
    ];
    let mut tasks = Vec::new();
    for (number, to) in private.iter().enumerate() {
        let way = if number % 2 == 0 { "first" } else { "second" };
        let wanted = wanted(&format!("led {number}"), format!("{public}/{way}?{to}"), false);
        tasks.push((to, place.begins_to_fetch(&wanted).await));
    }
    for (to, task) in tasks {
        let task = place.ended(task.id).await;
        assert_eq!(task.state, TaskState::Failed, "{to}: {task:?}");
        // Some ways to write an address are none here.
        let why = ["is in a private network", "This is no address of a file"];
        assert!(why.iter().any(|why| task.outcome.contains(why)), "{to}: {}", task.outcome);
    }
    let was_asked = |path: &str| {
        server.asked.lock().unwrap().iter().any(|asked| asked.starts_with(&format!("GET {path} ")))
    };
    assert!(!was_asked("/secret"));
    place.has_no_images().await;
    // From one public place to another it goes, and to a private one where that was said.
    for (name, to, allow_private) in
        [("public", &format!("{public}/disk.raw"), false), ("private", &private[0], true)]
    {
        let wanted = wanted(name, format!("{public}/first?{to}"), allow_private);
        let task = place.ended(place.begins_to_fetch(&wanted).await.id).await;
        assert_eq!(task.state, TaskState::Done, "{task:?}");
    }
    assert!(was_asked("/secret") && was_asked("/disk.raw"));
}

/// Looks, for as long as it is there, at how much memory an agent and what it starts take.
struct Looked {
    most: Arc<Mutex<Vec<(String, u64)>>>,
    goes_on: Arc<AtomicBool>,
    looks: Option<std::thread::JoinHandle<()>>,
}

impl Looked {
    fn at_agent_in(dir: &Path) -> Self {
        let (most, goes_on) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicBool::new(true)));
        let agent = running()
            .find(|process| {
                let command = fs::read(process.join("cmdline")).unwrap_or_default();
                let command = String::from_utf8_lossy(&command).into_owned();
                command.contains("quantixd\0") && command.contains(&*dir.to_string_lossy())
            })
            .unwrap();
        let (noted, on) = (Arc::clone(&most), Arc::clone(&goes_on));
        let looks = std::thread::spawn(move || {
            let parent = format!("PPid:\t{}\n", agent.file_name().unwrap().to_str().unwrap());
            while on.load(Ordering::Relaxed) {
                for process in running() {
                    let status = fs::read_to_string(process.join("status")).unwrap_or_default();
                    if process != agent && !status.contains(&parent) {
                        continue;
                    }
                    let says =
                        |what: &str| status.lines().find_map(|line| line.strip_prefix(what)).map(str::trim);
                    if let (Some(name), Some(kib)) = (says("Name:"), says("VmHWM:")) {
                        let mib = kib.trim_end_matches(" kB").parse::<u64>().unwrap() >> 10;
                        noted.lock().unwrap().push((name.to_owned(), mib));
                    }
                }
                std::thread::sleep(Duration::from_millis(10));
            }
        });
        Self { most, goes_on, looks: Some(looks) }
    }

    /// How many MiB each took at most, by what it is called.
    fn end(mut self) -> Vec<(String, u64)> {
        self.goes_on.store(false, Ordering::Relaxed);
        self.looks.take().unwrap().join().unwrap();
        let mut all = self.most.lock().unwrap().clone();
        all.sort_by(|one, other| (&one.0, other.1).cmp(&(&other.0, one.1)));
        all.dedup_by(|one, other| one.0 == other.0);
        all
    }
}

fn running() -> impl Iterator<Item = PathBuf> {
    let all = fs::read_dir("/proc").unwrap().map(|entry| entry.unwrap().path());
    all.filter(|path| path.file_name().unwrap().to_str().unwrap().bytes().all(|byte| byte.is_ascii_digit()))
}

fn crc32(bytes: &[u8]) -> u32 {
    let bit = |crc: u32| (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg());
    !bytes.iter().fold(!0, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), |crc, _| bit(crc)))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_small_file_that_unpacks_to_more_than_there_is_does_no_harm() {
    let (place, pool) = Place::with_small_pool("", 64).await;
    let before = pool.used();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("16 MiB");
    fs::write(&path, vec![7; 16 * MIB]).unwrap();
    let path = path.display().to_string();
    let looked = Looked::at_agent_in(place.host.dir());
    // Several packed files one behind the other are one: 4 GiB.
    for (program, ending) in [("gzip", "gz"), ("xz", "xz"), ("zstd", "zst"), ("bzip2", "bz2")] {
        let bomb = ran(program, &["-c", "-q", &path]).repeat(256);
        assert!(bomb.len() < 8 * MIB, "{program}: {}", bomb.len());
        let task = place.takes("bomb", &format!("bomb.raw.{ending}"), &bomb).await;
        is_refused(&task, "Unpacked it needs more room than the pool may give");
        place.has_no_images().await;
        assert_eq!(pool.used(), before, "{program}");
    }
    // Whoever unpacks these has to remember more than a gigabyte.
    let small = dir.path().join("small");
    fs::write(&small, disk(MIB, 7)).unwrap();
    let mut xz = ran("xz", &["-c", "-0", "-T1", &small.display().to_string()]);
    assert_eq!(xz[12..16], [2, 0, 0x21, 1], "the head of the block is another");
    xz[16] = 37;
    let sum = crc32(&xz[12..20]);
    xz[20..24].copy_from_slice(&sum.to_le_bytes());
    let mut zst = zstd::stream::encode_all(&fs::read(&small).unwrap()[..], 1).unwrap();
    assert_eq!(zst[4] & 0x23, 0, "the head of the frame is another");
    zst[5] = 21 << 3;
    for (program, file, ending, little, much) in
        [("xz", xz, "xz", "-M1GiB", "-M8GiB"), ("zstd", zst, "zst", "--memory=1024MiB", "--long=31")]
    {
        let path = dir.path().join(format!("disk.raw.{ending}")).display().to_string();
        fs::write(&path, &file).unwrap();
        ran(program, &["-tq", much, &path]);
        tries(program, &["-tq", little, &path]).unwrap_err();
        let task = place.takes("wants much", &format!("disk.raw.{ending}"), &file).await;
        is_refused(&task, "256 MiB");
        place.has_no_images().await;
        assert_eq!(pool.used(), before, "{program}");
    }
    let looked = looked.end();
    assert!(looked.iter().any(|(name, _)| name == "quantixd") && looked.len() > 4, "{looked:?}");
    assert!(looked.iter().all(|(_, mib)| *mib < 320), "{looked:?}");
}
