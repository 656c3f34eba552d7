//! One request to one node, over pooled connections. Knows HTTP, and nothing of leaders or keys.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::{HeaderMap, Request, Response, StatusCode, body::Incoming};
use hyper_util::{
    client::legacy::{Client as Pool, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use serde::de::DeserializeOwned;
use tokio::time::Instant;

use super::ClientError;

/// An answer, whatever it says.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Answer {
    /// The rest of an answer whose head is there.
    pub(super) async fn collect(response: Response<Incoming>, end: Instant) -> Result<Self, NoAnswer> {
        let (parts, body) = response.into_parts();
        match tokio::time::timeout_at(end, Limited::new(body, ANSWER_BYTES_MAX).collect()).await {
            Ok(Ok(body)) => Ok(Self { status: parts.status, headers: parts.headers, body: body.to_bytes() }),
            Ok(Err(error)) => Err(NoAnswer::Lost(format!("the answer broke off: {error}"))),
            Err(_) => Err(NoAnswer::Lost("no answer in time".into())),
        }
    }

    /// The body as `T`.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, ClientError> {
        serde_json::from_slice(&self.body).map_err(|error| ClientError::Protocol {
            server: "the node".into(),
            message: format!("an answer of another shape ({error}); are client and node of one version?"),
        })
    }
}

/// Why there is none.
#[derive(Debug)]
pub(super) enum NoAnswer {
    /// No connection: the node never saw the request.
    NotSent(String),
    /// The connection broke, or the time ran out: the node may have seen it.
    Lost(String),
}

pub(super) struct Transport {
    pool: Pool<HttpConnector, Full<Bytes>>,
}

/// A node on the same continent accepts a connection well within this; a dead host must not eat a call's deadline.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
const IDLE_MAX: Duration = Duration::from_secs(60);
/// The largest answer is a page of jobs; anything beyond this is no raftq.
const ANSWER_BYTES_MAX: usize = 64 << 20;

impl Transport {
    pub fn new() -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(CONNECT_TIMEOUT));
        let pool = Pool::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_MAX)
            .build(connector);
        Self { pool }
    }

    /// The whole answer, or why it is missing, by `end`.
    pub async fn send(&self, request: Request<Full<Bytes>>, end: Instant) -> Result<Answer, NoAnswer> {
        match tokio::time::timeout_at(end, self.open(request)).await {
            Ok(response) => Answer::collect(response?, end).await,
            Err(_) => Err(NoAnswer::Lost("no answer in time".into())),
        }
    }

    /// The head of the answer; the body streams.
    pub async fn open(&self, request: Request<Full<Bytes>>) -> Result<Response<Incoming>, NoAnswer> {
        self.pool.request(request).await.map_err(|error| {
            let cause = innermost(&error);
            if error.is_connect() { NoAnswer::NotSent(cause) } else { NoAnswer::Lost(cause) }
        })
    }
}

/// hyper wraps the operating system's words several times; the innermost are the ones a person knows.
pub(super) fn innermost(error: &dyn std::error::Error) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}
