//! Images that are fetched from an address: from a server that cuts, changes, lies and leads astray.

use std::{
    collections::VecDeque,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use quantix_api::{
    Catalogue, FetchImage, FetchSshKeys, Image, ImageState, Problem, RemoveImage, SetCatalogue, Task,
    TaskState, calls,
};
use rustls::{
    ServerConfig,
    crypto::aws_lc_rs,
    pki_types::{PrivateKeyDer, pem::PemObject},
};
use sha2::{Digest, Sha256, Sha512};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};
use tokio_rustls::TlsAcceptor;

use crate::{
    hosts::{problem, until},
    place::Place,
};

const MIB: usize = 1 << 20;

/// What a server does with who asks next; after the last, it is honest.
#[derive(Clone, Copy, Debug)]
enum Does {
    /// Sends so many bytes, and hangs up.
    CutsAfter(usize),
    /// Sends a byte in each so many milliseconds.
    Crawls(u64),
    /// Is out of order.
    Fails,
}

#[derive(Debug, Default)]
struct Behaviour {
    file: Vec<u8>,
    /// What it offers.
    catalogue: String,
    tag: &'static str,
    next: VecDeque<Does>,
    /// The heads of what was asked.
    asked: Vec<String>,
}

/// A server over TLS, and what vouches for it.
struct Server {
    address: SocketAddr,
    authority: String,
    behaviour: Arc<Mutex<Behaviour>>,
}

/// A disk of so many bytes that begins as disks do.
fn disk(bytes: usize, filled_with: u8) -> Vec<u8> {
    let mut disk = vec![filled_with; bytes];
    disk[..510].fill(0);
    disk[510..512].copy_from_slice(&[0x55, 0xaa]);
    disk
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

impl Server {
    async fn start(file: Vec<u8>, next: impl IntoIterator<Item = Does>) -> Self {
        let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
        let key = PrivateKeyDer::from_pem_slice(made.signing_key.serialize_pem().as_bytes()).unwrap();
        let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let behaviour = Behaviour {
            file,
            catalogue: String::new(),
            tag: "\"one\"",
            next: next.into_iter().collect(),
            asked: Vec::new(),
        };
        let behaviour = Arc::new(Mutex::new(behaviour));
        let shared = Arc::clone(&behaviour);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, shared) = (acceptor.clone(), Arc::clone(&shared));
                tokio::spawn(async move {
                    if let Ok(mut stream) = acceptor.accept(stream).await {
                        answer(&mut stream, &shared).await;
                        let _ = stream.shutdown().await;
                    }
                });
            }
        });
        Self { address, authority: made.cert.pem(), behaviour }
    }

    fn wanted(&self, path: &str) -> FetchImage {
        FetchImage {
            url: format!("https://{}{path}", self.address),
            name: "debian-13".into(),
            pool: "local".into(),
            allow_private: true,
            authority: self.authority.clone(),
            ..FetchImage::default()
        }
    }

    /// Behind how many bytes it was asked to go on, each time.
    fn ranges(&self) -> Vec<Option<usize>> {
        let asked = self.behaviour.lock().unwrap();
        let files = asked.asked.iter().filter(|head| head.starts_with("GET /disk.raw"));
        files.map(|head| head.split("range: bytes=").nth(1)?.split('-').next()?.parse().ok()).collect()
    }
}

