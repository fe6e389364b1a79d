//! Files that somebody brings to become images.

use std::{fs, path::Path, process::Command};

use quantix_api::{NewImage, calls};
use quantix_browser::{Desk, Host, LOOKS};

use crate::machines::has_pool;

const MIB: usize = 1 << 20;

/// What looks like a disk, and is another one for each letter.
fn disk(path: &Path, letter: u8) -> Vec<u8> {
    let mut disk = vec![letter; 9 * MIB];
    disk[510..512].copy_from_slice(b"\x55\xaa");
    fs::write(path, &disk).unwrap();
    disk
}

#[expect(clippy::disallowed_methods, reason = "another program says what the sum is")]
fn sum(path: &Path) -> String {
    let said = Command::new("sha256sum").arg(path).output().unwrap().stdout;
    String::from_utf8(said).unwrap().split(' ').next().unwrap().to_owned()
}

#[tokio::test]
async fn several_are_brought_and_one_that_was_begun_goes_on() {
    let host = Host::with_machines("qx-01").await;
    has_pool(&host).await;
    let (client, session) = (host.agent(), host.session().await);
    let folder = tempfile::tempdir().unwrap();
    let [one, begun, none] =
        ["debian-13.raw", "ubuntu-24.04.raw", "notes.txt"].map(|name| folder.path().join(name));
    disk(&one, 1);
    let content = disk(&begun, 2);
    fs::write(&none, "no disk").unwrap();
    // A part of it came before somebody closed the browser.
    let name = "ubuntu-24.04.raw".to_owned();
    let (file, pool, length) = (name.clone(), "local".to_owned(), content.len() as u64);
    let new = NewImage { name, file, pool, length, sha256: None };
    let image = client.call(&calls::make_image(&new).as_session(&session)).await.unwrap();
    let piece = content[..5 * MIB].to_vec();
    client.call(&calls::bring_image(&image.id, 0, piece).as_session(&session)).await.unwrap();

    let desk = Desk::at(&host).await;
    desk.sign_in().await;
    desk.open("/storage/images").await;
    let all = [&one, &begun, &none].map(|path| path.display().to_string()).join("\n");
    desk.fill("Files", &all).await;
    desk.press("Upload").await;
    for path in [&one, &begun] {
        desk.sees(&format!("Ready. Its SHA-256 is {}", sum(path))).await;
    }
    desk.sees("It was not taken. Why is in Activity.").await;
    for look in LOOKS {
        desk.look_as(look).await;
        desk.picture(&format!("storage-images.brought.{}", look.name)).await;
        let mut findings = desk.findings().await;
        // That one is not there is how it is told that it was not taken.
        findings.retain(|finding| !finding.contains("status of 404"));
        assert_eq!(findings, Vec::<String>::new());
    }
    let images = client.call(&calls::images().as_session(&session)).await.unwrap().items;
    let names: Vec<_> = images.iter().map(|image| image.name.as_str()).collect();
    assert_eq!(names, ["debian-13.raw", "ubuntu-24.04.raw"]);
    assert_eq!(images[1].id, image.id);
    // What it is is shown later, too.
    desk.look_as(LOOKS[0]).await;
    desk.open("/storage/images").await;
    desk.follow("Edit debian-13.raw").await;
    desk.sees(&sum(&one)).await;
    desk.picture("storage-images--image--edit.light").await;
}
