//! What somebody writes into a name or a description is only that.

use quantix_api::{VmCd, VmDisk, VmNic, VmSpec};
use quantix_compute::{Accelerator, Drawn, Drive, Element, Format, VmId, check, draw, recognise};

use quantix_libvirt::Daemon;

use crate::machines::{connect, description, spec};

#[tokio::test]
async fn no_word_becomes_a_device() {
    let daemon = Daemon::start();
    let libvirt = connect(&daemon);
    for hostile in [
        "</title><devices><hostdev mode='subsystem'/></devices>",
        "a' b='c",
        "]]>&lt;&#10;&amp;",
        "--><!--",
        "$(reboot)`reboot`;reboot",
        "%s%n%x",
        "-drive file=\u{200f}shadow,if=virtio",
        ",accel=kvm,,format=raw",
    ] {
        let mut spec = spec(&hostile.replace('/', ":"));
        spec.description = format!("{hostile}\n{hostile}");
        check(&spec).unwrap();
        let id = VmId::new();
        libvirt.define(description(id, &spec, &[], Accelerator::Tcg)).await.unwrap();
        libvirt.start(id, true).await.unwrap();
        let kept = Element::from_xml(&libvirt.description(id).await.unwrap()).unwrap();
        assert_eq!(kept.child("title").unwrap().text, spec.name);
        assert_eq!(kept.child("description").unwrap().text, spec.description);
        assert_eq!(kept.child("devices").unwrap().all("hostdev").count(), 0);
        libvirt.force_stop(id).await.unwrap();
        libvirt.forget(id).await.unwrap();
    }
}

/// What may be markup, an entity, an option of a program or an order to a screen to whoever reads it.
fn hostile() -> Vec<String> {
    let texts = [
        "\"/><disk type='file'><source file='/etc/shadow'/><target dev='vdb'/></disk><a b=\"",
        "'><hostdev mode='subsystem' type='pci' managed='yes'><a b='",
        "</title></description></model></devices><devices><disk/></devices>",
        "]]>",
        "<![CDATA[a]]>",
        "&xxe;",
        "&lt;disk&gt;&#10;&#0;&amp;",
        "<!DOCTYPE a [<!ENTITY xxe SYSTEM 'file:etc'>]>&xxe;",
        "<!--",
        "-->",
        "<?xml version='1.0'?>",
        "a\u{0}b",
        "a\u{1}b",
        "a\u{7f}b",
        "a\u{85}b",
        "a\nb",
        "a\r\nb",
        "a\rb",
        "a\tb",
        "\n",
        "a\n\n",
        "\u{1b}[2Jb",
        "\u{202e}gnp.exe",
        "\u{2066}a\u{2069}",
        "a\u{2028}b",
        "\u{200f}שלום",
        "🧨👩\u{200d}👩\u{200d}👧\u{200d}👦",
        "𠜎𝔘𝔫𝔦",
        "a\u{fffd}b",
        "a\u{fffe}b",
        "a\u{ffff}b",
        "a\u{fdd0}\u{1ffff}b",
        "\u{feff}a",
        "\u{a0}",
        " a ",
        "a  b",
        "%s%n%x",
        "$(reboot)`reboot`;reboot",
        "x,accel=kvm,,format=raw",
        "../../etc/shadow",
        "-drive",
        "",
    ];
    let long = ["x".repeat(63), "𠜎".repeat(63), "<".repeat(1000), "x".repeat(100_000)];
    texts.map(str::to_owned).into_iter().chain(long).collect()
}

type Put = fn(&mut VmSpec, &str);

/// Where somebody writes a text of their own: how the API calls it, and how it gets there. What is in a disk or a drive is
/// looked up by its id, and a path of ours.
const TEXTS: [(&str, Put); 6] = [
    ("name", |spec, text| text.clone_into(&mut spec.name)),
    ("description", |spec, text| text.clone_into(&mut spec.description)),
    ("cpu.named", |spec, text| text.clone_into(&mut spec.cpu.named)),
    ("nics.0.bridge", |spec, text| text.clone_into(&mut spec.nics[0].bridge)),
    ("nics.0.mac", |spec, text| text.clone_into(&mut spec.nics[0].mac)),
    ("pci.0", |spec, text| text.clone_into(&mut spec.pci[0])),
];

