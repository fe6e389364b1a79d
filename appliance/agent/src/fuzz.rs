//! What the fuzz targets reach: what people, programs and other hosts send to the agent.

use axum::http::{HeaderMap, HeaderValue, Uri, header};
use quantix_api::{
    AddDisks, AdoptFile, AuditQuery, BackFromProvider, BeginAtProvider, ChangeGroup, ChangeImage,
    ChangePassword, ChangeRole, ChangeSnapshot, ChangeUser, ChangeVm, CloneVm, CloudInit, EventQuery,
    FetchImage, ImportVm, JoinCluster, ListQuery, MakeBackup, MoveLead, NewAccess, NewApiToken,
    NewCertificateRequest, NewGroup, NewJoinToken, NewPool, NewRole, NewSchedule, NewSnapshot, NewUser,
    NewVm, OpenConsole, PowerHost, ProvePassword, RemoveHost, RemoveSnapshot, RestartServices, RevertVm,
    Scope, SecondFactorCode, SetAcme, SetGuestPassword, SetProvider, SetSyslog, SetVoters, SignIn, TaskQuery,
    UploadCertificate, Who,
};
use serde::{Serialize, de::DeserializeOwned};

use crate::{audit, list, storage::catalogue, version::Version};
pub use crate::{
    certificate::upload::fuzz::upload,
    cluster::fuzz::{backup, joining},
    provider::id_token::fuzz::answer,
};

/// The body of a request, a query, a name in one, or a header; the first byte says which.
pub fn request(bytes: &[u8]) {
    const READERS: [fn(&[u8]); 50] = [
        body::<ChangeGroup>,
        body::<ChangePassword>,
        body::<ChangeRole>,
        body::<ChangeUser>,
        body::<JoinCluster>,
        body::<MakeBackup>,
        body::<MoveLead>,
        body::<NewAccess>,
        body::<NewApiToken>,
        body::<NewGroup>,
        body::<NewJoinToken>,
        body::<NewRole>,
        body::<NewUser>,
        body::<ProvePassword>,
        body::<RemoveHost>,
        body::<SecondFactorCode>,
        body::<SetVoters>,
        body::<SignIn>,
        body::<audit::Line>,
        query,
        scope,
        who,
        seen,
        body::<BackFromProvider>,
        body::<BeginAtProvider>,
        body::<NewCertificateRequest>,
        body::<PowerHost>,
        body::<RestartServices>,
        body::<SetAcme>,
        body::<SetProvider>,
        body::<SetSyslog>,
        body::<UploadCertificate>,
        body::<CloudInit>,
        body::<NewVm>,
        body::<ChangeVm>,
        body::<OpenConsole>,
        body::<FetchImage>,
        checksums,
        body::<NewSnapshot>,
        body::<ChangeSnapshot>,
        body::<RevertVm>,
        body::<RemoveSnapshot>,
        body::<CloneVm>,
        body::<ChangeImage>,
        body::<SetGuestPassword>,
        body::<NewPool>,
        body::<AddDisks>,
        body::<NewSchedule>,
        body::<ImportVm>,
        body::<AdoptFile>,
    ];
    if let Some((which, bytes)) = bytes.split_first() {
        READERS[usize::from(*which) % READERS.len()](bytes);
    }
}

/// A list of checksums, as a distribution sends it.
fn checksums(bytes: &[u8]) {
    let list = String::from_utf8_lossy(bytes);
    let file = list.split_whitespace().last().unwrap_or("disk.qcow2");
    if let Some(sum) = catalogue::checksum_of(&list, file) {
        assert!(catalogue::is_checksum(&sum));
    }
}

/// What was read is the same when it is passed on to the leader.
pub(crate) fn body<T: Serialize + DeserializeOwned>(bytes: &[u8]) {
    let Ok(read) = serde_json::from_slice::<T>(bytes) else { return };
    let sent = serde_json::to_vec(&read).unwrap_or_default();
    let again = serde_json::from_slice::<T>(&sent).map(|arrived| serde_json::to_vec(&arrived));
    assert!(matches!(again, Ok(Ok(again)) if again == sent), "a message changes on its way");
}

fn query(bytes: &[u8]) {
    let Ok(address) = Uri::try_from([b"/?", bytes].concat()) else { return };
    if let Ok(axum::extract::Query(asked)) = axum::extract::Query::<ListQuery>::try_from_uri(&address)
        && let Ok(_) = list::Asked::of(&asked, &audit::TABLE)
    {
        assert!(asked.limit.is_none_or(|limit| limit <= 1000), "a part without an end");
    }
    drop(axum::extract::Query::<AuditQuery>::try_from_uri(&address));
    drop(axum::extract::Query::<EventQuery>::try_from_uri(&address));
    drop(axum::extract::Query::<TaskQuery>::try_from_uri(&address));
}

fn scope(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(scope) = text.parse::<Scope>() {
        assert_eq!(scope.to_string(), text);
    }
}

fn who(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(who) = text.parse::<Who>() {
        assert_eq!(who.to_string(), text);
    }
}

/// `If-Match`
fn seen(bytes: &[u8]) {
    let Ok(value) = HeaderValue::from_bytes(bytes) else { return };
    drop(Version::read(&HeaderMap::from_iter([(header::IF_MATCH, value)])));
}
