//! A typed call without I/O: what to send, and how to read what comes back.

use std::{borrow::Cow, marker::PhantomData};

use http::{Method, Request, Response, StatusCode, header};
use serde::Serialize;

use crate::{Problem, ProblemCode, Secret};

/// One request to the agent and the type of its answer.
#[derive(Debug)]
pub struct Call<T> {
    method: Method,
    path: Cow<'static, str>,
    token: Option<Secret>,
    client_address: Option<String>,
    body: Option<Vec<u8>>,
    answer: PhantomData<fn() -> T>,
}

/// A body that a call can be answered with. `()` stands for an empty one.
pub trait Answer: Sized {
    /// Reads the body of a success.
    fn read(body: &[u8]) -> Result<Self, serde_json::Error>;
}

macro_rules! json_answer {
    ($($answer:ty),+) => {$(
        impl Answer for $answer {
            fn read(body: &[u8]) -> Result<Self, serde_json::Error> {
                serde_json::from_slice(body)
            }
        }
    )+};
}

json_answer!(
    crate::Session,
    crate::SessionInfo,
    crate::HostFacts,
    crate::Readiness,
    crate::ConsoleView,
    crate::Cluster,
    crate::JoinTokens,
    crate::MadeJoinToken,
    crate::AuditLines,
    crate::User,
    crate::UserPassword,
    crate::Users
);

impl Answer for () {
    fn read(_body: &[u8]) -> Result<Self, serde_json::Error> {
        Ok(())
    }
}

impl<T: Answer> Call<T> {
    fn new(method: Method, path: impl Into<Cow<'static, str>>) -> Self {
        Self { method, path: path.into(), token: None, client_address: None, body: None, answer: PhantomData }
    }

    fn json(mut self, body: &impl Serialize) -> Self {
        // Our request types hold strings only, which always serialise.
        self.body = Some(serde_json::to_vec(body).unwrap_or_default());
        self
    }

    /// Makes the call in a session.
    #[must_use]
    pub fn as_session(mut self, token: &Secret) -> Self {
        self.token = Some(token.clone());
        self
    }

    /// Names the client on whose behalf the call is made.
    #[must_use]
    pub fn for_client(mut self, address: std::net::IpAddr) -> Self {
        self.client_address = Some(address.to_string());
        self
    }

    /// The request to send.
    pub fn request(&self) -> Result<Request<Vec<u8>>, http::Error> {
        let mut request =
            Request::builder().method(self.method.clone()).uri(&*self.path).header(header::HOST, "agent");
        if let Some(token) = &self.token {
            request = request.header(header::AUTHORIZATION, format!("Bearer {}", token.expose()));
        }
        if let Some(address) = &self.client_address {
            request = request.header(crate::CLIENT_ADDRESS_HEADER, address);
        }
        if self.body.is_some() {
            request = request.header(header::CONTENT_TYPE, "application/json");
        }
        request.body(self.body.clone().unwrap_or_default())
    }

    /// Reads the answer: a success, or the problem it states.
    pub fn read(&self, response: &Response<impl AsRef<[u8]>>) -> Result<T, Problem> {
        let body = response.body().as_ref();
        if response.status().is_success() || self.reads(response.status()) {
            return T::read(body).map_err(|error| {
                Problem::new(ProblemCode::Internal, format!("The agent's answer could not be read: {error}."))
            });
        }
        Err(serde_json::from_slice(body).unwrap_or_else(|_| {
            Problem::new(ProblemCode::Unavailable, format!("The agent answered {}.", response.status()))
        }))
    }

    /// Readiness is an answer also when it says "not ready".
    fn reads(&self, status: StatusCode) -> bool {
        self.path == calls::READY_PATH && status == StatusCode::SERVICE_UNAVAILABLE
    }
}

/// Every call the agent answers.
pub mod calls {
    use http::Method;

    use super::Call;
    use crate::{
        AuditLines, AuditQuery, ChangePassword, ChangeUser, Cluster, ConsoleView, HostFacts, JoinCluster,
        JoinTokens, MadeJoinToken, MakeBackup, MoveLead, NewJoinToken, NewUser, Readiness, RemoveHost,
        Session, SessionInfo, SetVoters, SignIn, User, UserPassword, Users,
    };

    /// Where readiness is asked for.
    pub const READY_PATH: &str = "/api/v1/ready";
    /// Where sessions are opened, looked at and ended.
    pub const SESSION_PATH: &str = "/api/v1/session";
    /// Where the password of the session's account is changed.
    pub const PASSWORD_PATH: &str = "/api/v1/session/password";
    /// Where the facts about the host are.
    pub const HOST_PATH: &str = "/api/v1/host";
    /// What the screen at the machine shows.
    pub const CONSOLE_PATH: &str = "/api/v1/console";

    /// The users.
    pub const USERS_PATH: &str = "/api/v1/users";
    /// The audit log.
    pub const AUDIT_PATH: &str = "/api/v1/audit";

