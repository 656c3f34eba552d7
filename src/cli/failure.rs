//! How a command ends: its exit code (design 4), and the one sentence that goes with it.

use std::{io, process::ExitCode};

use crate::{api::ErrorBody, client::ClientError, server::ServerError};

/// What a shell sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    Ok,
    /// The job, or some of the ids, failed.
    Failed,
    Usage,
    /// No node answers, or none leads.
    Unreachable,
    /// Drained, full, not allowed.
    Refused,
    OutcomeUnknown,
    TimedOut,
    /// Another's word: the command that `submit --wait` waited for, or a node that stopped.
    Command(u8),
}

impl Exit {
    pub fn code(self) -> u8 {
        match self {
            Exit::Ok => 0,
            Exit::Failed => 1,
            Exit::Usage => 2,
            Exit::Unreachable => 3,
            Exit::Refused => 4,
            Exit::OutcomeUnknown => 5,
            Exit::TimedOut => 6,
            Exit::Command(code) => code,
        }
    }

    /// `Ok` or `Failed`.
    pub fn ok_if(ok: bool) -> Self {
        if ok { Exit::Ok } else { Exit::Failed }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        ExitCode::from(exit.code())
    }
}

/// Why a command could not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    #[error("{}", advise(.0))]
    Client(#[from] ClientError),
    #[error("{0}")]
    Usage(String),
    /// Refused by a job's own answer in a batch.
    #[error("{}", .0.message)]
    Refused(ErrorBody),
    /// It failed half-way; what was done before comes first.
    #[error("{done}; then: {failure}")]
    Partly { done: String, failure: Box<Failure> },
    /// A node did not start, or did not go on.
    #[error("{0}")]
    Server(ServerError),
    #[error("{0}")]
    TimedOut(String),
    #[error("{0:#}")]
    Other(#[from] anyhow::Error),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Failure::Other(error.into())
    }
}

pub type Outcome = Result<Exit, Failure>;

impl Failure {
    pub fn usage(message: impl Into<String>) -> Self {
        Failure::Usage(message.into())
    }

    /// The same, after something was done.
    pub fn after(self, done: impl Into<String>) -> Self {
        Failure::Partly { done: done.into(), failure: Box::new(self) }
    }

    /// The refusal, if it is one: of the call, or of a job in it.
    pub fn refusal(&self) -> Option<&ErrorBody> {
        match self {
            Failure::Client(ClientError::Refused(error)) | Failure::Refused(error) => Some(error),
            _ => None,
        }
    }

    pub fn exit(&self) -> Exit {
        match self {
            Failure::Client(error) => exit_of(error),
            Failure::Usage(_) => Exit::Usage,
            Failure::Refused(error) => exit_of_code(&error.code),
            Failure::Partly { failure, .. } => failure.exit(),
            Failure::Server(error) => Exit::Command(error.exit_code()),
            Failure::TimedOut(_) => Exit::TimedOut,
            Failure::Other(_) => Exit::Failed,
        }
    }

    /// The same in the form of the API's errors, with codes of our own for what no node said.
    pub fn body(&self) -> ErrorBody {
        let message = self.to_string();
        match self {
            Failure::Client(ClientError::Refused(error)) | Failure::Refused(error) => {
                ErrorBody { message, ..error.clone() }
            }
            Failure::Client(ClientError::OutcomeUnknown { key, .. }) => {
                ErrorBody::new("outcome_unknown", message).with("key", key.as_str())
            }
            Failure::Client(error) => ErrorBody::new(code_of(error), message),
            Failure::Partly { done, failure } => ErrorBody { message, ..failure.body() }.with("done", done.as_str()),
            Failure::Usage(_) => ErrorBody::new(USAGE, message),
            Failure::TimedOut(_) => ErrorBody::new("timeout", message),
            Failure::Server(_) | Failure::Other(_) => ErrorBody::new("failed", message),
        }
    }

    /// The reader of our output has gone (`raftq list | head`): no failure, and nobody to tell.
    pub fn is_broken_pipe(&self) -> bool {
        let Failure::Other(error) = self else { return false };
        error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
    }
}

/// The command line itself is wrong.
pub const USAGE: &str = "usage";

