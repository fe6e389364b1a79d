//! What the fuzz target reaches: certificates and keys that somebody brings.

use super::{
    Against, CertificateDer, IpAddr, Secret, Timestamp, UploadCertificate, check, facts, first_must_do,
    must_be_a_chain, must_be_valid_now, must_be_what_browsers_take,
};

/// A form with certificates and a key, or one certificate in binary form; the first byte says which.
pub fn upload(bytes: &[u8]) {
    let Some((kind, bytes)) = bytes.split_first() else { return };
    let now = Timestamp::constant(1_800_000_000, 0);
    let addresses = [IpAddr::from([192, 0, 2, 1])];
    let against = Against { now, clock_is_right: true, name: "qx-01", addresses: &addresses };
    match kind % 3 {
        0 | 1 => form(bytes, kind % 3 == 1, &against),
        _ => certificate(bytes, &against),
    }
}

/// What is taken is whole: a host can show it to browsers.
fn form(bytes: &[u8], accept_warnings: bool, against: &Against<'_>) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let (chain, key) = text.split_once('\0').unwrap_or((text, ""));
    let upload = UploadCertificate { chain: chain.to_owned(), key: Some(Secret::new(key)), accept_warnings };
    if let Ok(pair) = check(&upload, None, against) {
        assert!(pair.is_whole());
    }
}

fn certificate(bytes: &[u8], against: &Against<'_>) {
    let chain = [CertificateDer::from(bytes.to_vec())];
    let Ok(parsed) = facts::parse(&chain[0]) else { return };
    let parsed = [parsed];
    drop(first_must_do(&parsed[0]));
    drop(must_be_valid_now(&parsed, against));
    drop(must_be_a_chain(&chain, &parsed));
    drop(must_be_what_browsers_take(&parsed, against));
    if let Ok(facts) = facts::of(&chain) {
        assert!(facts.names.iter().all(|name| !name.contains('\n')), "a name of two lines");
    }
}
