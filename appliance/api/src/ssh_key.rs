//! Public keys of SSH, as a line of `authorized_keys` has them. What a key holds is decoded and read to its last byte; a
//! line that only looks like a key is none.

use std::{fmt, str::FromStr};

use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, STANDARD_NO_PAD},
};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::text::is_line;

/// Room for the largest RSA key and a comment.
const LONGEST_LINE: usize = 8 * 1024;
const LONGEST_COMMENT: usize = 256;
const LEAST_RSA_BITS: u32 = 2048;
/// OpenSSH takes no more.
const MOST_RSA_BITS: u32 = 16 * 1024;
/// OpenSSL takes no more with a modulus of this size.
const MOST_EXPONENT_BITS: u32 = 64;
const LONGEST_APPLICATION: usize = 255;

/// What a key is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum KeyKind {
    /// Ed25519.
    Ed25519,
    /// ECDSA on the curve P-256.
    EcdsaP256,
    /// ECDSA on the curve P-384.
    EcdsaP384,
    /// ECDSA on the curve P-521.
    EcdsaP521,
    /// Ed25519 on a security key.
    SkEd25519,
    /// ECDSA on the curve P-256, on a security key.
    SkEcdsaP256,
    /// RSA.
    Rsa,
}

impl KeyKind {
    const ALL: [Self; 7] = [
        Self::Ed25519,
        Self::EcdsaP256,
        Self::EcdsaP384,
        Self::EcdsaP521,
        Self::SkEd25519,
        Self::SkEcdsaP256,
        Self::Rsa,
    ];

    /// Its name in front of a key.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ed25519 => "ssh-ed25519",
            Self::EcdsaP256 => "ecdsa-sha2-nistp256",
            Self::EcdsaP384 => "ecdsa-sha2-nistp384",
            Self::EcdsaP521 => "ecdsa-sha2-nistp521",
            Self::SkEd25519 => "sk-ssh-ed25519@openssh.com",
            Self::SkEcdsaP256 => "sk-ecdsa-sha2-nistp256@openssh.com",
            Self::Rsa => "ssh-rsa",
        }
    }

    fn called(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

/// A public key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SshKey {
    kind: KeyKind,
    bits: u32,
    data: Vec<u8>,
    comment: String,
}

/// Why a line is no key that is taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyRefused {
    /// Nothing is there.
    #[error("There is no key. Paste the line from a file that ends in .pub.")]
    Nothing,
    /// It is longer than any key.
    #[error("This is too long for a key. Paste the one line from the file that ends in .pub.")]
    TooLong,
    /// There are several lines.
    #[error("A key is one line. Paste it without line breaks.")]
    SeveralLines,
    /// It is what nobody else may have.
    #[error("This is a private key. Paste the public one, from the file that ends in .pub.")]
    Private,
    /// It is as PuTTYgen saves it.
    #[error(
        "This key is in the format that PuTTYgen saves. Paste what PuTTYgen shows for OpenSSH's authorized_keys instead."
    )]
    Putty,
    /// It is as other programs write public keys.
    #[error("This key is in PEM format. Convert it with: ssh-keygen -i -m PKCS8 -f FILE")]
    Pem,
    /// Something is in front of it.
    #[error("There are options in front of this key. Paste the key alone; it begins with its type.")]
    Options,
    /// It is signed by an authority.
    #[error("This is a certificate. Paste the key it was made for, from the file that ends in .pub.")]
    Certificate,
    /// It is of a kind that is broken.
    #[error("DSA keys are not safe any more. Make another key: ssh-keygen -t ed25519")]
    Dsa,
    /// It is an RSA key that can be broken.
    #[error(
        "This RSA key has {bits} bits; at least {LEAST_RSA_BITS} are needed. Make another key: ssh-keygen -t ed25519"
    )]
    TooFewBits {
        /// How long it is.
        bits: u32,
    },
    /// It is an RSA key that no server reads.
    #[error("This RSA key has {bits} bits; OpenSSH takes at most {MOST_RSA_BITS}.")]
    TooManyBits {
        /// How long it is.
        bits: u32,
    },
    /// It is of no kind that is known.
    #[error("This is no key of a known type. A key begins with ssh-ed25519, ecdsa-sha2-nistp256 or ssh-rsa.")]
    UnknownKind,
    /// What it holds is not what it says.
    #[error("This key is damaged or not whole. Copy the whole line again.")]
    Damaged,
    /// What stands behind it is no comment.
    #[error("What stands behind this key is no plain comment of at most {LONGEST_COMMENT} characters.")]
    Comment,
}

