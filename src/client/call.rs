//! One request as the caller means it, before a node and a key are chosen.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::{Method, Request, header};
use serde::Serialize;
use tokio::time::Instant;

use super::{ClientError, nodes::Authority};

/// `path?name=value&...`, escaped; just `path` where there is nothing to add.
pub fn path_with_query(path: &str, query: &[(&str, String)]) -> String {
    if query.is_empty() {
        return path.to_owned();
    }
    let start = path.len() + 1;
    form_urlencoded::Serializer::for_suffix(format!("{path}?"), start).extend_pairs(query).finish()
}

/// How fresh a read must be (P6).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Consistency {
    #[default]
    Linearizable,
    /// Whatever the asked node has applied; works without a leader.
    Local,
}

/// A name as one segment of a path.
pub fn path_segment(name: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~');
    name.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

/// A request that may be sent to any node, any number of times.
#[derive(Clone, Debug)]
pub struct Call {
    method: Method,
    path: String,
    body: Bytes,
    consistency: Consistency,
    deadline: Instant,
    wait: Duration,
    /// False for reads and for lease calls, which are their own keys.
    keyed: bool,
}

/// What one attempt adds to a call.
pub(super) struct Headers<'a> {
    pub key: Option<&'a str>,
    pub user: Option<&'a str>,
    pub timeout: Duration,
}

impl Call {
    pub fn read(path: impl Into<String>, deadline: Instant) -> Self {
        Self {
            method: Method::GET,
            path: path.into(),
            body: Bytes::new(),
            consistency: Consistency::Linearizable,
            deadline,
            wait: Duration::ZERO,
            keyed: false,
        }
    }

    /// A write of `body` as JSON.
    pub fn write(
        method: Method,
        path: impl Into<String>,
        body: &impl Serialize,
        deadline: Instant,
    ) -> Result<Self, ClientError> {
        let body = serde_json::to_vec(body)
            .map_err(|error| ClientError::Usage(format!("the request cannot be written as JSON: {error}")))?;
        Ok(Self::write_bytes(method, path, body.into(), deadline))
    }

    /// A write whose JSON is there already.
    pub fn write_bytes(method: Method, path: impl Into<String>, body: Bytes, deadline: Instant) -> Self {
        Self { method, body, keyed: true, ..Self::read(path, deadline) }
    }

    pub fn local(mut self) -> Self {
        self.consistency = Consistency::Local;
        self
    }

    /// The server may hold its answer this long because nothing has happened yet.
    pub fn waiting(mut self, wait: Duration) -> Self {
        self.wait = wait;
        self
    }

    pub fn is_write(&self) -> bool {
        self.keyed
    }

    pub fn deadline(&self) -> Instant {
        self.deadline
    }

    pub fn wait(&self) -> Duration {
        self.wait
    }

    /// The bytes for one node. Every repeat differs only in the node and in how long it may take.
    pub(super) fn request(&self, node: &Authority, headers: &Headers<'_>) -> Result<Request<Full<Bytes>>, ClientError> {
        let mut request = Request::builder()
            .method(&self.method)
            .uri(format!("http://{node}{}", self.path))
            .header("raftq-timeout-ms", headers.timeout.as_millis().max(1).to_string());
        if self.consistency == Consistency::Local {
            request = request.header("raftq-consistency", "local");
        }
        if let Some(user) = headers.user {
            request = request.header("raftq-user", user);
        }
        if let Some(key) = headers.key {
            request = request.header("idempotency-key", key);
        }
        if self.method != Method::GET {
            request = request.header(header::CONTENT_TYPE, "application/json");
        }
        request
            .body(Full::new(self.body.clone()))
            .map_err(|error| ClientError::Usage(format!("`{}` cannot be asked for: {error}", self.path)))
    }
}
