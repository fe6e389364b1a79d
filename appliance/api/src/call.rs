//! A typed call without I/O: what to send, and how to read what comes back.

use std::{borrow::Cow, marker::PhantomData};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use serde::{Serialize, de::DeserializeOwned};

use crate::{Problem, ProblemCode, Secret, calls};

/// One request to the agent and the type of its answer.
#[derive(Debug)]
pub struct Call<T> {
    method: Method,
    path: Cow<'static, str>,
    token: Option<Secret>,
    client_address: Option<String>,
    version: Option<u64>,
    body: Option<Bytes>,
    kind: &'static str,
    answer: PhantomData<fn() -> T>,
}

/// A body that a call can be answered with: anything that JSON holds, and `()` for an empty one.
pub trait Answer: DeserializeOwned {
    /// Reads the body of a success.
    fn read(body: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(if body.is_empty() { b"null" } else { body })
    }
}

impl<T: DeserializeOwned> Answer for T {}

impl<T: Answer> Call<T> {
    pub(crate) fn new(method: Method, path: impl Into<Cow<'static, str>>) -> Self {
        Self {
            method,
            path: path.into(),
            token: None,
            client_address: None,
            version: None,
            body: None,
            kind: "application/json",
            answer: PhantomData,
        }
    }

    pub(crate) fn json(mut self, body: &impl Serialize) -> Self {
        // Our request types hold strings only, which always serialise.
        self.body = Some(serde_json::to_vec(body).unwrap_or_default().into());
        self
    }

    pub(crate) fn bytes(mut self, body: Vec<u8>) -> Self {
        (self.body, self.kind) = (Some(body.into()), "application/octet-stream");
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

    /// Only if the object is still the one that was seen.
    #[must_use]
    pub fn if_version(mut self, version: u64) -> Self {
        self.version = Some(version);
        self
    }

    /// The request to send.
    pub fn request(&self) -> Result<Request<Bytes>, http::Error> {
        let mut request =
            Request::builder().method(self.method.clone()).uri(&*self.path).header(header::HOST, "agent");
        if let Some(version) = self.version {
            request = request.header(header::IF_MATCH, format!("\"{version}\""));
        }
        if let Some(token) = &self.token {
            request = request.header(header::AUTHORIZATION, format!("Bearer {}", token.expose()));
        }
        if let Some(address) = &self.client_address {
            request = request.header(crate::CLIENT_ADDRESS_HEADER, address);
        }
        if self.body.is_some() {
            request = request.header(header::CONTENT_TYPE, self.kind);
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
