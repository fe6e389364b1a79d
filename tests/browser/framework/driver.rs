//! WebDriver, as far as it is used here: a window of a browser that does what it is told, one command at a time.
//!
//! It is JSON over HTTP on loopback, which this workspace can speak. fantoccini, which speaks it too, would bring forty
//! crates, two copies of ICU among them.

use std::{net::SocketAddr, time::Duration};

use bytes::Bytes;
use http::{Method, Request, header};
use http_body_util::Full;
use quantix_api::connection;
use serde_json::{Value, json};
use tokio::{net::TcpStream, time::timeout};

const LONGEST: Duration = Duration::from_secs(60);
/// A picture of a long page, in base64.
const MOST_BYTES: usize = 64 * 1024 * 1024;
/// The name under which WebDriver hands over elements.
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";

/// One window with all its tabs.
#[derive(Clone, Debug)]
pub(crate) struct Window {
    driver: SocketAddr,
    session: String,
}

/// Something on a page.
#[derive(Clone, Debug)]
pub(crate) struct Element(String);

impl Element {
    /// The one that a script returned, if it returned one.
    pub(crate) fn returned(value: &Value) -> Option<Self> {
        Some(Self(value.get(ELEMENT)?.as_str()?.to_owned()))
    }
}

impl Window {
    /// A new browser that is as it was asked for.
    pub(crate) async fn open(driver: SocketAddr, wanted: &Value) -> Self {
        let body = json!({ "capabilities": { "alwaysMatch": wanted } });
        let made = send(driver, Method::POST, "/session", &body).await.expect("Chromium starts");
        Self { driver, session: made["sessionId"].as_str().unwrap().to_owned() }
    }

    /// A command with what it needs. A refusal says why: a page that is just being left, for example.
    pub(crate) async fn post(&self, command: &str, body: &Value) -> Result<Value, String> {
        send(self.driver, Method::POST, &format!("/session/{}/{command}", self.session), body).await
    }

    /// A question.
    pub(crate) async fn get(&self, command: &str) -> Result<Value, String> {
        send(self.driver, Method::GET, &format!("/session/{}/{command}", self.session), &Value::Null).await
    }

    /// Runs a script in the page.
    pub(crate) async fn execute(&self, script: &str, arguments: &[&str]) -> Result<Value, String> {
        self.post("execute/sync", &json!({ "script": script, "args": arguments })).await
    }

    /// Runs a script that calls its last argument when it is done.
    pub(crate) async fn execute_async(&self, script: &str) -> Result<Value, String> {
        self.post("execute/async", &json!({ "script": script, "args": [] })).await
    }

    pub(crate) async fn click(&self, element: &Element) -> Result<Value, String> {
        self.post(&format!("element/{}/click", element.0), &json!({})).await
    }

    pub(crate) async fn clear(&self, element: &Element) -> Result<Value, String> {
        self.post(&format!("element/{}/clear", element.0), &json!({})).await
    }

    pub(crate) async fn type_into(&self, element: &Element, text: &str) -> Result<Value, String> {
        self.post(&format!("element/{}/value", element.0), &json!({ "text": text })).await
    }
}

async fn send(driver: SocketAddr, method: Method, path: &str, body: &Value) -> Result<Value, String> {
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header(header::HOST, driver.to_string())
        .header(header::CONTENT_TYPE, "application/json")
        .header(header::CONTENT_LENGTH, body.len())
        .body(Full::new(Bytes::from(body)))
        .unwrap();
    let answered = async {
        let stream = TcpStream::connect(driver).await?;
        connection::collect(connection::send(stream, request).await?, MOST_BYTES).await
    };
    let answer = timeout(LONGEST, answered).await.map_err(|_| format!("no answer to {path}"))?;
    let answer = answer.map_err(|error| format!("{path}: {error}"))?;
    let said: Value = serde_json::from_slice(answer.body()).map_err(|error| format!("{path}: {error}"))?;
    let value = said["value"].clone();
    if answer.status().is_success() { Ok(value) } else { Err(format!("{path}: {}", value["message"])) }
}