    /// The cluster.
    pub const CLUSTER_PATH: &str = "/api/v1/cluster";
    /// Where this host joins another's cluster.
    pub const JOIN_PATH: &str = "/api/v1/cluster/join";
    /// Where this host leaves its cluster.
    pub const LEAVE_PATH: &str = "/api/v1/cluster/leave";
    /// Where this host goes on without the others.
    pub const RECOVER_PATH: &str = "/api/v1/cluster/recover";
    /// Where this host gives the data as a file.
    pub const BACKUP_PATH: &str = "/api/v1/cluster/backup";
    /// Where this host begins again from such a file: a form with the host's `name`, the `passphrase`, and last the
    /// `backup`.
    pub const RESTORE_PATH: &str = "/api/v1/cluster/restore";
    /// Join tokens.
    pub const TOKENS_PATH: &str = "/api/v1/cluster/tokens";
    /// The host of the vDC role.
    pub const LEADER_PATH: &str = "/api/v1/cluster/leader";
    /// How many hosts vote.
    pub const VOTERS_PATH: &str = "/api/v1/cluster/voters";
    /// The hosts of the cluster.
    pub const HOSTS_PATH: &str = "/api/v1/cluster/hosts";

    /// The users.
    pub fn users() -> Call<Users> {
        Call::new(Method::GET, USERS_PATH)
    }

    /// Adds a user.
    pub fn make_user(body: &NewUser) -> Call<UserPassword> {
        Call::new(Method::POST, USERS_PATH).json(body)
    }

    /// Changes a user.
    pub fn change_user(name: &str, body: &ChangeUser) -> Call<User> {
        Call::new(Method::PATCH, format!("{USERS_PATH}/{name}")).json(body)
    }

    /// Gives a user a new password for the next sign-in.
    pub fn reset_password(name: &str) -> Call<UserPassword> {
        Call::new(Method::POST, format!("{USERS_PATH}/{name}/password"))
    }

    /// Ends all sessions of a user.
    pub fn end_sessions(name: &str) -> Call<()> {
        Call::new(Method::DELETE, format!("{USERS_PATH}/{name}/sessions"))
    }

    /// Takes a user out.
    pub fn remove_user(name: &str) -> Call<()> {
        Call::new(Method::DELETE, format!("{USERS_PATH}/{name}"))
    }

    /// A part of the audit log.
    pub fn audit(query: &AuditQuery) -> Call<AuditLines> {
        Call::new(Method::GET, format!("{AUDIT_PATH}?{}", query.to_query()))
    }

    /// The cluster as the host that answers sees it.
    pub fn cluster() -> Call<Cluster> {
        Call::new(Method::GET, CLUSTER_PATH)
    }

    /// Joins the cluster of another host.
    pub fn join(body: &JoinCluster) -> Call<()> {
        Call::new(Method::POST, JOIN_PATH).json(body)
    }

    /// Lets this host leave its cluster.
    pub fn leave() -> Call<()> {
        Call::new(Method::POST, LEAVE_PATH)
    }

    /// Makes this host go on without hosts that are lost for good.
    pub fn recover(body: &RemoveHost) -> Call<()> {
        Call::new(Method::POST, RECOVER_PATH).json(body)
    }

    /// The data as a file; its bytes are the answer.
    pub fn backup(body: &MakeBackup) -> Call<()> {
        Call::new(Method::POST, BACKUP_PATH).json(body)
    }

    /// The join tokens.
    pub fn join_tokens() -> Call<JoinTokens> {
        Call::new(Method::GET, TOKENS_PATH)
    }

    /// Makes a join token.
    pub fn make_join_token(body: &NewJoinToken) -> Call<MadeJoinToken> {
        Call::new(Method::POST, TOKENS_PATH).json(body)
    }

    /// Takes a join token back.
    pub fn revoke_join_token(id: &str) -> Call<()> {
        Call::new(Method::DELETE, format!("{TOKENS_PATH}/{id}"))
    }

    /// Gives the vDC role to a host.
    pub fn move_lead(body: &MoveLead) -> Call<()> {
        Call::new(Method::PUT, LEADER_PATH).json(body)
    }

    /// Says how many hosts shall vote.
    pub fn set_voters(body: &SetVoters) -> Call<()> {
        Call::new(Method::PUT, VOTERS_PATH).json(body)
    }

    /// Takes a host out of the cluster.
    pub fn remove_host(id: &str, body: &RemoveHost) -> Call<()> {
        Call::new(Method::DELETE, format!("{HOSTS_PATH}/{id}")).json(body)
    }

    /// What works and what does not.
    pub fn ready() -> Call<Readiness> {
        Call::new(Method::GET, READY_PATH)
    }

    /// Opens a session.
    pub fn sign_in(body: &SignIn) -> Call<Session> {
        Call::new(Method::POST, SESSION_PATH).json(body)
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

    /// Facts about the host.
    pub fn host() -> Call<HostFacts> {
        Call::new(Method::GET, HOST_PATH)
    }

    /// What the screen at the machine shows.
    pub fn console() -> Call<ConsoleView> {
        Call::new(Method::GET, CONSOLE_PATH)
    }
}
