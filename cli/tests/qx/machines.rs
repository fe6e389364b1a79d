//! Machines, their disks and snapshots.

use std::process::Command;

use super::host::{Host, until};

#[test]
fn machines_are_made_switched_put_into_folders_and_removed() {
    let (host, daemon) = Host::with_machines("qx-1");
    host.done(&["folder", "make", "Production"], "");
    host.done(&["folder", "make", "Production/Web"], "");
    let make =
        ["vm", "make", "web-01", "--cpus", "1", "--memory", "64", "--label", "team=web", "--disk", "1G"];
    let could = host.done(&[&make[..], &["--check"]].concat(), "");
    assert!(could.contains("It can be made like this."), "{could}");
    let refusal = host.refused(&["vm", "make", "a/b", "--check"], "");
    assert!(refusal.contains("A name is one line"), "{refusal}");
    assert!(!host.done(&["vm", "list"], "").contains("web-01"));
    let made = host.done(&[&make[..], &["--folder", "production/web", "--start"]].concat(), "");
    assert!(made.contains("web-01 is made."), "{made}");
    until(|| host.done(&["vm", "list", "--state", "running"], "").contains("web-01"));
    let counted = host.done(&["vm", "count"], "");
    let counted: Vec<_> = counted.split_whitespace().collect();
    assert_eq!(counted, "WHICH VMS all 1 on 1 off 0 attention 0 template 0".split(' ').collect::<Vec<_>>());
    assert!(host.done(&["vm", "list", "--state", "on"], "").contains("web-01"));
    assert!(!host.done(&["vm", "list", "--state", "attention"], "").contains("web-01"));
    let refusal = host.refused(&["vm", "remove", "web-01", "--confirm", "web-01"], "");
    assert!(refusal.contains("It is on. Shut it down or force it off first."), "{refusal}");
    host.done(&["vm", "change", "web-01", "--memory", "96", "--folder", "/"], "");
    until(|| host.done(&["vm", "show", "web-01"], "").contains("counts from its next start"));
    let off = host.done(&["vm", "force-stop", "web-01"], "");
    assert!(off.contains("web-01 is off."), "{off}");
    let shown: serde_json::Value =
        serde_json::from_str(&host.done(&["--output", "json", "vm", "show", "web-01"], "")).unwrap();
    assert_eq!((&shown["state"], &shown["spec"]["memory"]["mib"]), (&"stopped".into(), &96.into()));
    assert_eq!(shown["folder"], serde_json::Value::Null);
    host.done(&["folder", "move", "Production/Web", "/"], "");
    host.done(&["folder", "rename", "Web", "Pages"], "");
    host.done(&["folder", "remove", "Pages"], "");
    let refusal = host.refused(&["vm", "start", "web-02"], "");
    assert!(refusal.contains("there is no virtual machine web-02"), "{refusal}");
    // What a guest wants is there without being asked for, and each part can be.
    let parts = [
        "--watchdog",
        "true",
        "--balloon",
        "false",
        "--nic",
        "br-int,52:54:00:00:00:07",
        "--label",
        "urgent",
    ];
    host.done(&[&["vm", "make", "desktop", "--guest", "windows"][..], &parts].concat(), "");
    let desktop = host.done(&["vm", "show", "desktop"], "");
    assert!(desktop.contains("4096 MiB") && desktop.contains("secure-boot, TPM 2.0"), "{desktop}");
    assert!(
        desktop.contains("network card 52:54:00:00:00:07") && desktop.contains("label urgent"),
        "{desktop}"
    );
    let json: serde_json::Value =
        serde_json::from_str(&host.done(&["--output", "json", "vm", "show", "desktop"], "")).unwrap();
    assert_eq!(
        (&json["spec"]["watchdog"], &json["spec"]["memory"]["balloon"]),
        (&true.into(), &false.into())
    );
    host.done(&["vm", "change", "desktop", "--label", ""], "");
    assert!(!host.done(&["vm", "show", "desktop"], "").contains("label urgent"));
    host.done(&["vm", "remove", "desktop", "--confirm", "desktop"], "");
    // Its disks, and volumes by themselves.
    assert!(host.done(&["vm", "show", "web-01"], "").contains("web-01-disk-1, 1 GiB in local"));
    host.done(&["vm", "add-disk", "web-01", "2G"], "");
    host.done(&["volume", "make", "spare", "1G"], "");
    host.done(&["vm", "take-volume", "web-01", "spare"], "");
    host.done(&["vm", "let-go", "web-01", "web-01-disk-2"], "");
    host.done(&["volume", "grow", "spare", "3G"], "");
    host.done(&["volume", "rename", "spare", "data"], "");
    let refusal = host.refused(&["volume", "move", "data", "local"], "");
    assert!(refusal.contains("data is in the pool local already."), "{refusal}");
    assert!(host.done(&["pool", "files", "local"], "").contains("the volume data"));
    let shown_volume = host.done(&["volume", "show", "data"], "");
    assert!(shown_volume.contains("3 GiB") && shown_volume.contains("web-01"), "{shown_volume}");
    let refusal = host.refused(&["volume", "remove", "data", "--confirm", "data"], "");
    assert!(refusal.contains("web-01 has this volume"), "{refusal}");
    assert!(host.done(&["volume", "list", "--unused"], "").contains("web-01-disk-2"));
    host.done(&["volume", "remove", "web-01-disk-2", "--confirm", "web-01-disk-2"], "");
    // An image, and a machine whose disk begins as a copy of it.
    let file = host.file("debian-12.raw", &boot_sector(8 << 20));
    let sum = "--sha256=0000000000000000000000000000000000000000000000000000000000000000";
    let refusal = host.refused(&["image", "upload", &file, sum], "");
    assert!(refusal.contains("not the one that was meant"), "{refusal}");
    host.done(&["image", "upload", &file, "--name", "Debian 12"], "");
    let shown_image = host.done(&["image", "show", "debian 12"], "");
    assert!(shown_image.contains("8 MiB") && shown_image.contains("raw"), "{shown_image}");
    let changed = host.done(&["image", "change", "debian 12", "--os", "rocky", "--os-version", "9"], "");
    assert!(changed.contains("rocky 9"), "{changed}");
    assert!(
        host.refused(&["image", "change", "debian 12", "--os", "plan9"], "").contains("A system is one of")
    );
    let refusal = host.refused(&["vm", "make", "web-03", "--image", "debian 12"], "");
    assert!(refusal.contains("Nobody would get in"), "{refusal}");
    host.done(&["vm", "make", "web-03", "--image", "debian 12", "--has-way-in"], "");
    assert!(host.done(&["vm", "show", "web-03"], "").contains("web-03-disk-1, 1 GiB in local"));
    host.done(&["image", "remove", "Debian 12", "--confirm", "Debian 12"], "");
    assert!(!host.done(&["image", "list"], "").contains("Debian 12"));
    host.done(&["vm", "remove", "web-03", "--confirm", "web-03"], "");
    // A machine that was exported elsewhere.
    let disk = |file: &str| {
        let what = format!("<rasd:HostResource>ovf:/file/{file}</rasd:HostResource>");
        format!("<Item><rasd:ResourceType>17</rasd:ResourceType>{what}</Item>")
    };
    let ovf = format!(
        "<Envelope><References><File ovf:id='a' ovf:href='a'/><File ovf:id='b' ovf:href='b'/></References>\
         <VirtualSystem ovf:id='shop'><VirtualHardwareSection>{}{}</VirtualHardwareSection></VirtualSystem></Envelope>",
        disk("a"),
        disk("b")
    );
    for (name, content) in
        [("shop.ovf", ovf.into_bytes()), ("a", boot_sector(1 << 20)), ("b", boot_sector(2 << 20))]
    {
        host.file(name, &content);
    }
    let (folder, ova) = (host.dir.path().display().to_string(), host.file("shop.ova", b""));
    let tar = ["--format=ustar", "-C", &folder, "-cf", &ova, "shop.ovf", "a", "b"];
    assert!(Command::new("tar").args(tar).status().unwrap().success());
    host.done(&["image", "upload", &ova, "--name", "Shop"], "");
    assert!(host.done(&["image", "list"], "").contains("Shop, disk 2"));
    host.done(&["vm", "make", "web-04", "--image", "shop", "--memory", "64", "--disk-bus", "sata"], "");
    let made = host.done(&["vm", "show", "web-04"], "");
    assert!(made.contains("web-04-disk-2, 1 GiB in local") && made.contains("64 MiB"), "{made}");
    host.done(&["vm", "remove", "web-04", "--confirm", "web-04"], "");
    for image in ["Shop", "Shop, disk 2"] {
        host.done(&["image", "remove", image, "--confirm", image], "");
    }
    host.done(&["pool", "change", "local", "--name", "disks", "--limit", "95"], "");
    assert!(host.done(&["pool", "show", "disks"], "").contains("95 %"));
    host.done(&["vm", "remove", shown["id"].as_str().unwrap(), "--confirm", "web-01", "--keep-disks"], "");
    assert_eq!(host.done(&["volume", "list", "--unused", "--pool", "disks"], "").lines().count(), 3);
    assert!(!host.done(&["vm", "list"], "").contains("web-01"));
    assert_eq!(daemon.virsh(&["list", "--all", "--name"]).trim(), "");
}

