//! What a request may fail with, and how that is said: one JSON shape, one status for each code, no internal text.

use axum::{
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};

use super::reply::Reply;
use crate::{
    api::{ErrorBody, ErrorEnvelope, status_of},
    queue::refusal::Refusal,
    raft::LeaderInfo,
};

/// An election takes less than this at the usual timers.
const RETRY_AFTER_S: &str = "1";

#[derive(Debug)]
pub enum Failure {
    /// The queue says no.
    Refused(Refusal),
    /// The door says no.
    Error(ErrorBody),
    /// Only the leader can do this; the client should go there.
    Elsewhere { leader: LeaderInfo, path: String },
    /// Not a failure of ours: what the leader said to the request that was forwarded to it.
    Answered(Box<Response>),
}

impl Failure {
    pub fn new(code: &'static str, message: impl Into<String>) -> Self {
        Self::Error(ErrorBody::new(code, message))
    }

    pub fn invalid(field: &str, message: &str) -> Self {
        Self::Refused(Refusal::invalid(field, message))
    }

    pub fn no_leader() -> Self {
        Self::new("no_leader", "no node leads that a majority can reach; nothing was changed, try again")
    }

    pub fn busy() -> Self {
        Self::new("busy", "too much is waiting already; try again in a moment")
    }

    pub fn outcome_unknown() -> Self {
        Self::new("outcome_unknown", "it may or may not have been done; repeat it under the same idempotency key")
    }

    pub fn timeout() -> Self {
        Self::new("timeout", "no answer by the deadline; ask again, or give more time with raftq-timeout-ms")
    }

    /// The core answered something that does not belong to the command. A defect of ours, and the request was done.
    pub fn odd_answer() -> Self {
        tracing::error!("a command was answered with another command's answer");
        Self::internal()
    }

    /// For what is no client's business; the caller has logged it.
    pub fn internal() -> Self {
        Self::new("internal", "this node failed to answer; its log says why")
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        match self {
            Failure::Refused(refusal) => error(refusal.into()),
            Failure::Error(body) => error(body),
            Failure::Elsewhere { leader, path } => redirect(&leader, &path),
            Failure::Answered(response) => *response,
        }
    }
}

fn error(body: ErrorBody) -> Response {
    let (status, passes) = (status_of(&body.code), matches!(&*body.code, "no_leader" | "unavailable"));
    let mut response = Reply::json(&ErrorEnvelope { error: body }).status_number(status).into_response();
    if passes {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static(RETRY_AFTER_S));
    }
    response
}

fn redirect(leader: &LeaderInfo, path: &str) -> Response {
    let Ok(location) = HeaderValue::from_str(&format!("http://{}{path}", leader.api)) else {
        return Failure::internal().into_response();
    };
    let body = ErrorBody::new("not_leader", "another node leads; ask it")
        .with("leader", serde_json::json!({ "id": leader.id, "api": leader.api }));
    let mut response =
        Reply::json(&ErrorEnvelope { error: body }).status(StatusCode::TEMPORARY_REDIRECT).into_response();
    response.headers_mut().insert(header::LOCATION, location);
    response
}