impl SshKey {
    /// Reads one line, as `authorized_keys` has it but without options.
    pub fn parse(line: &str) -> Result<Self, KeyRefused> {
        let line = line.trim_matches([' ', '\t', '\r', '\n']);
        if line.is_empty() {
            return Err(KeyRefused::Nothing);
        }
        if let Some(other) = other_format(line) {
            return Err(other);
        }
        if line.contains(['\r', '\n']) {
            return Err(KeyRefused::SeveralLines);
        }
        if line.len() > LONGEST_LINE {
            return Err(KeyRefused::TooLong);
        }
        let (name, rest) = word(line);
        let kind = KeyKind::called(name).ok_or_else(|| unknown(name, rest))?;
        let (encoded, comment) = word(rest);
        // Only the one spelling of it, padded and without stray bits, as OpenSSH writes it.
        let data = STANDARD.decode(encoded).map_err(|_| KeyRefused::Damaged)?;
        let bits = read(kind, &data)?;
        if !is_line(comment, LONGEST_COMMENT) {
            return Err(KeyRefused::Comment);
        }
        Ok(Self { kind, bits, data, comment: comment.to_owned() })
    }

    /// What it is of.
    pub fn kind(&self) -> KeyKind {
        self.kind
    }

    /// How long it is, as `ssh-keygen -l` says it.
    pub fn bits(&self) -> u32 {
        self.bits
    }

    /// What its owner wrote behind it, often a name and a machine.
    pub fn comment(&self) -> &str {
        &self.comment
    }

    /// By what people compare keys: `SHA256:…`, as OpenSSH shows it.
    pub fn fingerprint(&self) -> String {
        format!("SHA256:{}", STANDARD_NO_PAD.encode(Sha256::digest(&self.data)))
    }

    /// What it is, for people: its type, its length, and what its owner wrote behind it.
    pub fn words(&self) -> String {
        let kind = match self.kind {
            KeyKind::Ed25519 => "Ed25519",
            KeyKind::EcdsaP256 | KeyKind::EcdsaP384 | KeyKind::EcdsaP521 => "ECDSA",
            KeyKind::SkEd25519 => "Ed25519 on a security key",
            KeyKind::SkEcdsaP256 => "ECDSA on a security key",
            KeyKind::Rsa => "RSA",
        };
        let comment = if self.comment.is_empty() { "" } else { ", " };
        format!("{kind}, {} bits{comment}{}", self.bits, self.comment)
    }

    /// Whether it is the same key, whatever is written behind it.
    pub fn is_same_key(&self, other: &Self) -> bool {
        self.data == other.data
    }
}

impl fmt::Display for SshKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} {}", self.kind.name(), STANDARD.encode(&self.data))?;
        if self.comment.is_empty() { Ok(()) } else { write!(formatter, " {}", self.comment) }
    }
}

impl FromStr for SshKey {
    type Err = KeyRefused;

    fn from_str(line: &str) -> Result<Self, KeyRefused> {
        Self::parse(line)
    }
}

impl TryFrom<String> for SshKey {
    type Error = KeyRefused;

    fn try_from(line: String) -> Result<Self, KeyRefused> {
        Self::parse(&line)
    }
}

impl From<SshKey> for String {
    fn from(key: SshKey) -> Self {
        key.to_string()
    }
}

/// The first word, and what comes behind it.
fn word(text: &str) -> (&str, &str) {
    let (word, rest) = text.split_once([' ', '\t']).unwrap_or((text, ""));
    (word, rest.trim_start_matches([' ', '\t']))
}

/// What people paste instead.
fn other_format(text: &str) -> Option<KeyRefused> {
    let first = text.lines().next().unwrap_or_default();
    if first.starts_with("PuTTY-User-Key-File") {
        return Some(KeyRefused::Private);
    }
    if !first.starts_with("----") {
        return None;
    }
    let has = |words: &str| first.contains(words);
    if has("PRIVATE KEY") {
        Some(KeyRefused::Private)
    } else if has("SSH2 PUBLIC KEY") {
        Some(KeyRefused::Putty)
    } else if has("PUBLIC KEY") {
        Some(KeyRefused::Pem)
    } else {
        None
    }
}

