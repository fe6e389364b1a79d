//! How somebody gets into a virtual machine that starts from a cloud image.

use std::fmt;

use quantix_api::{KeyRefused, SshKey};
use serde::{Deserialize, Serialize};
use sha_crypt::{Params, sha512_crypt};

use super::check::Flaw;

const LONGEST_USER_NAME: usize = 32;
const LONGEST_PASSWORD: usize = 128;
const MOST_KEYS: usize = 64;
const LONGEST_PASTED: usize = 512 * 1024;
/// More rounds would keep a guest busy whenever somebody logs in.
const ROUNDS: std::ops::RangeInclusive<u32> = 1000..=1_000_000;
/// The digits of crypt(3).
const DIGITS: &[u8; 64] = b"./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// Users and groups that systems bring, or that cloud-init means something else by. Making a user of this name fails or
/// changes one that is there.
const RESERVED: &str = "
    adm audio avahi backup bin cdrom chrony crontab daemon dbus default dialout dip disk fax floppy ftp
    games gnats halt input irc kmem kvm libvirt-qemu list lock lp lxd mail man messagebus mysql named netdev
    news nobody nogroup nscd ntp operator plugdev polkitd postfix postgres proxy render rpc sasl sgx shadow
    shutdown src sshd sssd staff sudo sync sys syslog systemd-coredump systemd-journal systemd-network
    systemd-oom systemd-resolve systemd-timesync tape tcpdump tss tty unbound users utmp uucp uuidd video
    voice wheel www-data
";

/// How somebody gets in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Access {
    /// As whom.
    pub user: UserName,
    /// With which password; only what it is checked with is kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<PasswordHash>,
    /// With which keys.
    #[serde(default)]
    pub ssh_keys: SshKeys,
    /// Whether sudo takes their word for it.
    #[serde(default)]
    pub sudo_without_password: bool,
}

impl Access {
    /// Whether somebody gets in like this, and can then look after the machine.
    pub fn check(&self) -> Result<(), Flaw> {
        let flaw = |field: &str, sentence: &str| {
            Err(Flaw { field: format!("access.{field}"), sentence: sentence.to_owned() })
        };
        if self.password.is_none() && self.ssh_keys.is_empty() {
            return flaw("ssh_keys", "Nobody could get in. Give an SSH key or a password.");
        }
        if self.password.is_none() && !self.sudo_without_password && !self.user.is_root() {
            return flaw(
                "sudo_without_password",
                "Sudo would ask for a password that is not there. Set one, or let sudo ask for none.",
            );
        }
        Ok(())
    }
}

/// The name of a user on Linux that a machine can be given.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct UserName(String);

/// Why a user cannot be called so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UserNameRefused {
    /// It is no name.
    #[error(
        "A user name is at most {LONGEST_USER_NAME} small letters, digits, dashes and underscores, and begins with a letter or an underscore."
    )]
    Form,
    /// Somebody has it.
    #[error("The system has a user or a group of this name already. Choose another name.")]
    Reserved,
}

impl UserName {
    /// Reads one.
    pub fn parse(name: &str) -> Result<Self, UserNameRefused> {
        let is_first = |letter: u8| letter.is_ascii_lowercase() || letter == b'_';
        let is_plain = |letter: u8| is_first(letter) || letter.is_ascii_digit() || letter == b'-';
        let begins = name.bytes().next().is_some_and(is_first);
        if !begins || name.len() > LONGEST_USER_NAME || !name.bytes().all(is_plain) {
            return Err(UserNameRefused::Form);
        }
        if RESERVED.split_whitespace().any(|reserved| reserved == name) {
            return Err(UserNameRefused::Reserved);
        }
        Ok(Self(name.to_owned()))
    }

    /// As it is written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it is the one who may do everything.
    pub fn is_root(&self) -> bool {
        self.0 == "root"
    }
}

impl TryFrom<String> for UserName {
    type Error = UserNameRefused;

    fn try_from(name: String) -> Result<Self, UserNameRefused> {
        Self::parse(&name)
    }
}

impl From<UserName> for String {
    fn from(name: UserName) -> Self {
        name.0
    }
}

impl fmt::Display for UserName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// What a password is checked with: SHA-512 crypt, `$6$…`. It is not shown when it is debugged.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PasswordHash(String);

