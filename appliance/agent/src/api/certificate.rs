//! The certificate of a host's pages. Each host looks after its own, whose key does not leave it; what is asked about
//! another goes there.

use std::sync::Arc;

use axum::{
    Json,
    extract::{Path, State},
    http::{HeaderName, HeaderValue},
};
use jiff::Timestamp;
use quantix_api::{NewCertificateRequest, PageCertificate, Problem, ProblemCode, SetAcme, UploadCertificate};

use super::{
    Agent,
    answer::{Body, Failure},
    peer::Client,
    person::Person,
};
use crate::{
    acme::Settings,
    audit::Line,
    certificate::Here,
    version::{self, Version},
};

/// The certificate, and which state of it this is.
type Shown = ([(HeaderName, HeaderValue); 1], Json<PageCertificate>);

impl Agent {
    /// What certificates are measured by here.
    pub(crate) async fn here(&self) -> Here {
        let facts = self.host.facts().await;
        Here {
            name: self.name.clone(),
            addresses: self.own_ips().await,
            clock_is_right: facts.clock.synchronised,
        }
    }

    /// Only this host can answer for its own certificate.
    fn must_be_here(&self, host: &str) -> Result<String, Problem> {
        let here = self.cluster.store()?.id().to_string();
        if here == host {
            return Ok(here);
        }
        Err(Problem::new(ProblemCode::NotFound, "The cluster has no such host."))
    }

    async fn certificate(&self, host: &str) -> Result<Shown, Failure> {
        let host = self.must_be_here(host)?;
        let seen = version::tag(self.certificates.version());
        Ok((seen, Json(self.certificates.view(host, &self.here().await, Timestamp::now())?)))
    }

    /// Nobody leads while the line is to be written: what was done stays done, as an expired certificate is replaced
    /// also when too few hosts are left.
    async fn note_certificate(&self, line: Line) {
        if let Err(problem) = self.cluster.note(line).await {
            log::warn!("A change of the certificate is not in the audit log: {problem}");
        }
    }
}

/// The certificate of a host’s pages.
#[utoipa::path(get, path = "/api/v1/cluster/hosts/{host}/certificate", tag = "certificate", params(("host" = String, Path)), responses((status = 200, body = PageCertificate)))]
pub(crate) async fn show(
    State(agent): State<Arc<Agent>>,
    Path(host): Path<String>,
) -> Result<Shown, Failure> {
    agent.certificate(&host).await
}

/// Shows another certificate: one that was uploaded. New connections get it; those that are open go on.
#[utoipa::path(put, path = "/api/v1/cluster/hosts/{host}/certificate", tag = "certificate", params(("host" = String, Path)), request_body = UploadCertificate, responses((status = 200, body = PageCertificate)))]
pub(crate) async fn upload(
    State(agent): State<Arc<Agent>>,
    client: Client,
    person: Person,
    seen: Version,
    Path(host): Path<String>,
    Body(body): Body<UploadCertificate>,
) -> Result<Shown, Failure> {
    agent.must_be_here(&host)?;
    let line = person.line(client, "upload certificate", agent.name.clone());
    let here = agent.here().await;
    agent.certificates.upload(body, &here, seen).await?;
    agent.note_certificate(line).await;
    agent.certificate(&host).await
}

/// Goes back to the certificate that the host made for itself.
#[utoipa::path(delete, path = "/api/v1/cluster/hosts/{host}/certificate", tag = "certificate", params(("host" = String, Path)), responses((status = 200, body = PageCertificate)))]
pub(crate) async fn reset(
    State(agent): State<Arc<Agent>>,
    client: Client,
    person: Person,
    seen: Version,
    Path(host): Path<String>,
) -> Result<Shown, Failure> {
    agent.must_be_here(&host)?;
    let line = person.line(client, "reset certificate", agent.name.clone());
    agent.certificates.reset(seen).await?;
    agent.note_certificate(line).await;
    agent.certificate(&host).await
}

/// Makes a key and a request for a certificate for it. One that waits is replaced.
#[utoipa::path(post, path = "/api/v1/cluster/hosts/{host}/certificate/request", tag = "certificate", params(("host" = String, Path)), request_body = NewCertificateRequest, responses((status = 200, body = PageCertificate)))]
pub(crate) async fn make_request(
    State(agent): State<Arc<Agent>>,
    client: Client,
    person: Person,
    Path(host): Path<String>,
    Body(body): Body<NewCertificateRequest>,
) -> Result<Shown, Failure> {
    agent.must_be_here(&host)?;
    let line = person.line(client, "make certificate request", agent.name.clone());
    agent.certificates.make_request(body).await?;
    agent.note_certificate(line).await;
    agent.certificate(&host).await
}

/// Forgets a request and its key.
#[utoipa::path(delete, path = "/api/v1/cluster/hosts/{host}/certificate/request", tag = "certificate", params(("host" = String, Path)), responses((status = 200, body = PageCertificate)))]
pub(crate) async fn drop_request(
    State(agent): State<Arc<Agent>>,
    client: Client,
    person: Person,
    Path(host): Path<String>,
) -> Result<Shown, Failure> {
    agent.must_be_here(&host)?;
    let line = person.line(client, "drop certificate request", agent.name.clone());
    agent.certificates.drop_request().await?;
    agent.note_certificate(line).await;
    agent.certificate(&host).await
}

/// Gets certificates from an authority (ACME) from now on.
#[utoipa::path(put, path = "/api/v1/cluster/hosts/{host}/certificate/acme", tag = "certificate", params(("host" = String, Path)), request_body = SetAcme, responses((status = 200, body = PageCertificate)))]
pub(crate) async fn set_acme(
    State(agent): State<Arc<Agent>>,
    client: Client,
    person: Person,
    seen: Version,
    Path(host): Path<String>,
    Body(body): Body<SetAcme>,
) -> Result<Shown, Failure> {
    agent.must_be_here(&host)?;
    let line = person.line(client, "get certificates by ACME", agent.name.clone());
    agent.certificates.set_acme(Settings::new(body)?, seen).await?;
    agent.note_certificate(line).await;
    agent.certificate(&host).await
}

/// Asks the authority at once, and not when it is time.
#[utoipa::path(post, path = "/api/v1/cluster/hosts/{host}/certificate/acme", tag = "certificate", params(("host" = String, Path)), responses((status = 200, body = PageCertificate)))]
pub(crate) async fn renew(
    State(agent): State<Arc<Agent>>,
    client: Client,
    person: Person,
    Path(host): Path<String>,
) -> Result<Shown, Failure> {
    agent.must_be_here(&host)?;
    let line = person.line(client, "renew certificate", agent.name.clone());
    agent.certificates.acme.try_now().await?;
    agent.note_certificate(line).await;
    agent.certificate(&host).await
}

/// Gets no certificates any more; the one that is shown stays.
#[utoipa::path(delete, path = "/api/v1/cluster/hosts/{host}/certificate/acme", tag = "certificate", params(("host" = String, Path)), responses((status = 200, body = PageCertificate)))]
pub(crate) async fn stop_acme(
    State(agent): State<Arc<Agent>>,
    client: Client,
    person: Person,
    Path(host): Path<String>,
) -> Result<Shown, Failure> {
    agent.must_be_here(&host)?;
    let line = person.line(client, "stop ACME", agent.name.clone());
    agent.certificates.stop_acme().await?;
    agent.note_certificate(line).await;
    agent.certificate(&host).await
}