/// Why a line is not taken that does not begin with a kind that is.
fn unknown(name: &str, rest: &str) -> KeyRefused {
    let is_certificate = |word: &str| word.contains("-cert-v0") && word.ends_with("@openssh.com");
    let is_kind = |word: &str| KeyKind::called(word).is_some() || word == "ssh-dss" || is_certificate(word);
    if is_certificate(name) {
        KeyRefused::Certificate
    } else if name == "ssh-dss" {
        KeyRefused::Dsa
    } else if rest.split([' ', '\t']).any(is_kind) {
        KeyRefused::Options
    } else {
        KeyRefused::UnknownKind
    }
}

/// Reads what a key holds, to its last byte, and says how many bits it has.
fn read(kind: KeyKind, data: &[u8]) -> Result<u32, KeyRefused> {
    let mut wire = Wire(data);
    let said = wire.string().ok_or(KeyRefused::Damaged)?;
    if said != kind.name().as_bytes() {
        return Err(KeyRefused::Damaged);
    }
    let bits = match kind {
        KeyKind::Ed25519 => wire.ed25519(),
        KeyKind::EcdsaP256 => wire.point(b"nistp256", 256),
        KeyKind::EcdsaP384 => wire.point(b"nistp384", 384),
        KeyKind::EcdsaP521 => wire.point(b"nistp521", 521),
        KeyKind::SkEd25519 => wire.ed25519().filter(|_| wire.application()),
        KeyKind::SkEcdsaP256 => wire.point(b"nistp256", 256).filter(|_| wire.application()),
        KeyKind::Rsa => wire.rsa(),
    };
    let bits = bits.filter(|_| wire.0.is_empty()).ok_or(KeyRefused::Damaged)?;
    match kind {
        KeyKind::Rsa if bits < LEAST_RSA_BITS => Err(KeyRefused::TooFewBits { bits }),
        KeyKind::Rsa if bits > MOST_RSA_BITS => Err(KeyRefused::TooManyBits { bits }),
        _ => Ok(bits),
    }
}

/// What is not read yet of a key, in the encoding of RFC 4251.
#[derive(Debug)]
struct Wire<'a>(&'a [u8]);

impl<'a> Wire<'a> {
    fn string(&mut self) -> Option<&'a [u8]> {
        let (length, rest) = self.0.split_first_chunk::<4>()?;
        let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
        let (value, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        Some(value)
    }

    /// A number above zero in its one spelling, without the zero that keeps it from being a negative one.
    fn number(&mut self) -> Option<&'a [u8]> {
        match self.string()? {
            [0, rest @ ..] if rest.first().is_some_and(|first| first & 0x80 != 0) => Some(rest),
            value @ [1..0x80, ..] => Some(value),
            _ => None,
        }
    }

    fn ed25519(&mut self) -> Option<u32> {
        (self.string()?.len() == 32).then_some(256)
    }

    /// A point that is not compressed, on this curve.
    fn point(&mut self, curve: &[u8], bits: u32) -> Option<u32> {
        let named = self.string()?;
        let point = self.string()?;
        let length = 2 * usize::try_from(bits.div_ceil(8)).ok()? + 1;
        (named == curve && point.len() == length && point.first() == Some(&4)).then_some(bits)
    }

    /// What a security key was made for.
    fn application(&mut self) -> bool {
        self.string()
            .and_then(|text| str::from_utf8(text).ok())
            .is_some_and(|text| !text.is_empty() && text.is_ascii() && is_line(text, LONGEST_APPLICATION))
    }

    fn rsa(&mut self) -> Option<u32> {
        let is_odd = |number: &[u8]| number.last().is_some_and(|last| last & 1 == 1);
        let exponent = self.number()?;
        let modulus = self.number()?;
        let can_be =
            is_odd(exponent) && exponent != [1] && bits(exponent)? <= MOST_EXPONENT_BITS && is_odd(modulus);
        if can_be { bits(modulus) } else { None }
    }
}