/// It is nothing that a password is checked with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("This is no SHA-512 hash of a password. Make one with: openssl passwd -6")]
pub struct NoPasswordHash;

impl PasswordHash {
    /// Reads one, as `openssl passwd -6` or `mkpasswd` writes it.
    pub fn parse(text: &str) -> Result<Self, NoPasswordHash> {
        let rest = text.strip_prefix("$6$").ok_or(NoPasswordHash)?;
        let rest = match rest.strip_prefix("rounds=") {
            None => rest,
            Some(rest) => {
                let (rounds, rest) = rest.split_once('$').ok_or(NoPasswordHash)?;
                let number = rounds.parse().map_err(|_| NoPasswordHash)?;
                let is_plain = rounds.bytes().all(|digit| digit.is_ascii_digit()) && !rounds.starts_with('0');
                if !is_plain || !ROUNDS.contains(&number) {
                    return Err(NoPasswordHash);
                }
                rest
            }
        };
        let (salt, sum) = rest.split_once('$').ok_or(NoPasswordHash)?;
        let are_digits = |text: &str| text.bytes().all(|byte| DIGITS.contains(&byte));
        // The last digit holds two bits.
        let is_sum = sum.len() == 86 && are_digits(sum) && sum.ends_with(['.', '/', '0', '1']);
        if !(1..=16).contains(&salt.len()) || !are_digits(salt) || !is_sum {
            return Err(NoPasswordHash);
        }
        Ok(Self(text.to_owned()))
    }

    /// As it is kept, and as a guest is told.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for PasswordHash {
    type Error = NoPasswordHash;

    fn try_from(text: String) -> Result<Self, NoPasswordHash> {
        Self::parse(&text)
    }
}

impl From<PasswordHash> for String {
    fn from(hash: PasswordHash) -> Self {
        hash.0
    }
}

impl fmt::Debug for PasswordHash {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("PasswordHash(…)")
    }
}

/// It cannot be a password.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("A password has 1 to {LONGEST_PASSWORD} characters, in one line.")]
pub struct NoPassword;

/// What a password will be checked with, salted so that the same password looks different each time.
pub fn hash_password(password: &str) -> Result<PasswordHash, NoPassword> {
    let can_be = (1..=LONGEST_PASSWORD).contains(&password.chars().count());
    if !can_be || password.contains(['\0', '\n', '\r']) {
        return Err(NoPassword);
    }
    let salt = rand::random::<[u8; 16]>().map(digit);
    let sum = sha512_crypt(password.as_bytes(), &salt, Params::RECOMMENDED);
    let salt: String = salt.into_iter().map(char::from).collect();
    Ok(PasswordHash(format!("$6${salt}${}", digits(&sum))))
}

/// The digit for the lowest six bits.
fn digit(bits: u8) -> u8 {
    DIGITS[usize::from(bits % 64)]
}

/// A sum as crypt(3) writes it: three bytes of it at a time in an order of its own, the lowest bits first.
fn digits(sum: &[u8; 64]) -> String {
    let mut text = String::with_capacity(86);
    let mut push = |mut bits: u32, count: usize| {
        for _ in 0..count {
            text.push(char::from(digit((bits % 64) as u8)));
            bits /= 64;
        }
    };
    // Each stays below 63: every round adds three to their sum, and turns them.
    let [mut first, mut second, mut third] = [0, 21, 42];
    for _ in 0..21 {
        push(u32::from_be_bytes([0, sum[first], sum[second], sum[third]]), 4);
        [first, second, third] = [second + 1, third + 1, first + 1];
    }
    push(u32::from(sum[63]), 2);
    text
}

/// The keys that let somebody in, each once.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<SshKey>", into = "Vec<SshKey>")]
pub struct SshKeys(Vec<SshKey>);

/// Why these keys are not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeysRefused {
    /// One of them is none.
    #[error("Line {line}: {why}")]
    Line {
        /// In which line, from 1.
        line: usize,
        /// What is wrong with it.
        why: KeyRefused,
    },
    /// One is there twice.
    #[error("Key {second} is the same as key {first}. Each is needed once.")]
    Twice {
        /// Which, from 1.
        first: usize,
        /// Which says the same.
        second: usize,
    },
    /// There are more than anybody has.
    #[error("These are too many keys; at most {MOST_KEYS} can be.")]
    TooMany,
    /// It is more text than so many keys are.
    #[error("This is too much text; at most {} KiB of keys can be.", LONGEST_PASTED / 1024)]
    TooLong,
}

