//! What comes out of apply: an answer for each request, and effects.
//!
//! Answers are compact: ids, leases, counts. What a client sees beside them (a claimed job's payload, say) is read from
//! the rows afterwards by whoever answers, so that replicas do not build what only the leader sends.
//! Effects are hints (design 6): a leader acts on them, a follower drops them, a new leader derives its duties from state.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{
    command::Clocks,
    ids::{Index, JobId, LeaseId, WallMs},
    job::{CancelSignal, Office, Status},
    refusal::Refusal,
    schedule::Taken,
    settings::{Drain, Pool},
};

/// What applying one entry gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    /// One for each request, in order.
    pub answers: Vec<Answer>,
    pub effects: Vec<Effect>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Answer {
    /// Done; there is nothing to say.
    Done,
    /// The call as a whole was refused.
    Refused(Refusal),
    Submitted(Vec<Result<Submitted, Refusal>>),
    Claimed(Vec<Result<Claimed, Refusal>>),
    Leases {
        results: Vec<Result<LeaseState, Refusal>>,
        claimed: Vec<Result<Claimed, Refusal>>,
    },
    /// One for each id of a verb on jobs, in order.
    Jobs(Vec<Result<JobBrief, Refusal>>),
    Archived {
        archived: u64,
        left: u64,
        next: Option<(WallMs, JobId)>,
    },
    Drain(Drain),
    Pool(Pool),
    /// One for each of these ids, in order.
    Piece {
        ids: Vec<JobId>,
        results: Vec<Result<JobBrief, Refusal>>,
        next: Option<JobId>,
    },
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Submitted {
    pub id: JobId,
    pub existed: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claimed {
    pub job: JobId,
    pub op: u32,
    pub lease: LeaseId,
    pub lease_ms: u64,
    pub attempts: u32,
}

/// The answer to one call under a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseState {
    pub cancel: Option<CancelSignal>,
    pub lease_ms: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobBrief {
    pub id: JobId,
    pub status: Status,
    pub version: Index,
    /// False where the verb found nothing to do (a second kick, a second archive).
    pub changed: bool,
}

/// Something happened that somebody may wait for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// New job.
    Posted {
        job: JobId,
    },
    /// A claim of this queue may now find something it did not find before.
    Ready {
        queue: Arc<str>,
    },
    /// Status, version, or log of the job changed; waiters look again. `was` is the status before.
    Changed {
        job: JobId,
        was: Status,
        status: Status,
    },
    /// The holder of a lease is asked to stop; the pool acts at once.
    Stop {
        job: JobId,
        lease: LeaseId,
        signal: CancelSignal,
    },
    /// A lease ended by other means than its holder's own call.
    LeaseEnded {
        job: JobId,
        lease: LeaseId,
    },
    Removed {
        job: JobId,
    },
    /// Something became of a schedule, or of a slot of it.
    Schedule {
        name: Arc<str>,
        news: ScheduleNews,
    },
    /// Pool size or activity, drain, pauses, limits: whoever obeys settings looks again.
    SettingsChanged,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ScheduleNews {
    /// For the first time, or anew.
    Defined,
    Paused,
    Resumed,
    Removed,
    Taken(Box<Taken>),
}

/// The state's own view of when it wants the next tick; see [`super::State::next_deadline`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NextDeadline {
    pub cluster: Option<super::ids::ClusterMs>,
    pub wall: Option<WallMs>,
}

/// Where and under whom the state stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    pub index: Index,
    pub clocks: Clocks,
    pub office: Office,
}
