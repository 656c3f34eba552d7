//! What one attempt's outcome means for the call. Pure, so that every row of the table is a line in a test.

use hyper::{StatusCode, header};

use super::{
    Call,
    nodes::Authority,
    transport::{Answer, NoAnswer},
};
use crate::api::{ErrorBody, ErrorEnvelope};

#[derive(Debug)]
pub(super) enum Verdict {
    Answer(Answer),
    /// Ask this node instead.
    Follow(Authority),
    /// Ask again, after a pause.
    Again(Again),
    Refused(ErrorBody),
    /// No raftq speaks like this.
    Broken(String),
}

/// Why to ask again.
#[derive(Debug, thiserror::Error)]
pub(super) enum Again {
    #[error("{0}")]
    NotSent(String),
    #[error("{0}")]
    Lost(String),
    #[error("no leader")]
    NoLeader,
    #[error("the node gave up waiting")]
    TimedOut,
    #[error("the node does not know the outcome")]
    Unknown,
    /// Too much is waiting there for now.
    #[error("{}", .0.message)]
    Busy(ErrorBody),
}

impl Again {
    /// A write may be in the log although nobody said so.
    pub fn may_have_happened(&self) -> bool {
        matches!(self, Again::Lost(_) | Again::Unknown)
    }

    /// The node answered, if only with an excuse.
    pub fn heard(&self) -> bool {
        !matches!(self, Again::NotSent(_) | Again::Lost(_))
    }
}

pub(super) fn of(call: &Call, outcome: Result<Answer, NoAnswer>) -> Verdict {
    match outcome {
        Err(NoAnswer::NotSent(cause)) => Verdict::Again(Again::NotSent(cause)),
        Err(NoAnswer::Lost(cause)) => Verdict::Again(Again::Lost(cause)),
        Ok(answer) if answer.status.is_success() => Verdict::Answer(answer),
        Ok(answer) if answer.status == StatusCode::TEMPORARY_REDIRECT => follow(&answer),
        Ok(answer) => refusal(call, &answer),
    }
}

fn follow(answer: &Answer) -> Verdict {
    let location = answer.headers.get(header::LOCATION).and_then(|value| value.to_str().ok());
    match location.and_then(Authority::parse).or_else(|| leader_of(answer)) {
        Some(leader) => Verdict::Follow(leader),
        None => Verdict::Broken("a redirect that names no node".into()),
    }
}

/// The leader's api address from `details.leader`.
fn leader_of(answer: &Answer) -> Option<Authority> {
    let envelope: ErrorEnvelope = serde_json::from_slice(&answer.body).ok()?;
    let leader = envelope.error.details.get("leader")?;
    Authority::parse(leader.as_str().or_else(|| leader["api"].as_str())?)
}

/// What a node says went wrong.
pub(super) fn error_of(answer: &Answer) -> Option<ErrorBody> {
    serde_json::from_slice(&answer.body).ok().map(|ErrorEnvelope { error }| error)
}

fn refusal(call: &Call, answer: &Answer) -> Verdict {
    let Some(error) = error_of(answer) else {
        return Verdict::Broken(format!("status {} without an error body", answer.status.as_u16()));
    };
    match &*error.code {
        "no_leader" => leader_of(answer).map_or(Verdict::Again(Again::NoLeader), Verdict::Follow),
        "timeout" => Verdict::Again(Again::TimedOut),
        "busy" => Verdict::Again(Again::Busy(error)),
        "outcome_unknown" => Verdict::Again(Again::Unknown),
        // The fault is the node's own. Under its key a write is safe to repeat, and only an answer settles its outcome.
        "internal" if call.is_write() => Verdict::Again(Again::Unknown),
        _ => Verdict::Refused(error),
    }
}
