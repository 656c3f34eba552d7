//! Refusals: values, not errors. A verb that is refused changes nothing and says why.
//!
//! The codes are public (design 3). Precedence between them is the order of checks in each verb's file.

use serde::{Deserialize, Serialize};

use super::{ids::JobId, job::Status};

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Refusal {
    /// A field is wrong; `field` names it as the client wrote it.
    Invalid {
        field: Box<str>,
        message: Box<str>,
    },
    /// An innocent member of an atomic batch that was refused for another's fault.
    Aborted,
    NotFound {
        id: JobId,
    },
    /// The same key with another body, a unique key taken meanwhile, a concurrent change.
    Conflict {
        message: Box<str>,
    },
    /// The lease is not the op's: somebody else holds it.
    StaleLease {
        status: Status,
        owner: Option<Box<str>>,
    },
    /// Nobody holds it.
    NotClaimed {
        status: Status,
    },
    /// Claim by id of a job that another holds.
    Claimed {
        owner: Box<str>,
    },
    /// Claim by id of a job that cannot be claimed now.
    NotClaimable {
        status: Status,
        why: Box<str>,
    },
    NotCancelable {
        status: Status,
    },
    Canceling,
    Finished {
        status: Status,
    },
    NotFinal {
        status: Status,
    },
    KeyExpired {
        oldest: u64,
    },
    TooLarge {
        message: Box<str>,
    },
    QueueFull {
        limit: u64,
    },
    Busy {
        message: Box<str>,
    },
    Drained {
        by: Box<str>,
        reason: Option<Box<str>>,
        since_ms: u64,
    },
    /// An unfinished job waits for it.
    InUse {
        by: JobId,
    },
    NoSchedule {
        name: Box<str>,
    },
    NoResourceGroup {
        name: Box<str>,
    },
    NoWorker {
        name: Box<str>,
    },
    /// None in which jobs have ended, or that is still counted by its name.
    NoQueue {
        name: Box<str>,
    },
}

impl Refusal {
    pub fn invalid(field: impl Into<Box<str>>, message: impl Into<Box<str>>) -> Self {
        Self::Invalid { field: field.into(), message: message.into() }
    }

    /// The same, of a part: a wrong field is named from the whole on.
    pub fn within(self, whole: &str) -> Self {
        match self {
            Self::Invalid { field, message } => Self::invalid(format!("{whole}.{field}"), message),
            other => other,
        }
    }

    /// The public code (design 3).
    pub fn code(&self) -> &'static str {
        match self {
            Refusal::Invalid { .. } => "invalid",
            Refusal::Aborted => "aborted",
            Refusal::NotFound { .. }
            | Refusal::NoSchedule { .. }
            | Refusal::NoResourceGroup { .. }
            | Refusal::NoWorker { .. }
            | Refusal::NoQueue { .. } => "not_found",
            Refusal::Conflict { .. } | Refusal::InUse { .. } | Refusal::NotClaimable { .. } => "conflict",
            Refusal::StaleLease { .. } => "stale_lease",
            Refusal::NotClaimed { .. } => "not_claimed",
            Refusal::Claimed { .. } => "claimed",
            Refusal::NotCancelable { .. } => "not_cancelable",
            Refusal::Canceling => "canceling",
            Refusal::Finished { .. } => "finished",
            Refusal::NotFinal { .. } => "not_final",
            Refusal::KeyExpired { .. } => "key_expired",
            Refusal::TooLarge { .. } => "too_large",
            Refusal::QueueFull { .. } => "queue_full",
            Refusal::Busy { .. } => "busy",
            Refusal::Drained { .. } => "drained",
        }
    }
}

/// What was wrong, then what to do; one sentence, lower case, no full stop.
impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Refusal::Invalid { field, message } => write!(f, "{field}: {message}"),
            Refusal::Aborted => write!(f, "another member of this atomic batch was refused, so none was taken"),
            Refusal::NotFound { id } => write!(f, "there is no job {id}"),
            Refusal::Conflict { message } | Refusal::TooLarge { message } | Refusal::Busy { message } => {
                f.write_str(message)
            }
            Refusal::StaleLease { status, owner: Some(owner) } => {
                write!(f, "the lease is no longer valid: the job is {} and held by {owner}", status.name())
            }
            Refusal::StaleLease { status, owner: None } => {
                write!(f, "the lease is no longer valid: the job is {}", status.name())
            }
            Refusal::NotClaimed { status } => {
                write!(f, "nobody holds this job: it is {}; claim it first", status.name())
            }
            Refusal::Claimed { owner } => write!(f, "the job is held by {owner}"),
            Refusal::NotClaimable { status, why } => {
                write!(f, "the job is {} and cannot be claimed: {why}", status.name())
            }
            Refusal::NotCancelable { status } => {
                write!(f, "the job is {}; cancel it with kill, or after_op to let this op end", status.name())
            }
            Refusal::Canceling => write!(f, "the job is being canceled"),
            Refusal::Finished { status } => write!(f, "the job has ended: {}", status.name()),
            Refusal::NotFinal { status } => write!(f, "the job has not ended: it is {}", status.name()),
            Refusal::KeyExpired { oldest } => {
                write!(f, "this idempotency number is too old (the oldest kept is {oldest}); use rising numbers")
            }
            Refusal::QueueFull { limit } => {
                write!(f, "no more than {limit} live jobs may be here; wait until some have ended")
            }
            Refusal::Drained { by, reason: Some(reason), .. } => {
                write!(f, "submissions are closed (drained by {by}: {reason}); wait for undrain")
            }
            Refusal::Drained { by, reason: None, .. } => {
                write!(f, "submissions are closed (drained by {by}); wait for undrain")
            }
            Refusal::NoSchedule { name } => write!(f, "there is no schedule {name}"),
            Refusal::NoResourceGroup { name } => write!(f, "there is no resource group {name}"),
            Refusal::NoWorker { name } => write!(f, "there is no worker {name}"),
            Refusal::NoQueue { name } => write!(f, "nothing is counted of a queue {name}"),
            Refusal::InUse { by } => write!(f, "job {by} still waits for it; delete that one too, or first"),
        }
    }
}
