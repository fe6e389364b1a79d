//! Chains and keys as people bring them, good and bad.

use proptest::prelude::*;
use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, PKCS_ECDSA_P384_SHA384, PKCS_ED25519,
};

use super::*;

const NOW: &str = "2026-06-01T12:00:00Z";
const ADDRESS: [u8; 4] = [192, 0, 2, 7];

struct Authority {
    certificate: String,
    issuer: Issuer<'static, KeyPair>,
}

fn params(names: &[&str], from: (i32, u8, u8), until: (i32, u8, u8)) -> CertificateParams {
    let names: Vec<_> = names.iter().map(ToString::to_string).collect();
    let mut params = CertificateParams::new(names).unwrap();
    params.distinguished_name.push(DnType::CommonName, "qx-01");
    params.not_before = rcgen::date_time_ymd(from.0, from.1, from.2);
    params.not_after = rcgen::date_time_ymd(until.0, until.1, until.2);
    params
}

fn this_year(names: &[&str]) -> CertificateParams {
    params(names, (2026, 1, 1), (2027, 1, 1))
}

impl Authority {
    fn new(name: &str, above: Option<&Self>) -> Self {
        let mut params = this_year(&[]);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().unwrap();
        let certificate = match above {
            Some(above) => params.signed_by(&key, &above.issuer).unwrap(),
            None => params.self_signed(&key).unwrap(),
        };
        Self { certificate: certificate.pem(), issuer: Issuer::new(params, key) }
    }

    fn sign(&self, params: &CertificateParams, key: &KeyPair) -> String {
        params.signed_by(key, &self.issuer).unwrap().pem()
    }
}

/// A root, one between, a certificate for the host, and its key.
struct Brought {
    root: Authority,
    between: Authority,
    own: String,
    key: KeyPair,
}

fn brought(params: &CertificateParams) -> Brought {
    let root = Authority::new("Lab root", None);
    let between = Authority::new("Lab issuing", Some(&root));
    let key = KeyPair::generate().unwrap();
    let own = between.sign(params, &key);
    Brought { root, between, own, key }
}

fn checked(chain: &str, key: &str, accept_warnings: bool) -> Result<Pair, Problem> {
    let upload = UploadCertificate { chain: chain.to_owned(), key: Some(Secret::new(key)), accept_warnings };
    check_at(&upload, None, NOW)
}

fn check_at(upload: &UploadCertificate, requested: Option<&Secret>, now: &str) -> Result<Pair, Problem> {
    let addresses = [IpAddr::from(ADDRESS)];
    let against =
        Against { now: now.parse().unwrap(), clock_is_right: false, name: "qx-01", addresses: &addresses };
    check(upload, requested, &against)
}

#[track_caller]
fn refused(checked: Result<Pair, Problem>, field: &str, says: &str) {
    let problem = checked.unwrap_err();
    assert_eq!(problem.field.as_deref(), Some(field), "{problem}");
    assert!(problem.detail.contains(says), "{problem}");
}

#[test]
fn a_chain_with_its_key_is_taken_with_and_without_the_root() {
    let Brought { root, between, own, key } = brought(&this_year(&["qx-01.lab.example"]));
    for chain in [
        format!("{own}{}", between.certificate),
        format!("{own}{}{}", between.certificate, root.certificate),
        own.clone(),
    ] {
        let pair = checked(&chain, &key.serialize_pem(), false).unwrap();
        assert_eq!(pair.source, CertificateSource::Uploaded);
        assert_eq!(pair.certificates().unwrap(), certificates(&chain).unwrap());
        assert_eq!(pair.key.expose(), key.serialize_pem().replace("\r\n", "\n"));
    }
}

#[test]
fn what_does_not_belong_together_is_told_apart() {
    let Brought { root, between, own, key } = brought(&this_year(&["qx-01"]));
    let other = KeyPair::generate().unwrap().serialize_pem();
    let key = key.serialize_pem();
    refused(checked(&own, &other, false), "key", "not the key of the first certificate");
    let reversed = format!("{}{own}", between.certificate);
    refused(checked(&reversed, &key, false), "key", "comes first");
    let gap = format!("{own}{}", root.certificate);
    refused(checked(&gap, &key, false), "chain", "“Lab issuing”, but after it comes the one of “Lab root”");
    // One that only bears the signer's name.
    let impostor = Authority::new("Lab issuing", None);
    refused(
        checked(&format!("{own}{}", impostor.certificate), &key, false),
        "chain",
        "do not sign each other",
    );
}

#[test]
fn what_is_no_pem_says_what_to_do() {
    let Brought { own, key, .. } = brought(&this_year(&["qx-01"]));
    let key = key.serialize_pem();
    refused(checked("", &key, false), "chain", "openssl x509 -inform der");
    refused(checked("\u{fffd}0\u{fffd}", &key, false), "chain", "no certificate in PEM form");
    refused(checked(&format!("{key}{own}"), &key, false), "chain", "There is a private key among");
    refused(checked(&own, "hello", false), "key", "openssl pkey -inform der");
    let torn = "-----BEGIN PRIVATE KEY-----\nMIGHAgEAMBMGByqGSM49AgEG\n-----END PRIVATE KEY-----\n";
    refused(checked(&own, torn, false), "key", "not understood, or the key is damaged");
    let with_passphrase =
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
    refused(checked(&own, with_passphrase, false), "key", "openssl pkey -in key.pem");
    let older = "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-256-CBC,00\n\nAAAA\n-----END RSA PRIVATE KEY-----\n";
    refused(checked(&own, older, false), "key", "passphrase");
    refused(checked(&"x".repeat(LONGEST_CHAIN + 1), &key, false), "chain", "longer than 32 KiB");
    refused(checked(&own, &"x".repeat(LONGEST_KEY + 1), false), "key", "longer than 16 KiB");
    refused(checked(&own.repeat(11), &key, false), "chain", "at most 10");
    let none = UploadCertificate { chain: own, key: Some(Secret::new(" \r\n")), accept_warnings: false };
    refused(check_at(&none, None, NOW), "key", "The key is missing");
}

