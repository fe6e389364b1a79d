use http::Method;

use crate::{Call, ConsoleView, HostFacts, Readiness};

/// Where readiness is asked for.
pub const READY_PATH: &str = "/api/v1/ready";
/// Where the facts about the host are.
pub const HOST_PATH: &str = "/api/v1/host";
/// The document of the API itself, as OpenAPI.
pub const DOCUMENT_PATH: &str = "/api/v1/openapi.json";
/// What this host and its machines have used, as text for Prometheus.
pub const COUNTERS_PATH: &str = "/api/v1/metrics";
/// What the screen at the machine shows.
pub const CONSOLE_PATH: &str = "/api/v1/console";

/// The document of the API itself.
pub fn document() -> Call<serde_json::Value> {
    Call::new(Method::GET, DOCUMENT_PATH)
}

/// What works and what does not.
pub fn ready() -> Call<Readiness> {
    Call::new(Method::GET, READY_PATH)
}

/// Facts about the host.
pub fn host() -> Call<HostFacts> {
    Call::new(Method::GET, HOST_PATH)
}

/// What this host and its machines have used, as text for Prometheus.
pub fn counters() -> Call<()> {
    Call::new(Method::GET, COUNTERS_PATH)
}

/// What the screen at the machine shows.
pub fn console() -> Call<ConsoleView> {
    Call::new(Method::GET, CONSOLE_PATH)
}
