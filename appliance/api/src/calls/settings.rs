use http::Method;

use crate::{
    BackFromProvider, BeginAtProvider, BegunAtProvider, Call, Provider, Session, SetProvider, SetSyslog,
    Syslog, Tried, WaysIn,
};

/// Where the audit log is sent.
pub const SYSLOG_PATH: &str = "/api/v1/settings/syslog";

/// Where the audit log is sent.
pub fn syslog() -> Call<Syslog> {
    Call::new(Method::GET, SYSLOG_PATH)
}

/// Says where the audit log is sent.
pub fn set_syslog(body: &SetSyslog) -> Call<Syslog> {
    Call::new(Method::PUT, SYSLOG_PATH).json(body)
}

/// Sends the audit log nowhere any more, and forgets where it went.
pub fn remove_syslog() -> Call<()> {
    Call::new(Method::DELETE, SYSLOG_PATH)
}

/// Sends one line.
pub fn test_syslog() -> Call<Tried> {
    Call::new(Method::POST, format!("{SYSLOG_PATH}/test"))
}

/// How people sign in with an identity provider.
pub const PROVIDER_PATH: &str = "/api/v1/settings/sign-in";
/// With what people can sign in.
pub const WAYS_IN_PATH: &str = "/api/v1/sign-in";
/// Where signing in with the identity provider begins.
pub const AT_PROVIDER_PATH: &str = "/api/v1/sign-in/provider";
/// Where it ends.
pub const BACK_FROM_PROVIDER_PATH: &str = "/api/v1/sign-in/provider/answer";

/// How people sign in with an identity provider.
pub fn provider() -> Call<Provider> {
    Call::new(Method::GET, PROVIDER_PATH)
}

/// Says how people sign in with an identity provider.
pub fn set_provider(body: &SetProvider) -> Call<Provider> {
    Call::new(Method::PUT, PROVIDER_PATH).json(body)
}

/// Nobody signs in with the identity provider any more.
pub fn remove_provider() -> Call<()> {
    Call::new(Method::DELETE, PROVIDER_PATH)
}

/// Asks the identity provider how it is reached.
pub fn test_provider() -> Call<Tried> {
    Call::new(Method::POST, format!("{PROVIDER_PATH}/test"))
}

/// With what people can sign in besides a password.
pub fn ways_in() -> Call<WaysIn> {
    Call::new(Method::GET, WAYS_IN_PATH)
}

/// Begins to sign in with the identity provider.
pub fn begin_at_provider(body: &BeginAtProvider) -> Call<BegunAtProvider> {
    Call::new(Method::POST, AT_PROVIDER_PATH).json(body)
}

/// Ends it with what the provider answered.
pub fn back_from_provider(body: &BackFromProvider) -> Call<Session> {
    Call::new(Method::POST, BACK_FROM_PROVIDER_PATH).json(body)
}