#[test]
fn a_certificate_whose_time_has_not_come_or_is_over_names_the_clock() {
    let old = brought(&params(&["qx-01"], (2025, 1, 1), (2026, 1, 1)));
    let key = old.key.serialize_pem();
    refused(
        checked(&old.own, &key, true),
        "chain",
        "expired on 2026-01-01 00:00 UTC; it is 2026-06-01 12:00 UTC",
    );
    let new = brought(&params(&["qx-01"], (2027, 1, 1), (2028, 1, 1)));
    refused(checked(&new.own, &new.key.serialize_pem(), true), "chain", "whose clock follows no server");
}

#[test]
fn what_browsers_refuse_is_refused() {
    let lab = Authority::new("Lab", None);
    let weak = KeyPair::generate_for(&PKCS_ED25519).unwrap();
    refused(checked(&lab.sign(&this_year(&["qx-01"]), &weak), &weak.serialize_pem(), true), "key", "Ed25519");
    let key = KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384).unwrap();
    assert!(checked(&lab.sign(&this_year(&["qx-01"]), &key), &key.serialize_pem(), false).is_ok());
    refused(
        checked(&lab.sign(&this_year(&[]), &key), &key.serialize_pem(), true),
        "chain",
        "no alternative names",
    );
    let mut for_clients = this_year(&["qx-01"]);
    for_clients.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    refused(checked(&lab.sign(&for_clients, &key), &key.serialize_pem(), true), "chain", "not for servers");
}

#[test]
fn what_may_be_meant_is_taken_when_it_is_confirmed() {
    let other = brought(&this_year(&["www.example.org"]));
    let key = other.key.serialize_pem();
    refused(
        checked(&other.own, &key, false),
        "accept_warnings",
        "this host is called qx-01 and has 192.0.2.7",
    );
    assert!(checked(&other.own, &key, true).is_ok());

    // An authority that says where its own certificate is has another above it.
    let mut public = this_year(&["qx-01"]);
    let location = b"http://ca.lab.example/issuing.crt";
    let method = [0x06, 8, 0x2b, 6, 1, 5, 5, 7, 0x30, 2];
    let name: Vec<u8> = [&[0x86, u8::try_from(location.len()).unwrap()][..], location].concat();
    let description =
        [&[0x30, u8::try_from(method.len() + name.len()).unwrap()][..], &method, &name].concat();
    let access = [&[0x30, u8::try_from(description.len()).unwrap()][..], &description].concat();
    public.custom_extensions.push(CustomExtension::from_oid_content(&[1, 3, 6, 1, 5, 5, 7, 1, 1], access));
    let public = brought(&public);
    let key = public.key.serialize_pem();
    refused(
        checked(&public.own, &key, false),
        "accept_warnings",
        "“Lab issuing” that signed it probably belongs",
    );
    assert!(checked(&public.own, &key, true).is_ok());
    assert!(checked(&format!("{}{}", public.own, public.between.certificate), &key, false).is_ok());
}

#[test]
fn names_count_as_the_host_s_by_themselves_in_a_domain_and_as_an_address() {
    let addresses = [IpAddr::from(ADDRESS)];
    let against =
        Against { now: Timestamp::UNIX_EPOCH, clock_is_right: true, name: "qx-01", addresses: &addresses };
    let names = |name: &str| names_host(&[name.to_owned()], &against);
    for name in ["qx-01", "QX-01.lab.example", "*.lab.example", "192.0.2.7"] {
        assert!(names(name), "{name}");
    }
    for name in ["qx-02", "qx-01x.lab", "lab.qx-01", "192.0.2.8", "*"] {
        assert!(!names(name), "{name}");
    }
}

#[test]
fn a_request_is_answered_without_a_key_and_only_by_its_certificate() {
    let lab = Authority::new("Lab", None);
    let (mine, other) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
    let requested = Secret::new(mine.serialize_pem());
    let answer = |key: &KeyPair| {
        let chain = lab.sign(&this_year(&["qx-01"]), key);
        check_at(&UploadCertificate { chain, key: None, accept_warnings: false }, Some(&requested), NOW)
    };
    assert_eq!(answer(&mine).unwrap().key, requested);
    refused(answer(&other), "chain", "not for the request");
}

proptest! {
    #[test]
    fn nothing_that_is_brought_breaks_the_check_or_is_told_from_the_key(chain in "\\PC{0,200}", key in "[A-Za-z0-9+/=\n -]{20,200}") {
        prop_assume!(key.trim().len() > 8);
        let problem = checked(&chain, &key, true).unwrap_err();
        prop_assert!(!problem.detail.contains(key.trim()));
        let chain = format!("-----BEGIN CERTIFICATE-----\n{key}\n-----END CERTIFICATE-----");
        prop_assert!(checked(&chain, &key, true).is_err());
    }

    #[test]
    fn a_certificate_with_a_turned_bit_is_refused_or_another(at in any::<proptest::sample::Index>(), bit in 0..8_u8) {
        let Brought { between, own, key, .. } = brought(&this_year(&["qx-01"]));
        let mut der = certificates(&own).unwrap()[0].to_vec();
        let at = at.index(der.len());
        der[at] ^= 1 << bit;
        let chain = format!("{}{}", pem("CERTIFICATE", &der), between.certificate);
        prop_assert!(checked(&chain, &key.serialize_pem(), true).is_err());
    }
}
