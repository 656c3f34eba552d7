//! The data model: what is submitted (`Spec`), what of it changes (`Job`, `Op`), and what its attempts leave behind.
//!
//! A job is kept in two parts. The [`Spec`] is what the submitter said: strings and JSON of any size, written once as a
//! row and never held in memory. The [`Job`] is what changes: small, in memory while the job is live, and written as a
//! row whenever it changes. Results, attempts and log lines are rows of their own, appended and never held.
//!
//! A million live jobs should cost 300 bytes each, indexes included. So a job that nobody has touched yet is two
//! allocations: what comes with running ([`Runs`], [`Lease`]) or is seldom asked for ([`More`]) is boxed.

use std::{cmp::Ordering, collections::BTreeSet, sync::Arc};

use serde::{Deserialize, Serialize};

use super::ids::{ClusterMs, Index, JobId, LeaseId, Priority, Stamp, WallMs};
pub use super::spec::*;

/// Why an op ended that never began: one before it failed.
pub const PRECEDING_OP: &str = "preceding_op";

/// Where an op stands. A lease lives inside the statuses that have one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum OpStatus {
    Queued,
    Reserved(Box<Lease>),
    Running(Box<Lease>),
    /// Running, and asked to stop.
    Canceling(Box<Lease>, CancelSignal),
    Success,
    Error,
    Canceled,
}

/// How hard a running op is asked to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum CancelSignal {
    Term,
    Kill,
}

/// A grant of one op to one holder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    pub id: LeaseId,
    pub holder: Arc<Holder>,
    /// Length that a touch grants anew.
    pub length_ms: u64,
    /// `None`: a pool's lease within its own office; it has no deadline (design 2.3).
    pub deadline: Option<ClusterMs>,
    /// The lowest `log_seq` that brings news: a repeat doubles no line.
    pub log_next: u64,
    /// `after_op` was asked: this op ends as it will, the later ones are canceled.
    pub cancel_after: bool,
}

/// Who holds a lease.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Holder {
    /// The worker's name.
    pub worker: Box<str>,
    pub host: Box<str>,
    pub pid: u32,
    /// Set for the built-in pool: the office that granted it.
    pub office: Option<Office>,
}

/// One node's time as leader; what a pool lease is bound to (design 2.3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Office {
    pub term: u64,
    pub node: u64,
    /// Random at each start of the process.
    pub incarnation: u64,
}

/// One op of a live job: what changes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Op {
    pub kind: Arc<str>,
    pub priority: Priority,
    pub status: OpStatus,
    /// `None` until its first lease.
    pub runs: Option<Box<Runs>>,
}

/// What an op's leases and attempts have come to so far.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Runs {
    pub attempts: u32,
    /// Of the policy's retries.
    pub retries_used: u32,
    pub lost: u32,
    /// Commands that could not be started at all (reason `start_failed`), in a row.
    pub start_failures: u32,
    /// Attempt rows written so far; the next goes into the slot of this number modulo [`super::limits::ATTEMPTS_KEPT`].
    pub recorded: u32,
    /// When it was reserved, started, ended: of the current or last attempt.
    pub reserved_at: Stamp,
    pub exec_at: Stamp,
    pub ended_at: Stamp,
    /// The last lease that ended and how, so that an identical repeat is answered alike.
    pub last: Option<LastLease>,
}

/// How an op's last lease ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastLease {
    pub lease: LeaseId,
    pub ended_by: LeaseEnd,
    pub worker: Box<str>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum LeaseEnd {
    FinishedSuccess,
    FinishedFailure,
    Released,
    Buried,
    Expired,
    Canceled,
}

/// Why a job whose next op is queued does not run yet.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Hold {
    #[default]
    None,
    /// Until the cluster clock reaches this.
    Delayed(ClusterMs),
    /// Until the wall clock reaches this.
    RunAt(WallMs),
    /// Waits for jobs; which ones is in the dependency index.
    Blocked,
    Buried,
}

/// A live job: what changes, in memory. Its row is the same structure.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Job {
    pub id: JobId,
    pub shape: Arc<Shape>,
    pub policy: Arc<Policy>,
    pub hold: Hold,
    pub ops: Box<[Op]>,
    pub received_at: WallMs,
    /// When its first op first ran.
    pub started_at: Stamp,
    /// Set if and only if it is final.
    pub ended_at: Stamp,
    pub changed_at: WallMs,
    /// Index of the entry that last changed it; touches and progress do not.
    pub version: Index,
    pub more: Option<Box<More>>,
    /// What the spec weighs, against [`super::limits::JOB_TOTAL_BYTES_MAX`].
    pub spec_bytes: u32,
    pub archived: bool,
}

