//! Asking the leader in a client's place, once (`raftq-forward: 1`), for clients that cannot follow a redirect.

use axum::{
    body::Body,
    http::{HeaderMap, HeaderName, HeaderValue, Request},
    response::Response,
};
use http_body_util::Full;
use hyper::body::Bytes;
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use tokio::time::Instant;

use super::{call::Call, context, failure::Failure};
use crate::raft::LeaderInfo;

/// Headers of the client that are the leader's business.
const PASSED_ON: [&str; 5] = [context::KEY, context::MIN_INDEX, context::CONSISTENCY, context::USER, "content-type"];

/// A pool of connections to other nodes' api addresses.
pub struct Forwarder {
    client: Client<HttpConnector, Full<Bytes>>,
    /// Our own id, for the header that breaks circles.
    id: u64,
}

impl Forwarder {
    pub fn new(id: u64) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        Self { client: Client::builder(TokioExecutor::new()).build(connector), id }
    }

    pub async fn forward(&self, call: &Call, leader: &LeaderInfo) -> Result<Response, Failure> {
        let request = self.request(call, leader)?;
        match tokio::time::timeout_at(call.context.deadline, self.client.request(request)).await {
            Err(_) => Err(Failure::outcome_unknown()),
            // Refused before a byte was sent: the leader has just gone.
            Ok(Err(error)) if error.is_connect() => Err(Failure::no_leader()),
            Ok(Err(_)) => Err(Failure::outcome_unknown()),
            Ok(Ok(answer)) => Ok(answer.map(Body::new)),
        }
    }

    fn request(&self, call: &Call, leader: &LeaderInfo) -> Result<Request<Full<Bytes>>, Failure> {
        let left = call.context.deadline.saturating_duration_since(Instant::now()).as_millis();
        let mut request = Request::builder()
            .method(call.context.method().clone())
            .uri(format!("http://{}{}", leader.api, call.context.path))
            .header(context::FORWARDED, self.id)
            .header(context::TIMEOUT, left.max(1).to_string())
            .body(Full::new(call.body.clone()))
            .map_err(|_| Failure::internal())?;
        request.headers_mut().extend(passed_on(&call.headers));
        Ok(request)
    }
}

/// Copies of what the leader must be told, which share nothing with what arrived.
pub fn passed_on(headers: &HeaderMap) -> HeaderMap {
    let copied = |name| {
        let value = HeaderValue::from_bytes(headers.get(name)?.as_bytes()).ok()?;
        Some((HeaderName::from_static(name), value))
    };
    PASSED_ON.into_iter().filter_map(copied).collect()
}
