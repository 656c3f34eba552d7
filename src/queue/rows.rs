//! The durable form of the state: typed rows under typed keys.
//!
//! Apply writes rows through an overlay ([`Changes`]) that the state machine encodes and stores in one batch, and reads
//! cold ones (jobs that have ended, specs, kept answers) through [`Rows`]. A row is a pure function of the log, so reading
//! one inside apply is deterministic. What is hot is rebuilt from rows at start ([`super::State::load`]).

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use serde::{Deserialize, Serialize};

use super::{
    applied::{Answer, Position},
    birth::Birth,
    command::Free,
    granted::Grants,
    ids::{ClusterMs, Index, JobId, LeaseId, WallMs},
    job::{Attempt, Dep, Job, Json, LogLine, OpResult, Reason, Spec, Status},
    needs::Learned,
    schedule::Schedule,
    settings::{Drain, Pool, Settings},
    totals::Ends,
};

/// The key of a row. Order matters: a scan walks keys of one kind in their natural order.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RowKey {
    /// A live job to which something has happened: read at start.
    Live(JobId),
    /// Which live jobs of this span are fresh ([`super::fresh`]): read at start.
    Fresh(u64),
    /// What was granted of jobs of this span ([`super::granted`]): read at start.
    Granted(u64),
    /// A job that has ended and is not archived.
    Ended(JobId),
    Archived(JobId),
    /// The index of `Ended` by end, for archiving by age: which jobs of a span ended at this moment.
    EndedAt(WallMs, u64),
    /// The index of `Archived` by end, for retention.
    ArchivedAt(WallMs, u64),
    Spec(JobId),
    /// (job, op).
    Result(JobId, u32),
    /// (job, op, slot): a ring of the last attempts.
    Attempt(JobId, u32, u32),
    Log(JobId, u64),
    /// Reasons added after submission.
    Reason(JobId, u32),
    Checkpoint(JobId),
    Progress(JobId),
    /// Index rows for listings: group label and job.
    Group(Arc<str>, JobId),
    /// Unique key of an ended job, for look-up by key: the newest holder.
    Unique(Arc<str>, JobId),
    /// (principal, name).
    KeyName(Arc<str>, Arc<str>),
    /// (principal, name, slot): a ring of the last answers.
    KeySlot(Arc<str>, Arc<str>, u32),
    Counters,
    Drain,
    Pool,
    Settings,
    /// A paused queue; the empty name stands for all.
    Paused(Arc<str>),
    Limit(Arc<str>),
    Learned(Arc<str>),
    Worker(Arc<str>),
    /// Dependencies of a blocked job.
    Waits(JobId),
    Environment(u128),
    /// How many jobs ended in this minute of wall time and are not archived.
    EndedMinute(u64),
    /// A job that has ended, while not all that wait for it have heard.
    Waking(JobId),
    /// How many jobs, live or ended, and schedules name this environment.
    EnvironmentUses(u128),
    Schedule(Arc<str>),
    /// What the jobs of a schedule are.
    ScheduleSpec(Arc<str>),
    /// Workers or needs have changed: ready jobs that no worker can hold any more are to be found.
    LookAgain,
    /// How the jobs of a queue have ended.
    QueueEnds(Arc<str>),
}

impl RowKey {
    /// The job whose removal takes the row along: the key begins with its id.
    pub fn job(&self) -> Option<JobId> {
        match self {
            Self::Live(id)
            | Self::Ended(id)
            | Self::Archived(id)
            | Self::Spec(id)
            | Self::Result(id, _)
            | Self::Attempt(id, ..)
            | Self::Log(id, _)
            | Self::Reason(id, _)
            | Self::Checkpoint(id)
            | Self::Progress(id)
            | Self::Waits(id) => Some(*id),
            Self::Fresh(_)
            | Self::Granted(_)
            | Self::KeyName(..)
            | Self::KeySlot(..)
            | Self::Counters
            | Self::Drain
            | Self::Pool
            | Self::Settings
            | Self::Paused(_)
            | Self::Limit(_)
            | Self::Learned(_)
            | Self::Worker(_)
            | Self::Environment(_)
            | Self::EnvironmentUses(_)
            | Self::Schedule(_)
            | Self::ScheduleSpec(_)
            | Self::LookAgain
            | Self::QueueEnds(_)
            | Self::EndedMinute(_)
            | Self::EndedAt(..)
            | Self::ArchivedAt(..)
            | Self::Group(..)
            | Self::Unique(..)
            | Self::Waking(_) => None,
        }
    }
}

