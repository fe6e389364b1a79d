use http::Method;

use super::asking;
use crate::{AuditLine, AuditQuery, Call, Page};

/// The audit log.
pub const AUDIT_PATH: &str = "/api/v1/audit";

/// A part of the audit log.
pub fn audit(query: &AuditQuery) -> Call<Page<AuditLine>> {
    Call::new(Method::GET, asking(AUDIT_PATH, query))
}