/// The kinds of devices that a machine has, as libvirt keeps them.
fn devices(kept: &Element) -> Vec<String> {
    let devices = kept.child("devices").unwrap();
    let mut kinds: Vec<_> = devices.children.iter().map(|device| device.name.clone()).collect();
    kinds.sort_unstable();
    kinds
}

#[tokio::test]
async fn every_text_of_a_machine_is_kept_as_it_is_or_refused_by_its_field() {
    let daemon = Daemon::start();
    let libvirt = connect(&daemon);
    let nic = VmNic { bridge: "br-int".into(), mac: "52:54:00:00:00:01".into(), model: None };
    let plain = VmSpec { nics: vec![nic], pci: vec!["0000:65:00.0".into()], ..spec("plain") };
    let kept = async |spec: &VmSpec| {
        let id = VmId::new();
        // Only what runs on the processor itself is told of a certain one.
        libvirt.define(description(id, spec, &[], Accelerator::Kvm)).await.unwrap();
        let kept = Element::from_xml(&libvirt.description(id).await.unwrap()).unwrap();
        libvirt.forget(id).await.unwrap();
        kept
    };
    let usual = devices(&kept(&plain).await);
    let (mut refused, mut taken) = (0, 0);
    for (field, put) in TEXTS {
        for text in hostile() {
            let mut spec = plain.clone();
            put(&mut spec, &text);
            let short: String = text.chars().take(80).collect();
            if let Err(flaw) = check(&spec) {
                assert_eq!(flaw.field, field, "{short:?}");
                refused += 1;
                continue;
            }
            let kept = kept(&spec).await;
            assert_eq!(devices(&kept), usual, "{field}: {short:?}");
            assert_eq!(recognise(&kept).unwrap().spec, spec, "{field}: {short:?}");
            taken += 1;
        }
    }
    assert!(refused > 100 && taken > 30, "{refused} were refused and {taken} taken");
}

/// Nobody writes paths; if somebody could, they were paths and nothing else.
#[tokio::test]
async fn a_path_is_a_path_whatever_stands_in_it() {
    let daemon = Daemon::start();
    let libvirt = connect(&daemon);
    // A file has no such name, and in an attribute the end of a line is a space.
    let is_name = |text: &String| {
        (1..255).contains(&text.len()) && !text.chars().any(|letter| letter == '/' || letter.is_control())
    };
    let all = hostile().into_iter().filter(is_name).filter(|text| !text.contains(['\u{fffe}', '\u{ffff}']));
    for text in all {
        let path = daemon.dir.path().join(&text);
        let spec = VmSpec { disks: vec![VmDisk::usual("one")], cds: vec![VmCd::default()], ..spec("plain") };
        let drives = [Drive { path: path.clone(), format: Format::Raw }];
        let (id, cds) = (VmId::new(), [Some(path.clone())]);
        let drawn = Drawn {
            id,
            called: None,
            spec: &spec,
            drives: &drives,
            cds: &cds,
            seed: Some(&path),
            accelerator: Accelerator::Tcg,
        };
        libvirt.define(draw(&drawn).to_xml()).await.unwrap();
        let kept = Element::from_xml(&libvirt.description(id).await.unwrap()).unwrap();
        let devices = kept.child("devices").unwrap();
        let sources: Vec<_> = devices.all("disk").map(|disk| disk.child("source").unwrap()).collect();
        let path = path.to_str();
        assert_eq!(sources.len(), 3, "{text:?}");
        assert!(sources.iter().all(|source| source.attribute("file") == path), "{text:?}: {sources:?}");
        assert_eq!(devices.all("hostdev").count(), 0, "{text:?}");
        libvirt.forget(id).await.unwrap();
    }
}
