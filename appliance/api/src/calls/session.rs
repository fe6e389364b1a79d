use http::Method;

use super::part;
use crate::{
    ApiToken, Call, ChangePassword, MadeApiToken, NewApiToken, NewSecondFactor, OpenSession, Page,
    ProvePassword, RecoveryCodes, SecondFactorCode, Session, SessionInfo, SignIn,
};

/// Where sessions are opened, looked at and ended.
pub const SESSION_PATH: &str = "/api/v1/session";
/// Where the password of the session's account is changed.
pub const PASSWORD_PATH: &str = "/api/v1/session/password";
/// Where the code of the second factor is given.
pub const CODE_PATH: &str = "/api/v1/session/code";
/// The second factor of the session's account.
pub const SECOND_FACTOR_PATH: &str = "/api/v1/session/second-factor";
/// The recovery codes of the session's account.
pub const RECOVERY_CODES_PATH: &str = "/api/v1/session/recovery-codes";
/// The sessions of the session's account.
pub const SESSIONS_PATH: &str = "/api/v1/sessions";
/// The tokens of the session's account.
pub const TOKENS_PATH: &str = "/api/v1/tokens";

/// Opens a session.
pub fn sign_in(body: &SignIn) -> Call<Session> {
    Call::new(Method::POST, SESSION_PATH).json(body)
}

/// Gives the code of the second factor for a session that another takes the place of.
pub fn give_code(body: &SecondFactorCode) -> Call<Session> {
    Call::new(Method::POST, CODE_PATH).json(body)
}

/// Whose session it is.
pub fn session() -> Call<SessionInfo> {
    Call::new(Method::GET, SESSION_PATH)
}

/// Ends the session.
pub fn sign_out() -> Call<()> {
    Call::new(Method::DELETE, SESSION_PATH)
}

/// Changes the password of the session's account.
pub fn change_password(body: &ChangePassword) -> Call<()> {
    Call::new(Method::PUT, PASSWORD_PATH).json(body)
}

/// Begins to set up a second factor.
pub fn begin_second_factor(body: &ProvePassword) -> Call<NewSecondFactor> {
    Call::new(Method::POST, SECOND_FACTOR_PATH).json(body)
}

/// Ends setting it up, with a code of it.
pub fn confirm_second_factor(body: &SecondFactorCode) -> Call<RecoveryCodes> {
    Call::new(Method::PUT, SECOND_FACTOR_PATH).json(body)
}

/// Signs in without a second factor from now on.
pub fn remove_second_factor(body: &ProvePassword) -> Call<()> {
    Call::new(Method::DELETE, SECOND_FACTOR_PATH).json(body)
}

/// Makes new recovery codes; the old ones are good for nothing any more.
pub fn make_recovery_codes(body: &ProvePassword) -> Call<RecoveryCodes> {
    Call::new(Method::POST, RECOVERY_CODES_PATH).json(body)
}

/// The sessions of one's own.
pub fn sessions() -> Call<Page<OpenSession>> {
    Call::new(Method::GET, SESSIONS_PATH)
}

/// Ends all of one's own sessions but this one.
pub fn end_other_sessions() -> Call<()> {
    Call::new(Method::DELETE, SESSIONS_PATH)
}

/// Ends one of one's own sessions.
pub fn end_session(id: &str) -> Call<()> {
    Call::new(Method::DELETE, format!("{SESSIONS_PATH}/{}", part(id)))
}

/// The tokens of one's own.
pub fn tokens() -> Call<Page<ApiToken>> {
    Call::new(Method::GET, TOKENS_PATH)
}

/// Makes a token.
pub fn make_token(body: &NewApiToken) -> Call<MadeApiToken> {
    Call::new(Method::POST, TOKENS_PATH).json(body)
}

/// Takes one of one's own tokens back.
pub fn revoke_token(id: &str) -> Call<()> {
    Call::new(Method::DELETE, format!("{TOKENS_PATH}/{}", part(id)))
}
