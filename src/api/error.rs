//! Errors as clients see them: `{"error": {"code", "message", "details"}}`, and the status that goes with each code.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::queue::refusal::Refusal;

/// What went wrong: a code to branch on, a sentence to show, and details for the code.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ErrorBody {
    pub code: Cow<'static, str>,
    pub message: String,
    #[serde(default)]
    pub details: Map<String, Value>,
}

/// The whole answer of a failed request.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ErrorEnvelope {
    pub error: ErrorBody,
}

impl ErrorBody {
    pub fn new(code: &'static str, message: impl Into<String>) -> Self {
        Self { code: Cow::Borrowed(code), message: message.into(), details: Map::new() }
    }

    /// The same with one more detail.
    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.details.insert(name.to_owned(), value.into());
        self
    }
}

impl std::fmt::Display for ErrorBody {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.code, self.message)
    }
}

impl From<&Refusal> for ErrorBody {
    fn from(refusal: &Refusal) -> Self {
        let details = match details(refusal) {
            Value::Object(details) => details,
            _ => Map::new(),
        };
        Self { code: Cow::Borrowed(refusal.code()), message: refusal.to_string(), details }
    }
}

impl From<Refusal> for ErrorBody {
    fn from(refusal: Refusal) -> Self {
        Self::from(&refusal)
    }
}

fn details(refusal: &Refusal) -> Value {
    match refusal {
        Refusal::Invalid { field, .. } => json!({ "field": field }),
        Refusal::NotFound { id } => json!({ "id": id }),
        Refusal::NoSchedule { name }
        | Refusal::NoResourceGroup { name }
        | Refusal::NoWorker { name }
        | Refusal::NoQueue { name } => {
            json!({ "name": name })
        }
        Refusal::StaleLease { status, owner } => json!({ "status": status.name(), "owner": owner }),
        Refusal::NotClaimed { status }
        | Refusal::NotCancelable { status }
        | Refusal::Finished { status }
        | Refusal::NotFinal { status } => json!({ "status": status.name() }),
        Refusal::Claimed { owner } => json!({ "owner": owner }),
        Refusal::NotClaimable { status, why } => json!({ "status": status.name(), "why": why }),
        Refusal::KeyExpired { oldest } => json!({ "oldest": oldest }),
        Refusal::QueueFull { limit } => json!({ "limit": limit }),
        Refusal::Drained { by, reason, since_ms } => json!({ "by": by, "reason": reason, "since": since_ms }),
        Refusal::InUse { by } => json!({ "by": by }),
        Refusal::Aborted
        | Refusal::Conflict { .. }
        | Refusal::Canceling
        | Refusal::TooLarge { .. }
        | Refusal::Busy { .. } => Value::Null,
    }
}

/// The HTTP status of a code (design 3). Shared with clients, which branch on codes and only report statuses.
pub fn status_of(code: &str) -> u16 {
    match code {
        "invalid" => 400,
        "unauthorized" => 401,
        "forbidden" => 403,
        "not_found" => 404,
        "method_not_allowed" => 405,
        "conflict" | "stale_lease" | "not_claimed" | "claimed" | "not_cancelable" | "canceling" | "finished"
        | "not_final" | "key_expired" | "aborted" => 409,
        "gone" => 410,
        "too_large" => 413,
        "unsupported_media_type" => 415,
        "queue_full" | "busy" => 429,
        "drained" | "no_leader" | "unavailable" => 503,
        "timeout" | "outcome_unknown" => 504,
        "no_space" => 507,
        _ => 500,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::queue::job::Status;

    #[test]
    fn refusal_becomes_code_sentence_and_details() {
        let refusal = Refusal::StaleLease { status: Status::Running, owner: Some("w2".into()) };
        assert_eq!(
            serde_json::to_string(&ErrorEnvelope { error: ErrorBody::from(&refusal) }).unwrap(),
            r#"{"error":{"code":"stale_lease","message":"the lease is no longer valid: the job is running and held by w2","details":{"owner":"w2","status":"running"}}}"#
        );
        assert_eq!(status_of("stale_lease"), 409);
    }
}