/// The value of a row.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Row {
    Mark,
    Job(Box<Job>),
    Spec(Arc<Spec>),
    Result(OpResult),
    Attempt(Box<Attempt>),
    Log(LogLine),
    Reason(Reason),
    Json(Json),
    KeyName(KeyName),
    KeySlot(Box<KeySlot>),
    Counters(Box<Counters>),
    Drain(Box<Drain>),
    Pool(Pool),
    Settings(Settings),
    Limit(u32),
    Count(u64),
    Status(Status),
    Worker(Box<Worker>),
    Waits(Box<[Dep]>),
    Learned(Box<Learned>),
    Schedule(Box<Schedule>),
    Ends(Ends),
    /// As [`Row::KeyName`], and the answers to a few higher numbers may be kept.
    KeyAhead(KeyName),
    /// The spec of a job, and when that came. [`Row::Spec`] is that of a schedule.
    Born(Arc<Spec>, Birth),
    Grants(Box<Grants>),
    /// A job that has ended at its only attempt, and that attempt.
    Done(Box<Job>, Box<Attempt>),
}

/// A job that has ended, and its only attempt if it had one: most jobs need one row for both.
pub struct Ended {
    pub job: Box<Job>,
    pub attempt: Option<Box<Attempt>>,
}

impl From<Ended> for Row {
    fn from(ended: Ended) -> Self {
        match ended.attempt {
            Some(attempt) => Self::Done(ended.job, attempt),
            None => Self::Job(ended.job),
        }
    }
}

impl Row {
    /// What the row of a job that has ended holds.
    pub fn into_ended(self) -> Option<Ended> {
        match self {
            Self::Job(job) => Some(Ended { job, attempt: None }),
            Self::Done(job, attempt) => Some(Ended { job, attempt: Some(attempt) }),
            _ => None,
        }
    }

    /// The spec of a job, and when that came. Before there were fresh jobs each had a row, and its spec told no birth.
    pub fn into_spec(self) -> Option<(Arc<Spec>, Birth)> {
        match self {
            Self::Born(spec, birth) => Some((spec, birth)),
            Self::Spec(spec) => Some((spec, Birth::default())),
            _ => None,
        }
    }
}

/// A worker in the registry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Worker {
    /// What it says of itself: kind, host, version, slots, metadata.
    pub info: Json,
    pub expires: ClusterMs,
    pub seen_at: WallMs,
    pub resources: Option<Free>,
}

impl Worker {
    /// Whether this is the machine of a member's pool: it is not heard of, and so never expires.
    pub fn is_pool(&self) -> bool {
        self.expires == ClusterMs::NEVER
    }
}

/// What is known of an idempotency name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyName {
    pub highest: u64,
    pub used: ClusterMs,
}

/// A kept answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeySlot {
    pub number: u64,
    pub digest: u128,
    pub index: Index,
    pub answer: Answer,
}

/// What only rises.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters {
    pub last_job: JobId,
    pub last_lease: LeaseId,
    pub position: Position,
    pub ends: Ends,
    pub archived: u64,
    /// Jobs that have ended and still exist, archived or not.
    pub ended: u64,
}

impl Counters {
    /// One more job has ended like this.
    pub fn count_end(&mut self, status: Status) {
        self.ends.count(status);
        self.ended += 1;
    }
}

/// Everything one batch of entries changed: `None` deletes. A job's removal also drops all rows that begin with its id.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    pub rows: BTreeMap<RowKey, Option<Row>>,
    /// Jobs whose every row goes (specs, results, attempts, logs, ...); applied before `rows`.
    pub dropped_jobs: BTreeSet<JobId>,
    /// Idempotency names whose every slot goes; applied before `rows`.
    pub dropped_names: BTreeSet<(Arc<str>, Arc<str>)>,
}

/// The durable rows as of the last stored batch.
pub trait Rows {
    fn get(&self, key: &RowKey) -> Option<Row>;

    /// Rows from `from` on, in key order, for as long as `each` says true. Stays within the kind of `from`;
    /// of what a job has several rows of (results, attempts, log, reasons), it may stop behind the job's.
    fn scan(&self, from: &RowKey, each: &mut dyn FnMut(RowKey, Row) -> bool);
}