async fn answer(stream: &mut (impl AsyncReadExt + AsyncWriteExt + Unpin), shared: &Mutex<Behaviour>) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        if stream.read(&mut byte).await.is_ok_and(|count| count == 0) {
            return;
        }
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).unwrap();
    let (file, catalogue, tag, does) = {
        let mut shared = shared.lock().unwrap();
        shared.asked.push(head.clone());
        let does = if head.starts_with("GET /disk.raw") { shared.next.pop_front() } else { None };
        (shared.file.clone(), shared.catalogue.clone(), shared.tag, does)
    };
    let path = head.split(' ').nth(1).unwrap();
    let text = match path {
        "/disk.raw" => {
            let at = head.split("range: bytes=").nth(1).and_then(|rest| rest.split('-').next()?.parse().ok());
            let at = at.filter(|_| head.contains(&format!("if-range: {tag}"))).unwrap_or(0);
            if matches!(does, Some(Does::Fails)) {
                let _ = stream.write_all(b"HTTP/1.1 503 Away\r\ncontent-length: 0\r\n\r\n").await;
                return;
            }
            let (whole, part) = (file.len(), &file[at..]);
            let first = if at > 0 {
                format!("206 Partial Content\r\ncontent-range: bytes {at}-{}/{whole}", whole - 1)
            } else {
                "200 OK".to_owned()
            };
            let head = format!("HTTP/1.1 {first}\r\netag: {tag}\r\ncontent-length: {}\r\n\r\n", part.len());
            let _ = stream.write_all(head.as_bytes()).await;
            match does {
                Some(Does::CutsAfter(bytes)) => {
                    let _ = stream.write_all(&part[..bytes.min(part.len())]).await;
                }
                Some(Does::Crawls(ms)) => {
                    for byte in part {
                        if stream.write_all(&[*byte]).await.is_err() || stream.flush().await.is_err() {
                            return;
                        }
                        tokio::time::sleep(Duration::from_millis(ms)).await;
                    }
                }
                _ => {
                    let _ = stream.write_all(part).await;
                }
            }
            let _ = stream.flush().await;
            return;
        }
        "/sums" => {
            let list = format!(
                "{}  other.raw\n{}  disk.raw\n",
                hex(&Sha512::digest(b"")),
                hex(&Sha512::digest(&file))
            );
            format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{list}", list.len())
        }
        "/catalogue.json" => {
            format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{catalogue}", catalogue.len())
        }
        "/ada.keys" => {
            let keys = "# of Ada\nssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8gISIjJCUm ada@desk\n";
            format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{keys}", keys.len())
        }
        "/latest/disk.raw" => {
            "HTTP/1.1 302 Found\r\nlocation: ../disk.raw\r\ncontent-length: 0\r\n\r\n".replace("../", "/")
        }
        "/round" => "HTTP/1.1 302 Found\r\nlocation: /round\r\ncontent-length: 0\r\n\r\n".to_owned(),
        "/down" => {
            "HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1/x\r\ncontent-length: 0\r\n\r\n".to_owned()
        }
        "/huge.raw" => "HTTP/1.1 200 OK\r\ncontent-length: 1000000000000000\r\n\r\n".to_owned(),
        _ => "HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n".to_owned(),
    };
    let _ = stream.write_all(text.as_bytes()).await;
}

impl Place {
    async fn fetch(&self, wanted: &FetchImage) -> Result<Task, Problem> {
        match self.host.client().call(&calls::fetch_image(wanted).as_session(&self.session)).await {
            Ok(task) => Ok(task),
            failed => Err(problem(failed)),
        }
    }

    async fn fetched(&self, wanted: &FetchImage) -> Task {
        let task = self.fetch(wanted).await.unwrap();
        self.ended(task.id).await
    }

    pub(crate) async fn all_images(&self) -> Vec<Image> {
        self.host.client().call(&calls::images().as_session(&self.session)).await.unwrap().items
    }

    fn in_images(&self) -> Vec<String> {
        let folder = self.host.dir().join("quantix-pools/local/images");
        let files = std::fs::read_dir(folder).into_iter().flatten();
        files.map(|file| file.unwrap().file_name().into_string().unwrap()).collect()
    }