/// How many bits a number has that does not begin with a zero.
fn bits(number: &[u8]) -> Option<u32> {
    let (first, rest) = number.split_first()?;
    let rest = u32::try_from(rest.len()).ok()?;
    rest.checked_mul(8)?.checked_add(8 - first.leading_zeros())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A key put together from its parts.
    fn line(name: &str, parts: &[&[u8]]) -> String {
        let mut data = Vec::new();
        for part in parts {
            data.extend(u32::try_from(part.len()).unwrap().to_be_bytes());
            data.extend(*part);
        }
        format!("{name} {}", STANDARD.encode(data))
    }

    fn parsed(name: &str, parts: &[&[u8]]) -> Result<u32, KeyRefused> {
        SshKey::parse(&line(name, parts)).map(|key| key.bits())
    }

    fn point(length: usize) -> Vec<u8> {
        [&[4][..], &vec![7; length - 1]].concat()
    }

    fn modulus(bytes: usize) -> Vec<u8> {
        [&[0][..], &vec![0xc1; bytes]].concat()
    }

    #[test]
    fn a_key_is_read_to_its_last_byte() {
        const ED: &str = "ssh-ed25519";
        assert_eq!(parsed(ED, &[ED.as_bytes(), &[1; 32]]), Ok(256));
        for length in [0, 31, 33] {
            let key = parsed(ED, &[ED.as_bytes(), &vec![1; length]]);
            assert_eq!(key, Err(KeyRefused::Damaged), "{length}");
        }
        assert_eq!(parsed(ED, &[ED.as_bytes(), &[1; 32], b""]), Err(KeyRefused::Damaged));
        assert_eq!(parsed(ED, &[ED.as_bytes()]), Err(KeyRefused::Damaged));
        assert_eq!(parsed(ED, &[b"ssh-rsa", &[1; 32]]), Err(KeyRefused::Damaged));
        assert_eq!(SshKey::parse("ssh-ed25519 AAAAC3Nz////"), Err(KeyRefused::Damaged));
        assert_eq!(SshKey::parse("ssh-ed25519 not-base64"), Err(KeyRefused::Damaged));
        assert_eq!(SshKey::parse("ssh-ed25519"), Err(KeyRefused::Damaged));
        let unpadded = line(ED, &[ED.as_bytes(), &[1; 32], b"x"]);
        assert_eq!(SshKey::parse(unpadded.trim_end_matches('=')), Err(KeyRefused::Damaged));
    }

    #[test]
    fn a_point_is_on_the_curve_that_is_named_and_not_compressed() {
        let curves = [("nistp256", 65, 256), ("nistp384", 97, 384), ("nistp521", 133, 521)];
        for (curve, length, bits) in curves {
            let name = format!("ecdsa-sha2-{curve}");
            let key = |curve: &str, point: &[u8]| parsed(&name, &[name.as_bytes(), curve.as_bytes(), point]);
            assert_eq!(key(curve, &point(length)), Ok(bits));
            assert_eq!(key("nistp224", &point(length)), Err(KeyRefused::Damaged));
            assert_eq!(key(curve, &point(length - 1)), Err(KeyRefused::Damaged));
            assert_eq!(key(curve, &point(length + 1)), Err(KeyRefused::Damaged));
            let mut compressed = point(length / 2 + 1);
            compressed[0] = 2;
            assert_eq!(key(curve, &compressed), Err(KeyRefused::Damaged));
            let mut other = point(length);
            other[0] = 6;
            assert_eq!(key(curve, &other), Err(KeyRefused::Damaged));
        }
    }

    #[test]
    fn a_security_key_names_what_it_is_for() {
        const ED: &str = "sk-ssh-ed25519@openssh.com";
        const EC: &str = "sk-ecdsa-sha2-nistp256@openssh.com";
        assert_eq!(parsed(ED, &[ED.as_bytes(), &[1; 32], b"ssh:"]), Ok(256));
        assert_eq!(parsed(EC, &[EC.as_bytes(), b"nistp256", &point(65), b"ssh:me"]), Ok(256));
        for application in [&b""[..], b"a\nb", b"\xff", &[b'a'; 256]] {
            let key = parsed(ED, &[ED.as_bytes(), &[1; 32], application]);
            assert_eq!(key, Err(KeyRefused::Damaged), "{application:?}");
        }
        assert_eq!(parsed(ED, &[ED.as_bytes(), &[1; 32]]), Err(KeyRefused::Damaged));
    }

    #[test]
    fn an_rsa_key_is_as_long_as_its_modulus_without_the_leading_zero() {
        const RSA: &str = "ssh-rsa";
        let key = |exponent: &[u8], modulus: &[u8]| parsed(RSA, &[RSA.as_bytes(), exponent, modulus]);
        let usual = [1, 0, 1];
        assert_eq!(key(&usual, &modulus(256)), Ok(2048));
        let mut shorter = modulus(256)[1..].to_vec();
        shorter[0] = 0x7f;
        assert_eq!(key(&usual, &shorter), Err(KeyRefused::TooFewBits { bits: 2047 }));
        assert_eq!(key(&usual, &modulus(128)), Err(KeyRefused::TooFewBits { bits: 1024 }));
        assert_eq!(key(&usual, &modulus(2049)), Err(KeyRefused::TooManyBits { bits: 16392 }));
        let even = [&modulus(255)[..], &[2]].concat();
        let negative = &modulus(256)[1..];
        let padded = [&[0][..], &modulus(256)].concat();
        for modulus in [&even[..], negative, &padded, &[], &[0]] {
            assert_eq!(key(&usual, modulus), Err(KeyRefused::Damaged));
        }
        for exponent in [&[][..], &[0], &[1], &[2], &[0, 3], &[0x81], &[1; 9]] {
            assert_eq!(key(exponent, &modulus(256)), Err(KeyRefused::Damaged), "{exponent:?}");
        }
    }

    #[test]
    fn what_is_pasted_instead_of_a_key_is_called_by_its_name() {
        let key = line("ssh-ed25519", &[b"ssh-ed25519", &[1; 32]]);
        let refused = |text: &str| SshKey::parse(text).unwrap_err();
        assert_eq!(refused(" \n"), KeyRefused::Nothing);
        for private in [
            "-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNz",
            "-----BEGIN RSA PRIVATE KEY-----",
            "---- BEGIN SSH2 ENCRYPTED PRIVATE KEY ----",
            "PuTTY-User-Key-File-3: ssh-ed25519\nEncryption: none",
        ] {
            assert_eq!(refused(private), KeyRefused::Private, "{private}");
        }
        assert_eq!(refused("---- BEGIN SSH2 PUBLIC KEY ----\nComment: \"a\""), KeyRefused::Putty);
        assert_eq!(refused("-----BEGIN PUBLIC KEY-----"), KeyRefused::Pem);
        for options in ["no-pty", "command=\"rm -rf /\",no-pty", "from=\"a b\""] {
            assert_eq!(refused(&format!("{options} {key}")), KeyRefused::Options, "{options}");
        }
        assert_eq!(refused("ssh-dss AAAAB3NzaC1kc3M="), KeyRefused::Dsa);
        assert_eq!(refused("ssh-ed25519-cert-v01@openssh.com AAAA"), KeyRefused::Certificate);
        assert_eq!(refused(key.split(' ').nth(1).unwrap()), KeyRefused::UnknownKind);
        assert_eq!(refused("<script>"), KeyRefused::UnknownKind);
        assert_eq!(refused(&format!("{key}\n{key}")), KeyRefused::SeveralLines);
        assert_eq!(refused(&format!("{key} {}", "a".repeat(9000))), KeyRefused::TooLong);
        for comment in ["a\u{1b}[2J", "a\u{202e}b", &"a".repeat(257)] {
            assert_eq!(refused(&format!("{key} {comment}")), KeyRefused::Comment, "{comment:?}");
        }
    }

    #[test]
    fn a_key_is_written_in_one_way_however_it_was_pasted() {
        let key = line("ssh-ed25519", &[b"ssh-ed25519", &[1; 32]]);
        let (name, data) = key.split_once(' ').unwrap();
        let pasted = SshKey::parse(&format!("\t{name}  \t{data}\t Zoë's  laptop \r\n")).unwrap();
        assert_eq!(pasted.to_string(), format!("{key} Zoë's  laptop"));
        assert_eq!(SshKey::parse(&key).unwrap().to_string(), key);
        assert!(pasted.is_same_key(&key.parse().unwrap()));
        assert_eq!(pasted.words(), "Ed25519, 256 bits, Zoë's  laptop");
        assert_eq!(SshKey::parse(&key).unwrap().words(), "Ed25519, 256 bits");
    }
}
