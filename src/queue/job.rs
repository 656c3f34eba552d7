//! The data model: what is submitted (`Spec`), what of it changes (`Job`, `Op`), and what its attempts leave behind.
//!
//! A job is kept in two parts. The [`Spec`] is what the submitter said: strings and JSON of any size, written once as a
//! row and never held in memory. The [`Job`] is what changes: small, in memory while the job is live, and written as a
//! row whenever it changes. Results, attempts and log lines are rows of their own, appended and never held.

use std::{collections::BTreeSet, sync::Arc};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::ids::{ClusterMs, Index, JobId, LeaseId, Priority, WallMs};

/// JSON text as the client gave it. The core passes it through and never looks inside.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Json(pub Box<str>);

/// What an op hands to whoever runs it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Payload {
    /// `args`: any JSON value.
    Args(Json),
    /// `body` given as a string.
    Text(Box<str>),
    /// `body` given as `{"base64": ...}`.
    Binary(Bytes),
}

/// The op kinds that the built-in runner knows; any other is opaque and for remote workers.
pub const KIND_EXEC: &str = "exec";
pub const KIND_SLEEP: &str = "sleep";
pub const QUEUE_DEFAULT: &str = "default";

/// What a job needs of the machine that runs it; for packing and learning, nothing is killed for exceeding it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Needs {
    /// Thousandths of a core.
    pub cores_milli: u32,
    pub ram_mb: u64,
    pub disk_mb: u64,
    /// Expected running time in seconds.
    pub time_s: u64,
}

/// What becomes of a job whose failure is final.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum OnFailure {
    /// Kept aside until somebody kicks it. The default for jobs of one op.
    Bury,
    /// The op ends in error, and every later op with it. The default for jobs of several ops.
    Error,
}

/// How a job behaves in time and failure. Shared between the jobs that say the same: most say nothing.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Policy {
    pub on_failure: OnFailure,
    pub rerun_on_loss: bool,
    pub retries: u32,
    pub lost_limit: u32,
    pub backoff_base_ms: u64,
    pub backoff_cap_ms: u64,
    /// A failure that ran longer than this is not retried.
    pub no_retry_after_ms: Option<u64>,
    /// Time to run: the length of a lease.
    pub lease_ms: u64,
    /// 0: learned needs if any; 1: the larger of learned and own; 2: own only.
    pub needs_override: u8,
    pub resource_group: Option<Arc<str>>,
}

pub const LEASE_MS_DEFAULT: u64 = 60_000;
pub const LEASE_MS_MIN: u64 = 100;
pub const LEASE_MS_MAX: u64 = 86_400_000;
pub const LOST_LIMIT_DEFAULT: u32 = 3;
pub const BACKOFF_BASE_MS_DEFAULT: u64 = 30_000;
pub const BACKOFF_CAP_MS_DEFAULT: u64 = 1_800_000;

impl Policy {
    /// The policy of a job that says nothing, with `ops` ops.
    pub fn for_ops(ops: usize) -> Self {
        Self {
            on_failure: if ops > 1 { OnFailure::Error } else { OnFailure::Bury },
            rerun_on_loss: true,
            retries: 0,
            lost_limit: LOST_LIMIT_DEFAULT,
            backoff_base_ms: BACKOFF_BASE_MS_DEFAULT,
            backoff_cap_ms: BACKOFF_CAP_MS_DEFAULT,
            no_retry_after_ms: None,
            lease_ms: LEASE_MS_DEFAULT,
            needs_override: 0,
            resource_group: None,
        }
    }
}

/// Which job an op waits for, as the submitter names it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum JobRef {
    Id(JobId),
    /// The k-th job before this one in the batch, from 1.
    Back(u32),
    /// The member of this batch that says `"as": name`.
    Named(Box<str>),
}

/// The final statuses a dependency accepts. Empty means success or error.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct FinalStatuses {
    pub success: bool,
    pub error: bool,
    pub canceled: bool,
}

/// One `depends` entry of an op, as submitted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Depends {
    pub on: JobRef,
    pub accept: FinalStatuses,
}

/// One op as submitted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpSpec {
    pub kind: Arc<str>,
    pub payload: Payload,
    /// `None`: the job's.
    pub priority: Option<Priority>,
    pub depends: Vec<Depends>,
}

/// When a job may first be claimed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum When {
    #[default]
    Now,
    /// After this many milliseconds of cluster time.
    Delay(u64),
    /// At this wall time.
    RunAt(WallMs),
}

/// One entry of a job's trail of reasons.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reason {
    pub source: Box<str>,
    pub text: Box<str>,
    pub at: WallMs,
}

/// What a submitter asks for; the row that stays. Shape checks (types, unknown names) are the API's, ranges and counts are
/// [`super::limits`]'.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spec {
    pub queue: Arc<str>,
    pub name: Option<Box<str>>,
    pub groups: BTreeSet<Arc<str>>,
    pub priority: Option<Priority>,
    pub unique: Option<Arc<str>>,
    /// Limit groups, each with the ceiling that creates it if it is absent (`"etl:5"`).
    pub limits: Vec<(Arc<str>, Option<u32>)>,
    pub needs: Option<Needs>,
    pub policy: Policy,
    pub when: When,
    /// A small JSON object.
    pub meta: Option<Json>,
    pub comment: Option<Box<str>>,
    /// The submitter's reasons; later ones are appended by verbs that carry one.
    pub reasons: Vec<Reason>,
    pub keep_output: bool,
    /// This member's name in its batch, for dependencies by name.
    pub batch_name: Option<Box<str>>,
    /// Digest of the submitter's environment, when it was asked to be kept (stored once per distinct environment).
    pub environment: Option<u128>,
    pub ops: Vec<OpSpec>,
    /// Who submitted: the principal, and for a generated job its parent.
    pub submitted_by: Option<Box<str>>,
    pub parent: Option<JobId>,
}

/// Where an op stands. A lease lives inside the statuses that have one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum OpStatus {
    Queued,
    Reserved(Lease),
    Running(Lease),
    /// Running, and asked to stop.
    Canceling(Lease, CancelSignal),
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
    /// Touches' highest log sequence number, so that a repeat doubles no line.
    pub log_seq: u64,
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
    pub attempts: u32,
    pub retries_left: u32,
    pub lost: u32,
    /// Losses in a row of commands that could not be started at all (reason `start_failed`).
    pub start_failures: u32,
    /// When it was reserved, started, ended: of the current or last attempt.
    pub reserved_at: Option<WallMs>,
    pub exec_at: Option<WallMs>,
    pub ended_at: Option<WallMs>,
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
    pub unique: Option<Arc<str>>,
    pub hold: Hold,
    pub ops: Box<[Op]>,
    pub received_at: WallMs,
    pub started_at: Option<WallMs>,
    pub ended_at: Option<WallMs>,
    pub changed_at: WallMs,
    /// Index of the entry that last changed it; touches and progress do not.
    pub version: Index,
    /// Serial of the newest log line, from 1; 0 if none.
    pub log_serial: u64,
    /// Log lines dropped because the log was full.
    pub log_dropped: u64,
    /// Reasons appended after submission.
    pub reasons: u32,
    pub archived: bool,
}

/// What claims look at. Jobs of one shape stand in one ordered set, so a claim costs the number of shapes (design 2.2).
/// The kind is not here: it is the current op's, and joins the shape in the order's key.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Shape {
    pub queue: Arc<str>,
    pub limits: BTreeSet<Arc<str>>,
    /// Rounded for packing.
    pub needs: Needs,
    pub resource_group: Option<Arc<str>>,
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