impl SshKeys {
    /// Reads what somebody pasted: a key in each line. Empty lines, and those that begin with `#`, say nothing.
    pub fn parse_all(text: &str) -> Result<Self, KeysRefused> {
        if text.len() > LONGEST_PASTED {
            return Err(KeysRefused::TooLong);
        }
        let mut keys = Vec::new();
        for (at, line) in text.lines().enumerate() {
            if line.trim().is_empty() || line.trim_start().starts_with('#') {
                continue;
            }
            if keys.len() == MOST_KEYS {
                return Err(KeysRefused::TooMany);
            }
            keys.push(SshKey::parse(line).map_err(|why| KeysRefused::Line { line: at + 1, why })?);
        }
        Self::try_from(keys)
    }

    /// All of them.
    pub fn as_slice(&self) -> &[SshKey] {
        &self.0
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl TryFrom<Vec<SshKey>> for SshKeys {
    type Error = KeysRefused;

    fn try_from(keys: Vec<SshKey>) -> Result<Self, KeysRefused> {
        if keys.len() > MOST_KEYS {
            return Err(KeysRefused::TooMany);
        }
        for (at, key) in keys.iter().enumerate() {
            if let Some(first) = keys.iter().take(at).position(|other| other.is_same_key(key)) {
                return Err(KeysRefused::Twice { first: first + 1, second: at + 1 });
            }
        }
        Ok(Self(keys))
    }
}

impl From<SshKeys> for Vec<SshKey> {
    fn from(keys: SshKeys) -> Self {
        keys.0
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A key of which only this number is its own.
    pub(crate) fn key(number: u8) -> SshKey {
        let mut data = b"\0\0\0\x0bssh-ed25519\0\0\0 ".to_vec();
        data.extend([number; 32]);
        let encoded = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, data);
        format!("ssh-ed25519 {encoded} key-{number}").parse().unwrap()
    }

    #[test]
    fn a_user_has_a_name_that_linux_takes_and_nobody_else_has() {
        for name in ["a", "_", "ops", "debian", "root", "a-b_c9", &"a".repeat(32)] {
            assert_eq!(UserName::parse(name).map(String::from).as_deref(), Ok(name));
        }
        for name in ["", "1a", "-a", "Ops", "a b", "a.b", "a\n", "ä", "a:b", "$(id)", &"a".repeat(33)] {
            assert_eq!(UserName::parse(name), Err(UserNameRefused::Form), "{name:?}");
        }
        for name in ["nobody", "sshd", "default", "sudo"] {
            assert_eq!(UserName::parse(name), Err(UserNameRefused::Reserved), "{name}");
        }
    }

    #[test]
    fn only_sha512_crypt_is_taken_for_the_hash_of_a_password() {
        let sum = "a".repeat(85) + "1";
        for hash in [format!("$6$salt${sum}"), format!("$6$rounds=656000$0123456789abcdef${sum}")] {
            assert_eq!(PasswordHash::parse(&hash).unwrap().as_str(), hash);
        }
        let long = "a".repeat(17);
        for hash in [
            "secret".to_owned(),
            format!("$5$salt${sum}"),
            format!("$y$j9T$salt${sum}"),
            format!("$6$${sum}"),
            format!("$6${long}${sum}"),
            format!("$6$sa:t${sum}"),
            format!("$6$salt${sum}\n"),
            format!("$6$salt${}2", "a".repeat(85)),
            format!("$6$salt${}", "a".repeat(85)),
            format!("$6$rounds=999$salt${sum}"),
            format!("$6$rounds=+5000$salt${sum}"),
            format!("$6$rounds=05000$salt${sum}"),
            format!("$6$rounds=1000001$salt${sum}"),
            format!("$6$rounds=5000${sum}"),
        ] {
            assert_eq!(PasswordHash::parse(&hash), Err(NoPasswordHash), "{hash}");
        }
    }

    #[test]
    fn a_password_is_hashed_with_another_salt_each_time() {
        let [one, two] = [(); 2].map(|()| hash_password("correct horse").unwrap());
        assert_ne!(one, two);
        assert_eq!(PasswordHash::parse(one.as_str()), Ok(one));
        for password in ["", "a\nb", "a\0", "a\r", &"a".repeat(129)] {
            assert_eq!(hash_password(password), Err(NoPassword), "{password:?}");
        }
        assert!(hash_password(&"ä".repeat(128)).is_ok());
    }

    #[test]
    fn what_is_debugged_shows_no_hash() {
        let access = Access {
            user: UserName::parse("ops").unwrap(),
            password: Some(hash_password("correct horse").unwrap()),
            ssh_keys: SshKeys::default(),
            sudo_without_password: false,
        };
        let shown = format!("{access:?}");
        assert!(shown.contains("ops") && !shown.contains("$6$"), "{shown}");
        let kept = serde_json::to_string(&access).unwrap();
        assert_eq!(serde_json::from_str::<Access>(&kept).unwrap(), access);
        let more = kept.replacen('{', r#"{"shell":"/bin/sh","#, 1);
        assert!(serde_json::from_str::<Access>(&more).is_err());
        let plain = r#"{"user":"ops","password":"correct horse"}"#;
        assert!(serde_json::from_str::<Access>(plain).is_err());
    }

    #[test]
    fn somebody_gets_in_and_can_look_after_the_machine() {
        let field = |user: &str, password: bool, keys: Vec<SshKey>, sudo_without_password: bool| {
            let access = Access {
                user: UserName::parse(user).unwrap(),
                password: password.then(|| hash_password("correct horse").unwrap()),
                ssh_keys: keys.try_into().unwrap(),
                sudo_without_password,
            };
            access.check().err().map(|flaw| flaw.field)
        };
        assert_eq!(field("ops", false, vec![key(1)], true), None);
        assert_eq!(field("ops", true, vec![], false), None);
        assert_eq!(field("root", false, vec![key(1)], false), None);
        assert_eq!(field("ops", false, vec![], true).as_deref(), Some("access.ssh_keys"));
        let asked = field("ops", false, vec![key(1)], false);
        assert_eq!(asked.as_deref(), Some("access.sudo_without_password"));
    }

    #[test]
    fn keys_are_pasted_with_remarks_and_each_is_taken_once() {
        let [one, two] = [key(1), key(2)];
        let keys = SshKeys::parse_all(&format!("# Work\r\n{one}\r\n\n  # Home\n{two}")).unwrap();
        assert_eq!(keys.as_slice(), [one.clone(), two.clone()]);
        let renamed = one.to_string().replace("key-1", "again");
        let twice = SshKeys::parse_all(&format!("{one}\n# again\n{two}\n{renamed}"));
        assert_eq!(twice, Err(KeysRefused::Twice { first: 1, second: 3 }));
        let private = SshKeys::parse_all(&format!("{one}\n-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNz"));
        assert_eq!(private, Err(KeysRefused::Line { line: 2, why: KeyRefused::Private }));
        let many = |count: u8| (0..count).map(|number| format!("{}\n", key(number))).collect::<String>();
        assert_eq!(SshKeys::parse_all(&many(64)).unwrap().as_slice().len(), 64);
        assert_eq!(SshKeys::parse_all(&many(65)), Err(KeysRefused::TooMany));
        assert_eq!(SshKeys::parse_all(&"#\n".repeat(300_000)), Err(KeysRefused::TooLong));
        let twice = serde_json::to_string(&[&one, &one]).unwrap();
        assert!(serde_json::from_str::<SshKeys>(&twice).is_err());
    }

    proptest! {
        #[test]
        fn whatever_is_pasted_is_a_key_that_reads_the_same_again_or_none(
            line in "(ssh-ed25519|ssh-rsa|ecdsa-sha2-nistp256) [A-Za-z0-9+/]{0,80}={0,2} ?\\PC{0,40}",
            flipped in any::<(prop::sample::Index, u8)>(),
        ) {
            let mut broken = key(7).to_string().into_bytes();
            let at = flipped.0.index(broken.len());
            broken[at] ^= flipped.1 & 0x7f;
            for line in [line, String::from_utf8_lossy(&broken).into_owned()] {
                if let Ok(key) = SshKey::parse(&line) {
                    prop_assert_eq!(SshKey::parse(&key.to_string()).unwrap(), key);
                }
            }
        }

        #[test]
        fn no_text_makes_reading_keys_fall_over(text in "\\PC{0,200}") {
            let _ = (SshKeys::parse_all(&text), UserName::parse(&text), PasswordHash::parse(&text));
        }
    }
}
