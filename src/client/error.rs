//! What can become of a call, sorted by what the caller should do.

use crate::api::ErrorBody;

#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nothing was sent: no node could be connected to.
    #[error("cannot reach any of {servers} ({cause})")]
    Unreachable { servers: String, cause: String },
    /// Nodes answer, but none leads. Nothing was done.
    #[error("no leader among {servers}: more than half of the members must be up")]
    NoLeader { servers: String },
    /// The cluster said no. Nothing was done, and asking again gives the same answer.
    #[error("{}", .0.message)]
    Refused(ErrorBody),
    /// A write was sent and never answered. It may be done, or be done yet; repeat it under the same key.
    #[error("the outcome is unknown ({cause}): it may have been done; look before repeating it (key {key})")]
    OutcomeUnknown { key: String, cause: String },
    /// A read was not answered in time.
    #[error("no answer from {servers} in time ({cause})")]
    Timeout { servers: String, cause: String },
    /// The answer makes no sense: another program, or a newer raftq, listens there.
    #[error("{server} answered what raftq does not: {message}")]
    Protocol { server: String, message: String },
    /// The call could not even be written down.
    #[error("{0}")]
    Usage(String),
}

impl ClientError {
    /// The public code of a refusal, if it is one.
    pub fn code(&self) -> Option<&str> {
        match self {
            ClientError::Refused(error) => Some(&error.code),
            _ => None,
        }
    }
}
