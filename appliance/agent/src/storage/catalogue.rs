//! What distributions offer as cloud images: where each is, and the list of checksums that its file is in.

use quantix_api::{Catalogue, Offer};
use quantix_storage::Os;

/// For programs, the name, the folder that both files are in, the file, and the list of checksums.
const OFFERS: [[&str; 5]; 8] = [
    [
        "almalinux-9",
        "AlmaLinux 9",
        "https://repo.almalinux.org/almalinux/9/cloud/x86_64/images/",
        "AlmaLinux-9-GenericCloud-latest.x86_64.qcow2",
        "CHECKSUM",
    ],
    [
        "centos-stream-9",
        "CentOS Stream 9",
        "https://cloud.centos.org/centos/9-stream/x86_64/images/",
        "CentOS-Stream-GenericCloud-9-latest.x86_64.qcow2",
        "CentOS-Stream-GenericCloud-9-latest.x86_64.qcow2.SHA256SUM",
    ],
    [
        "debian-12",
        "Debian 12",
        "https://cloud.debian.org/images/cloud/bookworm/latest/",
        "debian-12-generic-amd64.qcow2",
        "SHA512SUMS",
    ],
    [
        "debian-13",
        "Debian 13",
        "https://cloud.debian.org/images/cloud/trixie/latest/",
        "debian-13-generic-amd64.qcow2",
        "SHA512SUMS",
    ],
    [
        "opensuse-leap",
        "openSUSE Leap 15.6",
        "https://download.opensuse.org/distribution/leap/15.6/appliances/",
        "openSUSE-Leap-15.6-Minimal-VM.x86_64-Cloud.qcow2",
        "openSUSE-Leap-15.6-Minimal-VM.x86_64-Cloud.qcow2.sha256",
    ],
    [
        "rocky-9",
        "Rocky Linux 9",
        "https://dl.rockylinux.org/pub/rocky/9/images/x86_64/",
        "Rocky-9-GenericCloud-Base.latest.x86_64.qcow2",
        "CHECKSUM",
    ],
    [
        "ubuntu-22.04",
        "Ubuntu 22.04 LTS",
        "https://cloud-images.ubuntu.com/releases/jammy/release/",
        "ubuntu-22.04-server-cloudimg-amd64.img",
        "SHA256SUMS",
    ],
    [
        "ubuntu-24.04",
        "Ubuntu 24.04 LTS",
        "https://cloud-images.ubuntu.com/releases/noble/release/",
        "ubuntu-24.04-server-cloudimg-amd64.img",
        "SHA256SUMS",
    ],
];

/// What distributions offer.
pub(crate) fn catalogue() -> Catalogue {
    let offer = |[id, name, folder, file, checksums]: [&str; 5]| Offer {
        id: id.to_owned(),
        name: name.to_owned(),
        url: format!("{folder}{file}"),
        checksums: format!("{folder}{checksums}"),
        user: Os::guess(file).map_or("", |(os, _)| os.user).to_owned(),
    };
    Catalogue { items: OFFERS.map(offer).into() }
}

/// The checksum of a file in a list of them: `SUM  FILE`, `SUM *FILE`, or `SHA256 (FILE) = SUM`.
pub(crate) fn checksum_of(list: &str, file: &str) -> Option<String> {
    let sum = |text: &str| is_checksum(text).then(|| text.to_ascii_lowercase());
    list.lines().find_map(|line| {
        let line = line.trim();
        if let Some((before, after)) = line.split_once(") = ") {
            let (_, name) = before.split_once(" (")?;
            return sum(after.trim()).filter(|_| name == file);
        }
        let (first, name) = line.split_once(char::is_whitespace)?;
        let name = name.trim_start().trim_start_matches('*').trim_start_matches("./");
        sum(first).filter(|_| name == file)
    })
}

/// Whether it is a SHA-256 or a SHA-512 in hexadecimal digits.
pub(crate) fn is_checksum(text: &str) -> bool {
    matches!(text.len(), 64 | 128) && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outside::fetch;

    #[test]
    fn every_offer_can_be_fetched_and_says_who_signs_in() {
        let items = catalogue().items;
        for offer in &items {
            assert!(fetch::check(&offer.url, false).is_ok() && fetch::check(&offer.checksums, false).is_ok());
            assert!(!offer.user.is_empty() && !fetch::file_name(&offer.url).is_empty(), "{offer:?}");
        }
        assert!(items.is_sorted_by(|one, other| one.name.to_lowercase() < other.name.to_lowercase()));
    }

    #[test]
    fn checksums_are_found_however_they_are_written() {
        let (short, long) = ("a".repeat(64), "B".repeat(128));
        for (list, found) in [
            (format!("{short}  x.img\n{long}  y.img\n"), Some(short.clone())),
            (format!("{short} *x.img"), Some(short.clone())),
            (format!("# x.img: 123 bytes\nSHA256 (x.img) = {short}\n"), Some(short.clone())),
            (format!("-----BEGIN PGP SIGNED MESSAGE-----\n\n{long}  ./x.img\n"), Some(long.to_lowercase())),
            (format!("{short}  other-x.img"), None),
            (format!("{}  x.img", &short[1..]), None),
            ("x.img".to_owned(), None),
            (String::new(), None),
        ] {
            assert_eq!(checksum_of(&list, "x.img"), found, "{list}");
        }
    }
}
