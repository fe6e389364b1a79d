use http::Method;

use super::{HOSTS_PATH, part};
use crate::{Call, NewCertificateRequest, PageCertificate, SetAcme, UploadCertificate};

fn path(host: &str, rest: &str) -> String {
    format!("{HOSTS_PATH}/{}/certificate{rest}", part(host))
}

/// The certificate of a host's pages.
pub fn certificate(host: &str) -> Call<PageCertificate> {
    Call::new(Method::GET, path(host, ""))
}

/// Shows another certificate.
pub fn upload_certificate(host: &str, body: &UploadCertificate) -> Call<PageCertificate> {
    Call::new(Method::PUT, path(host, "")).json(body)
}

/// Goes back to the certificate that the host made for itself.
pub fn reset_certificate(host: &str) -> Call<PageCertificate> {
    Call::new(Method::DELETE, path(host, ""))
}

/// Makes a key and a request for a certificate for it.
pub fn make_certificate_request(host: &str, body: &NewCertificateRequest) -> Call<PageCertificate> {
    Call::new(Method::POST, path(host, "/request")).json(body)
}

/// Forgets a request and its key.
pub fn drop_certificate_request(host: &str) -> Call<PageCertificate> {
    Call::new(Method::DELETE, path(host, "/request"))
}

/// Gets certificates from an authority from now on.
pub fn set_acme(host: &str, body: &SetAcme) -> Call<PageCertificate> {
    Call::new(Method::PUT, path(host, "/acme")).json(body)
}

/// Asks the authority at once.
pub fn renew_certificate(host: &str) -> Call<PageCertificate> {
    Call::new(Method::POST, path(host, "/acme"))
}

/// Gets no certificates any more.
pub fn stop_acme(host: &str) -> Call<PageCertificate> {
    Call::new(Method::DELETE, path(host, "/acme"))
}