fn code_of(error: &ClientError) -> &'static str {
    match error {
        ClientError::Unreachable { .. } => "unreachable",
        ClientError::NoLeader { .. } => "no_leader",
        ClientError::OutcomeUnknown { .. } => "outcome_unknown",
        ClientError::Timeout { .. } => "timeout",
        ClientError::Protocol { .. } => "protocol",
        ClientError::Usage(_) => USAGE,
        ClientError::Refused(_) => unreachable!("it has the cluster's code"),
    }
}

fn exit_of(error: &ClientError) -> Exit {
    match error {
        ClientError::Unreachable { .. } | ClientError::NoLeader { .. } | ClientError::Protocol { .. } => {
            Exit::Unreachable
        }
        ClientError::Refused(refused) => exit_of_code(&refused.code),
        ClientError::OutcomeUnknown { .. } => Exit::OutcomeUnknown,
        ClientError::Timeout { .. } => Exit::TimedOut,
        ClientError::Usage(_) => Exit::Usage,
    }
}

/// Codes that speak of the job are the job's failure; codes that speak of the request are its author's.
pub fn exit_of_code(code: &str) -> Exit {
    match code {
        "invalid" | "too_large" | "unsupported_media_type" => Exit::Usage,
        "not_found" | "gone" | "finished" | "not_final" | "not_cancelable" | "canceling" | "not_claimed"
        | "claimed" | "stale_lease" | "conflict" => Exit::Failed,
        "unavailable" => Exit::Unreachable,
        _ => Exit::Refused,
    }
}

/// The client says what is the case; the command line adds what to do.
fn advise(error: &ClientError) -> String {
    match error {
        ClientError::Unreachable { .. } => {
            format!("{error}: start a node, or name one that runs with --server or RAFTQ_SERVER")
        }
        ClientError::NoLeader { .. } => format!("{error}; see `raftq cluster status --local`"),
        ClientError::Refused(refused) if refused.code == "internal" => {
            format!("{error}; the node's log has the details")
        }
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(code: &'static str) -> Failure {
        ClientError::Refused(ErrorBody::new(code, "no")).into()
    }

    #[test]
    fn exit_codes_are_those_of_the_contract() {
        let servers = || "a:1".to_string();
        let cause = || "refused".to_string();
        for (failure, code) in [
            (Failure::usage("what"), 2),
            (ClientError::Unreachable { servers: servers(), cause: cause() }.into(), 3),
            (ClientError::NoLeader { servers: servers() }.into(), 3),
            (refused("drained"), 4),
            (refused("queue_full"), 4),
            (refused("busy"), 4),
            (refused("forbidden"), 4),
            (ClientError::OutcomeUnknown { key: "k/0".into(), cause: cause() }.into(), 5),
            (ClientError::Timeout { servers: servers(), cause: cause() }.into(), 6),
            (refused("unavailable"), 3),
            (refused("not_found"), 1),
            (refused("not_cancelable"), 1),
            (refused("invalid"), 2),
        ] {
            assert_eq!(failure.exit().code(), code, "{failure}");
        }
        assert_eq!(Exit::Command(77).code(), 77);
    }

    #[test]
    fn failures_have_bodies_like_the_apis_errors() {
        let drained = ClientError::Refused(ErrorBody::new("drained", "closed").with("by", "ops"));
        let unknown = ClientError::OutcomeUnknown { key: "k/0".into(), cause: "silence".into() };
        for (failure, code, details) in [
            (Failure::from(drained), "drained", serde_json::json!({ "by": "ops" })),
            (refused("drained").after("3 submitted"), "drained", serde_json::json!({ "done": "3 submitted" })),
            (Failure::from(unknown), "outcome_unknown", serde_json::json!({ "key": "k/0" })),
            (ClientError::NoLeader { servers: "a:1".into() }.into(), "no_leader", serde_json::json!({})),
            (Failure::usage("what"), "usage", serde_json::json!({})),
            (Failure::TimedOut("late".into()), "timeout", serde_json::json!({})),
            (Failure::Other(anyhow::anyhow!("odd")), "failed", serde_json::json!({})),
        ] {
            let body = failure.body();
            assert_eq!((&*body.code, &serde_json::json!(body.details)), (code, &details), "{failure}");
            assert_eq!(body.message, failure.to_string());
        }
    }
}
