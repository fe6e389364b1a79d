//! What is offered as images: where each is, and the list of checksums that its file is in. It is what distributions offer, or a
//! catalogue that somebody has of their own, which was fetched when it was named and is kept.

use std::collections::HashSet;

use jiff::Timestamp;
use quantix_api::{Catalogue, CatalogueSource, Offer, Problem, ProblemCode, SetCatalogue, text::is_line};
use quantix_storage::Os;
use rusqlite::{Connection, OptionalExtension, params};

use super::volumes::unreadable;
use crate::outside::fetch;

/// The longest catalogue, and how much it can offer.
const LONGEST: usize = 1 << 20;
const MOST: usize = 500;
const LONGEST_NAME: usize = 63;

/// For programs, the name, the folder that both files are in, the file, and the list of checksums.
const OFFERS: [[&str; 5]; 10] = [
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
    // Fedora's names tell of one release; there is none that stays.
    [
        "fedora-43",
        "Fedora Cloud 43",
        "https://download.fedoraproject.org/pub/fedora/linux/releases/43/Cloud/x86_64/images/",
        "Fedora-Cloud-Base-Generic-43-1.6.x86_64.qcow2",
        "Fedora-Cloud-43-1.6-x86_64-CHECKSUM",
    ],
    [
        "fedora-44",
        "Fedora Cloud 44",
        "https://download.fedoraproject.org/pub/fedora/linux/releases/44/Cloud/x86_64/images/",
        "Fedora-Cloud-Base-Generic-44-1.7.x86_64.qcow2",
        "Fedora-Cloud-44-1.7-x86_64-CHECKSUM",
    ],
    [
        "opensuse-leap",
        "openSUSE Leap 16.0",
        "https://download.opensuse.org/distribution/leap/16.0/appliances/",
        "Leap-16.0-Minimal-VM.x86_64-Cloud.qcow2",
        "Leap-16.0-Minimal-VM.x86_64-Cloud.qcow2.sha256",
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

/// What is offered.
pub(crate) fn offered(connection: &Connection) -> rusqlite::Result<Catalogue> {
    let own = connection
        .prepare_cached("SELECT url, allow_private, authority, items, fetched_at FROM catalogue")?
        .query_row([], |row| {
            Ok(Catalogue {
                items: serde_json::from_str(&row.get::<_, String>("items")?).map_err(unreadable)?,
                from: Some(CatalogueSource {
                    url: row.get("url")?,
                    allow_private: row.get("allow_private")?,
                    authority: row.get("authority")?,
                    fetched_at: Timestamp::from_millisecond(row.get("fetched_at")?).unwrap_or_default(),
                }),
            })
        })
        .optional()?;
    Ok(own.unwrap_or_else(catalogue))
}

/// Offers something else from now on.
pub(crate) fn set(
    connection: &Connection,
    from: &SetCatalogue,
    items: &[Offer],
    now_ms: i64,
) -> rusqlite::Result<()> {
    // Texts always have a form in JSON.
    let items = serde_json::to_string(items).unwrap_or_default();
    connection
        .execute(
            "INSERT OR REPLACE INTO catalogue (one, url, allow_private, authority, items, fetched_at)
             VALUES (1, ?1, ?2, ?3, ?4, ?5)",
            params![from.url, from.allow_private, from.authority, items, now_ms],
        )
        .map(drop)
}

/// Offers what is built in again.
pub(crate) fn reset(connection: &Connection) -> rusqlite::Result<()> {
    connection.execute("DELETE FROM catalogue", []).map(drop)
}

/// Fetches a catalogue.
pub(crate) async fn fetched(from: &SetCatalogue) -> Result<Vec<Offer>, Problem> {
    let text = fetch::whole_for(&from.url, from.allow_private, &from.authority, LONGEST).await?;
    read(&text).map_err(|why| {
        let sentence = format!("There is no catalogue that can be taken. {why}");
        Problem::new(ProblemCode::Invalid, sentence).in_field("url")
    })
}

/// Reads a catalogue that somebody else has written.
pub(crate) fn read(text: &[u8]) -> Result<Vec<Offer>, String> {
    let catalogue: Catalogue = serde_json::from_slice(text).map_err(|error| format!("It says: {error}."))?;
    let mut items = catalogue.items;
    if items.is_empty() || items.len() > MOST {
        return Err(format!("It offers 1 to {MOST} images, and this one {}.", items.len()));
    }
    let mut seen = HashSet::new();
    for offer in &items {
        let of = |what: &str| format!("Of the image {} {what}", offer.id.escape_debug());
        let is_id = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b".-_".contains(&byte);
        if offer.id.is_empty() || offer.id.len() > LONGEST_NAME || !offer.id.bytes().all(is_id) {
            return Err(of("the id is not one of letters a to z, digits, dots and dashes."));
        }
        if !seen.insert(offer.id.as_str()) {
            return Err(of("there are two."));
        }
        if super::volumes::check_name(&offer.name).is_err() {
            return Err(of("the name is none that an image can have."));
        }
        if !is_line(&offer.user, LONGEST_NAME) {
            return Err(of("the user is none."));
        }
        for address in [&offer.url, &offer.checksums] {
            fetch::check(address, false).map_err(|why| of(&format!("an address cannot be used. {why}")))?;
        }
    }
    items.sort_by_key(|offer| offer.name.to_lowercase());
    Ok(items)
}

/// What distributions offer.
fn catalogue() -> Catalogue {
    let offer = |[id, name, folder, file, checksums]: [&str; 5]| Offer {
        id: id.to_owned(),
        name: name.to_owned(),
        url: format!("{folder}{file}"),
        checksums: format!("{folder}{checksums}"),
        user: Os::guess(file).map_or("", |(os, _)| os.user).to_owned(),
    };
    Catalogue { items: OFFERS.map(offer).into(), from: None }
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
    fn a_catalogue_of_others_is_the_one_that_is_told_and_nothing_else() {
        let told = |items: Vec<Offer>| serde_json::to_vec(&Catalogue { items, from: None }).unwrap();
        let ours = catalogue().items;
        assert_eq!(read(&told(ours.clone())).unwrap(), ours);
        let one = ours[0].clone();
        let least =
            br#"{"items":[{"id":"a","name":"A","url":"https://x/a","checksums":"https://x/b","more":1}]}"#;
        assert_eq!(read(least).unwrap()[0].user, "");
        for wrong in [
            vec![],
            vec![one.clone(), one.clone()],
            vec![Offer { id: "../a".into(), ..one.clone() }],
            vec![Offer { id: String::new(), ..one.clone() }],
            vec![Offer { name: "a/b".into(), ..one.clone() }],
            vec![Offer { user: "a\nb".into(), ..one.clone() }],
            vec![Offer { url: "file:///etc/shadow".into(), ..one.clone() }],
            vec![Offer { checksums: "http://x/sums".into(), ..one.clone() }],
            (0..=MOST).map(|number| Offer { id: format!("a{number}"), ..one.clone() }).collect(),
        ] {
            assert!(read(&told(wrong.clone())).is_err(), "{wrong:?}");
        }
        for wrong in [&b""[..], b"[]", b"{}", b"<html>", b"{\"items\":[{}]}"] {
            assert!(read(wrong).is_err());
        }
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