    async fn remove_the_image(&self) {
        let image = self.all_images().await.remove(0);
        let call =
            calls::remove_image(&image.id, &RemoveImage { name: image.name }).as_session(&self.session);
        let task = self.host.client().call(&call).await.unwrap();
        assert_eq!(self.ended(task.id).await.state, TaskState::Done);
        assert_eq!(self.in_images(), Vec::<String>::new());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_comes_through_a_line_that_breaks_and_a_program_that_is_killed() {
    let mut place = Place::start().await.with_pool().await;
    let file = disk(12 * MIB, 7);
    let does = [Does::CutsAfter(5 * MIB), Does::Fails, Does::CutsAfter(MIB), Does::Crawls(50)];
    let server = Server::start(file.clone(), does).await;
    let wanted = FetchImage {
        checksums: format!("https://{}/sums", server.address),
        ..server.wanted("/latest/disk.raw")
    };
    let task = place.fetch(&wanted).await.unwrap();
    until("it crawls", async || server.ranges().len() == 4).await;
    place.host.kill();
    place.host.start_again();
    place.host.ready().await;
    let task = place.ended(task.id).await;
    assert_eq!(task.state, TaskState::Done, "{task:?}");
    let ranges = server.ranges();
    assert_eq!(ranges[..4], [None, Some(5 * MIB), Some(5 * MIB), Some(6 * MIB)], "{ranges:?}");
    assert!(ranges[4..].iter().all(|at| at.is_some_and(|at| at >= 6 * MIB)), "{ranges:?}");
    let image = place.all_images().await.remove(0);
    assert_eq!(
        (image.state, image.length, image.os.as_str()),
        (ImageState::Ready, file.len() as u64, "debian")
    );
    assert_eq!(image.sha256, Some(hex(&Sha256::digest(&file))));
    assert_eq!(place.in_images(), [format!("{}.qcow2", image.id)]);
    place.all_is_whole();
    place.remove_the_image().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_changes_while_it_comes_comes_anew() {
    let place = Place::start().await.with_pool().await;
    let server = Server::start(disk(6 * MIB, 1), [Does::CutsAfter(5 * MIB), Does::Fails]).await;
    let task = place.fetch(&server.wanted("/disk.raw")).await.unwrap();
    until("it was cut", async || server.ranges().len() == 2).await;
    let other = disk(3 * MIB, 2);
    {
        let mut behaviour = server.behaviour.lock().unwrap();
        (behaviour.file, behaviour.tag) = (other.clone(), "\"two\"");
    }
    assert_eq!(place.ended(task.id).await.state, TaskState::Done);
    assert_eq!(place.all_images().await[0].sha256, Some(hex(&Sha256::digest(&other))));
    place.all_is_whole();
    place.remove_the_image().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_what_was_meant_leaves_nothing_and_says_why() {
    let place = Place::start().await.with_pool().await;
    let server = Server::start(disk(MIB, 1), []).await;
    let (right, wrong) = (hex(&Sha256::digest(disk(MIB, 1))), "0".repeat(64));
    for (wanted, why) in [
        (FetchImage { checksum: wrong, ..server.wanted("/disk.raw") }, "is not the one that was meant"),
        (server.wanted("/missing.raw"), "There is no file at this address: the answer was 404"),
        (server.wanted("/round"), "The address leads on and on"),
        (server.wanted("/down"), "Over http anybody on the way can change a file"),
        (server.wanted("/huge.raw"), "There is not so much room in the pool"),
        (FetchImage { allow_private: false, ..server.wanted("/disk.raw") }, "is in a private network"),
        (
            FetchImage {
                checksums: format!("https://{}/missing", server.address),
                ..server.wanted("/disk.raw")
            },
            "The list of checksums could not be fetched",
        ),
        (
            FetchImage {
                checksums: format!("https://{}/sums", server.address),
                ..server.wanted("/latest/other.raw")
            },
            "There is no file at this address",
        ),
    ] {
        let task = place.fetched(&wanted).await;
        assert_eq!(task.state, TaskState::Failed);
        assert!(task.outcome.contains(why), "{}", task.outcome);
        assert_eq!((place.all_images().await, place.in_images()), (Vec::new(), Vec::new()), "{why}");
    }
    for (field, wanted) in [
        ("url", FetchImage { url: "http://192.0.2.1/x".into(), ..server.wanted("") }),
        ("url", FetchImage { url: "file:///etc/shadow".into(), ..server.wanted("") }),
        ("checksum", FetchImage { checksum: "12".into(), ..server.wanted("/disk.raw") }),
        ("checksums", FetchImage { checksums: "http://a/b".into(), ..server.wanted("/disk.raw") }),
        ("authority", FetchImage { authority: "hello".into(), ..server.wanted("/disk.raw") }),
        ("pool", FetchImage { pool: "nowhere".into(), ..server.wanted("/disk.raw") }),
        ("name", FetchImage { name: "a/b\n".into(), ..server.wanted("/disk.raw") }),
    ] {
        assert_eq!(place.fetch(&wanted).await.unwrap_err().field.as_deref(), Some(field));
    }
    let done = place.fetched(&FetchImage { checksum: right, ..server.wanted("/disk.raw") }).await;
    assert_eq!(done.state, TaskState::Done, "{done:?}");
    place.remove_the_image().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_thinks_better_of_it_ends_it_and_nothing_is_left() {
    let place = Place::start().await.with_pool().await;
    let server = Server::start(disk(MIB, 1), [Does::Crawls(20)]).await;
    let task = place.fetch(&server.wanted("/disk.raw")).await.unwrap();
    until("it comes", async || {
        let call = calls::task(task.id).as_session(&place.session);
        place.host.client().call(&call).await.is_ok_and(|task| task.progress.is_some())
    })
    .await;
    place.host.client().call(&calls::cancel_task(task.id).as_session(&place.session)).await.unwrap();
    assert_eq!(place.ended(task.id).await.state, TaskState::Cancelled);
    assert_eq!((place.all_images().await, place.in_images()), (Vec::new(), Vec::new()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_catalogue_of_ones_own_is_offered_until_it_is_taken_back() {
    let place = Place::start().await.with_pool().await;
    let server = Server::start(disk(2 * MIB, 7), []).await;
    let offered =
        async || place.host.client().call(&calls::catalogue().as_session(&place.session)).await.unwrap();
    let set = async |allow_private| {
        let url = format!("https://{}/catalogue.json", server.address);
        let body = SetCatalogue { url, allow_private, authority: server.authority.clone() };
        place.host.client().call(&calls::set_catalogue(&body).as_session(&place.session)).await
    };
    let says = |text: String| server.behaviour.lock().unwrap().catalogue = text;
    let built_in = offered().await;
    assert!(built_in.from.is_none() && built_in.items.iter().any(|offer| offer.id == "debian-13"));
    let at = server.address;
    says(format!(
        r#"{{"items":[{{"id":"ours","name":"Ours","url":"https://{at}/disk.raw","checksums":"https://{at}/sums"}}]}}"#
    ));
    let refused = problem(set(false).await);
    assert!(refused.detail.contains("private network"), "{refused:?}");
    let told: Catalogue = set(true).await.unwrap();
    assert_eq!((told.items.len(), told.items[0].id.as_str()), (1, "ours"));
    assert_eq!(offered().await, told);
    let from = told.from.clone().unwrap();
    assert!(from.allow_private && from.authority == server.authority);
    let offer = told.items[0].clone();
    let wanted = FetchImage { url: offer.url, checksums: offer.checksums, ..server.wanted("") };
    assert_eq!(place.fetched(&wanted).await.state, TaskState::Done);
    // What is none, or too long, changes nothing.
    for wrong in [
        "<html>".to_owned(),
        r#"{"items":[]}"#.to_owned(),
        r#"{"items":[{"id":"a","name":"A","url":"file:///etc/shadow","checksums":"https://x/y"}]}"#
            .to_owned(),
        " ".repeat(2 * MIB),
    ] {
        says(wrong);
        assert_eq!(problem(set(true).await).field.as_deref(), Some("url"));
        assert_eq!(offered().await, told);
    }
    place.host.client().call(&calls::reset_catalogue().as_session(&place.session)).await.unwrap();
    assert_eq!(offered().await, built_in);
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_are_fetched_from_an_address_and_looked_at() {
    let place = Place::start().await;
    let server = Server::start(disk(4096, 7), []).await;
    let fetched = async |path: &str, allow_private| {
        let url = format!("https://{}{path}", server.address);
        let body = FetchSshKeys { url, allow_private, authority: server.authority.clone() };
        place.host.client().call(&calls::fetch_ssh_keys(&body).as_session(&place.session)).await
    };
    let found = fetched("/ada.keys", true).await.unwrap();
    assert_eq!(found.keys.len(), 1);
    assert!(found.keys[0].starts_with("ssh-ed25519 ") && found.keys[0].ends_with(" ada@desk"), "{found:?}");
    for (path, allow_private, why) in [
        ("/ada.keys", false, "private network"),
        ("/nowhere", true, "404"),
        ("/round", true, "on and on"),
        ("/sums", true, "Line 1"),
        ("/disk.raw", true, "cannot be taken"),
    ] {
        let refused = problem(fetched(path, allow_private).await);
        assert!(
            refused.field.as_deref() == Some("url") && refused.detail.contains(why),
            "{path}: {refused:?}"
        );
    }
}