/// What most jobs never have.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct More {
    pub unique: Option<Arc<str>>,
    /// Serial of the newest log line, from 1; 0 if none.
    pub log_serial: u64,
    /// Log lines dropped, the oldest first, because the job had become too large.
    pub log_dropped: u64,
    /// What its log lines, and what its results and outputs weigh.
    pub log_bytes: u32,
    pub output_bytes: u32,
    /// Reasons appended after submission.
    pub reasons: u32,
    /// It has dependencies, which stand in a row of their own.
    pub waits: bool,
}

/// A dependency of one op, with its outcome once that is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dep {
    pub op: u32,
    pub on: JobId,
    pub accept: FinalStatuses,
    /// Latched when the other job ended.
    pub outcome: Option<Status>,
}

/// What claims look at. Jobs of one shape stand in one ordered set, so a claim costs the number of shapes (design 2.2).
/// The kind is not here: it is the current op's, and joins the shape in the order's key.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shape {
    pub queue: Arc<str>,
    pub limits: BTreeSet<Arc<str>>,
    /// As the submitter said; what counts is [`super::needs::effective`].
    pub needs: Needs,
    /// 0: learned needs if any; 1: the larger of learned and own; 2: own only.
    pub needs_override: u8,
    pub resource_group: Option<Arc<str>>,
    /// Raised after failures for want of memory or time.
    pub ram_floor_mb: u64,
    pub time_floor_s: u64,
}

/// Live jobs share their shapes, so most are compared with themselves.
impl Ord for Shape {
    fn cmp(&self, other: &Self) -> Ordering {
        if std::ptr::eq(self, other) { Ordering::Equal } else { self.said().cmp(&other.said()) }
    }
}

impl PartialOrd for Shape {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Shape {
    fn said(&self) -> impl Ord {
        let Self { queue, limits, needs, needs_override, resource_group, ram_floor_mb, time_floor_s } = self;
        (queue, limits, needs, needs_override, resource_group, ram_floor_mb, time_floor_s)
    }
}

/// A job's status as users see it, computed from its ops (design 2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Status {
    Queued,
    Delayed,
    Blocked,
    Buried,
    Reserved,
    Running,
    Canceling,
    Success,
    Error,
    Canceled,
}

impl Status {
    pub const ALL: [Status; 10] = [
        Status::Queued,
        Status::Delayed,
        Status::Blocked,
        Status::Buried,
        Status::Reserved,
        Status::Running,
        Status::Canceling,
        Status::Success,
        Status::Error,
        Status::Canceled,
    ];

    pub fn is_final(self) -> bool {
        matches!(self, Status::Success | Status::Error | Status::Canceled)
    }

    pub fn name(self) -> &'static str {
        match self {
            Status::Queued => "queued",
            Status::Delayed => "delayed",
            Status::Blocked => "blocked",
            Status::Buried => "buried",
            Status::Reserved => "reserved",
            Status::Running => "running",
            Status::Canceling => "canceling",
            Status::Success => "success",
            Status::Error => "error",
            Status::Canceled => "canceled",
        }
    }
}

/// What one attempt left behind; the last [`super::limits::ATTEMPTS_KEPT`] are rows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    /// Counts from 1; 0 for a lease that ended before its start.
    pub number: u32,
    pub lease: LeaseId,
    pub worker: Box<str>,
    pub host: Box<str>,
    pub pid: u32,
    pub started_at: Option<WallMs>,
    pub ended_at: Option<WallMs>,
    pub exit_code: Option<i32>,
    pub fail_reason: Option<Box<str>>,
    pub error: Option<Box<str>>,
    pub wall_ms: Option<u64>,
    pub cpu_ms: Option<u64>,
    pub peak_ram_mb: Option<u64>,
    pub stdout: Option<Box<str>>,
    pub stderr: Option<Box<str>>,
    /// The shell that ran it, where one did.
    pub shell: Option<Box<str>>,
}

/// One line of a job's log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogLine {
    pub op: u32,
    pub at: WallMs,
    pub kind: Box<str>,
    pub text: Box<str>,
}

/// What an op's success left: its result and the answers of the jobs it brought along.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpResult {
    pub result: Option<Json>,
    pub jobs: Vec<Generated>,
}

/// Of a generated job its id, or the code and message it was refused with.
pub type Generated = Result<JobId, (Box<str>, Box<str>)>;