#[test]
fn a_machine_is_held_taken_back_and_cloned() {
    let (host, _daemon) = Host::with_machines("qx-1");
    host.done(&["vm", "make", "web-01", "--cpus", "1", "--memory", "64", "--disk", "1G"], "");
    host.done(&["vm", "snapshot", "make", "web-01", "before", "--description", "the update"], "");
    host.done(&["vm", "start", "web-01"], "");
    host.done(&["vm", "snapshot", "make", "web-01", "with it", "--memory"], "");
    let refusal = host.refused(&["vm", "snapshot", "make", "web-01", "BEFORE"], "");
    assert!(refusal.contains("named BEFORE already"), "{refusal}");
    host.done(&["vm", "snapshot", "change", "web-01", "with it", "--name", "running"], "");
    let list = host.done(&["vm", "snapshot", "list", "web-01"], "");
    let line = list.lines().find(|line| line.starts_with("running")).unwrap();
    assert!(line.contains("before") && line.contains("kept") && line.contains("here"), "{list}");
    let refusal = host.refused(&["vm", "snapshot", "revert", "web-01", "before", "--confirm", "no"], "");
    assert!(refusal.contains("web-01"), "{refusal}");
    host.done(&["vm", "snapshot", "revert", "web-01", "before", "--confirm", "web-01"], "");
    host.done(&["vm", "clone", "web-01", "web-02", "--linked", "--snapshot", "running", "--start"], "");
    until(|| host.done(&["vm", "list", "--state", "running"], "").contains("web-02"));
    host.done(&["vm", "clone", "web-01", "golden"], "");
    host.done(&["vm", "change", "golden", "--template", "true"], "");
    let refusal = host.refused(&["vm", "start", "golden"], "");
    assert!(refusal.contains("is a template"), "{refusal}");
    until(|| !host.done(&["vm", "snapshot", "list", "web-01"], "").contains("For golden"));
    host.done(&["vm", "snapshot", "remove", "web-01", "before", "--children"], "");
    let list = host.done(&["--output", "json", "vm", "snapshot", "list", "web-01"], "");
    assert!(list.contains("\"items\": []"), "{list}");
    // What is made by itself.
    let refusal = host.refused(&["vm", "schedule", "make", "web-01", "--daily", "02:60"], "");
    assert!(refusal.contains("from 00:00 to 23:59"), "{refusal}");
    host.done(
        &["vm", "schedule", "make", "web-01", "--weekly", "sunday@02:30", "--keep", "3", "--at-once"],
        "",
    );
    until(|| host.done(&["vm", "snapshot", "list", "web-01"], "").contains("schedule 2"));
    assert!(host.done(&["vm", "schedule", "list", "web-01"], "").contains("Sundays at 02:30 UTC"));
    host.done(&["vm", "schedule", "remove", "web-01", "1"], "");
    assert!(!host.done(&["vm", "schedule", "list", "web-01"], "").contains("Sundays"));
}

/// A disk of so many bytes, with nothing but a boot sector.
fn boot_sector(bytes: usize) -> Vec<u8> {
    let mut disk = vec![0; bytes];
    disk[510..512].copy_from_slice(b"\x55\xaa");
    disk
}
