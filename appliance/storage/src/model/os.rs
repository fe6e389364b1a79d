//! Which system is in an image, as far as its name says.

/// A system that is known by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Os {
    /// The distribution, for programs.
    pub distribution: &'static str,
    /// Its name for people.
    pub name: &'static str,
    /// Who signs in to its cloud images, as they come.
    pub user: &'static str,
}

/// What is in names, in the order in which it is looked for, with what is looked for besides its own name.
const KNOWN: [(Os, &[&str]); 10] = [
    (Os { distribution: "ubuntu", name: "Ubuntu", user: "ubuntu" }, &["jammy", "noble", "resolute"]),
    (Os { distribution: "debian", name: "Debian", user: "debian" }, &["bookworm", "trixie"]),
    (Os { distribution: "rocky", name: "Rocky Linux", user: "rocky" }, &[]),
    (Os { distribution: "almalinux", name: "AlmaLinux", user: "almalinux" }, &["alma"]),
    (Os { distribution: "fedora", name: "Fedora", user: "fedora" }, &[]),
    (Os { distribution: "centos-stream", name: "CentOS Stream", user: "cloud-user" }, &["centos"]),
    (Os { distribution: "opensuse-leap", name: "openSUSE Leap", user: "root" }, &["opensuse", "leap"]),
    (Os { distribution: "alpine", name: "Alpine", user: "alpine" }, &[]),
    (Os { distribution: "freebsd", name: "FreeBSD", user: "freebsd" }, &[]),
    (
        Os { distribution: "windows", name: "Windows", user: "Administrator" },
        &["win10", "win11", "virtio-win"],
    ),
];

/// Code names, and the versions they stand for.
const VERSIONS: [(&str, &str); 5] =
    [("jammy", "22.04"), ("noble", "24.04"), ("resolute", "26.04"), ("bookworm", "12"), ("trixie", "13")];

/// What is in names of files, with numbers that are no versions.
const NO_VERSIONS: [&str; 6] = ["qcow2", "bz2", "x86_64", "amd64", "aarch64", "arm64"];

impl Os {
    /// All that are known.
    pub fn all() -> impl Iterator<Item = Self> {
        KNOWN.into_iter().map(|(os, _)| os)
    }

    /// The one of a distribution.
    pub fn of(distribution: &str) -> Option<Self> {
        Self::all().find(|os| os.distribution == distribution)
    }

    /// The one that a file's name speaks of, and its version if that is there.
    pub fn guess(name: &str) -> Option<(Self, String)> {
        let name = name.to_lowercase();
        let is_in = |(os, words): &&(Self, &[&str])| {
            name.contains(os.distribution) || words.iter().any(|word| name.contains(word))
        };
        let (os, _) = KNOWN.iter().find(is_in)?;
        let by_code = VERSIONS.iter().find(|(code, _)| name.contains(code)).map(|(_, version)| *version);
        Some((*os, by_code.map_or_else(|| version(&name), str::to_owned)))
    }
}

/// The first number in a name that can be a version: `12`, `9.4`, `24.04`.
fn version(name: &str) -> String {
    let name = NO_VERSIONS.iter().fold(name.to_owned(), |name, word| name.replace(word, " "));
    let parts = name.split(|letter: char| !letter.is_ascii_digit() && letter != '.');
    let mut numbers = parts.map(|part| part.trim_matches('.')).filter(|part| !part.is_empty());
    numbers.find(|number| number.len() <= 7).unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_speak_of_systems() {
        for (name, distribution, version) in [
            ("debian-12-genericcloud-amd64.qcow2", "debian", "12"),
            ("debian-amd64.qcow2", "debian", ""),
            ("noble-server-cloudimg-amd64.img", "ubuntu", "24.04"),
            ("ubuntu-22.04.5-live-server-amd64.iso", "ubuntu", "22.04.5"),
            ("Rocky-9-GenericCloud-Base.latest.x86_64.qcow2", "rocky", "9"),
            ("AlmaLinux-9-GenericCloud-latest.x86_64.qcow2", "almalinux", "9"),
            ("Fedora-Cloud-Base-Generic-43-1.6.x86_64.qcow2", "fedora", "43"),
            ("CentOS-Stream-GenericCloud-9-latest.x86_64.qcow2", "centos-stream", "9"),
            ("openSUSE-Leap-15.6.x86_64-NoCloud.qcow2", "opensuse-leap", "15.6"),
            ("virtio-win.iso", "windows", ""),
        ] {
            let (os, found) = Os::guess(name).unwrap();
            assert_eq!((os.distribution, found.as_str()), (distribution, version), "{name}");
        }
        assert_eq!(Os::guess("disk.img"), None);
        assert_eq!(Os::of("debian").unwrap().user, "debian");
    }
}
