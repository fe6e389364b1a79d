//! What the guests of virtual machines are told when they start for the first time.

use std::sync::Arc;

use axum::{
    Json,
    extract::{Path, State},
    http::StatusCode,
    response::IntoResponse,
};
use quantix_api::{CloudInit, FetchSshKeys, Problem, ProblemCode, Right, Scope, SshKeysFound};
use quantix_compute::SshKeys;
use rusqlite::Connection;

use super::{
    Agent,
    answer::{Body, Failure},
    peer::Client,
    person::Person,
    vms::named,
};
use crate::{
    audit::Line,
    cluster::Refused,
    outside::fetch,
    version::{Version, tag},
    vms::{
        cloud_init::{self, Kept},
        kept,
    },
};

/// The longest list of keys that is read.
const LONGEST_KEYS: usize = 64 << 10;

/// Fetches keys that let somebody in, from an address: each is looked at, and nothing is kept.
#[utoipa::path(post, path = "/api/v1/ssh-keys/fetch", tag = "virtual machines", request_body = FetchSshKeys, responses((status = 200, body = SshKeysFound)))]
pub(crate) async fn fetch_keys(
    person: Person,
    Body(body): Body<FetchSshKeys>,
) -> Result<Json<SshKeysFound>, Failure> {
    if body.allow_private {
        // What can be reached there is nothing for whoever only has machines here.
        person.must_have(Right::ManageStorage, Scope::Datacenter)?;
    }
    let text = fetch::whole_for(&body.url, body.allow_private, &body.authority, LONGEST_KEYS).await?;
    let wrong = |why: String| Problem::new(ProblemCode::Invalid, why).in_field("url");
    let keys = SshKeys::parse_all(&String::from_utf8_lossy(&text))
        .map_err(|refused| wrong(format!("What is at this address cannot be taken. {refused}")))?;
    if keys.is_empty() {
        return Err(wrong("There are no keys at this address.".to_owned()).into());
    }
    Ok(Json(SshKeysFound { keys: keys.as_slice().iter().map(ToString::to_string).collect() }))
}

/// What the guest of a virtual machine is told; whoever may change the machine may read it.
#[utoipa::path(get, path = "/api/v1/vms/{vm}/cloud-init", tag = "virtual machines", params(("vm" = String, Path,)), responses((status = 200, body = CloudInit), (status = 404, description = "It is told nothing.")))]
pub(crate) async fn show(
    State(agent): State<Arc<Agent>>,
    Path(id): Path<String>,
) -> Result<impl IntoResponse, Failure> {
    let show = move |connection: &Connection| {
        let vm = kept::one(connection, &id)?;
        let told = cloud_init::find(connection, &id)?;
        let nothing = || Problem::new(ProblemCode::NotFound, "The guest of this machine is told nothing.");
        Ok((vm.version, told.ok_or_else(nothing)?.shown()))
    };
    let (version, told) = agent.found(show).await?;
    Ok((tag(version), Json(told)))
}

/// Has the guest of a virtual machine told something else. It does so when it starts the next time: it sets up anew whom it
/// lets in, and makes new keys by which it is known over SSH.
#[utoipa::path(put, path = "/api/v1/vms/{vm}/cloud-init", tag = "virtual machines", params(("vm" = String, Path,)), request_body = CloudInit, responses((status = 200, body = CloudInit)))]
pub(crate) async fn set(
    State(agent): State<Arc<Agent>>,
    client: Client,
    person: Person,
    Path(id): Path<String>,
    seen: Version,
    Body(body): Body<CloudInit>,
) -> Result<impl IntoResponse, Failure> {
    let line = person.line(client, "change-cloud-init", &id);
    let set = move |connection: &Connection, line: &mut Line| {
        let before = write(connection, &id, seen, line)?;
        let told = Kept::of(body, before.told.as_ref())?;
        line.is(&told.told());
        cloud_init::keep(connection, &before.vm, Some(&told))?;
        Ok((kept::one(connection, &id)?.version, told.shown()))
    };
    let (version, told) = agent.cluster.write_telling(line, set).await?;
    Ok((tag(version), Json(told)))
}

/// Has the guest of a virtual machine told nothing any more.
#[utoipa::path(delete, path = "/api/v1/vms/{vm}/cloud-init", tag = "virtual machines", params(("vm" = String, Path,)), responses((status = 204)))]
pub(crate) async fn remove(
    State(agent): State<Arc<Agent>>,
    client: Client,
    person: Person,
    Path(id): Path<String>,
    seen: Version,
) -> Result<StatusCode, Failure> {
    let line = person.line(client, "remove-cloud-init", &id);
    let remove = move |connection: &Connection, line: &mut Line| {
        let before = write(connection, &id, seen, line)?;
        cloud_init::keep(connection, &before.vm, None)
    };
    agent.cluster.write_telling(line, remove).await?;
    Ok(StatusCode::NO_CONTENT)
}

struct Before {
    vm: kept::Kept,
    told: Option<Kept>,
}

/// What there is before it is changed, if it may be changed now.
fn write(connection: &Connection, id: &str, seen: Version, line: &mut Line) -> Result<Before, Refused> {
    let vm = kept::one(connection, id)?;
    line.object = named(&vm);
    seen.must_be(vm.version)?;
    if vm.comes_or_goes() {
        return Err(Problem::new(ProblemCode::Conflict, "It is just being made or removed.").into());
    }
    vm.must_be_as_described()?;
    let told = cloud_init::find(connection, id)?;
    if let Some(told) = &told {
        line.was(&told.told());
    }
    Ok(Before { vm, told })
}
