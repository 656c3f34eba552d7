//! What a submitter asks for: strings and JSON of any size, written once as a row and never held in memory.

use std::{cmp::Ordering, collections::BTreeSet, sync::Arc};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{
    ids::{JobId, Priority, WallMs},
    text,
};

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
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
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

/// Live jobs share their policies, so most are compared with themselves.
impl Ord for Policy {
    fn cmp(&self, other: &Self) -> Ordering {
        if std::ptr::eq(self, other) { Ordering::Equal } else { self.said().cmp(&other.said()) }
    }
}

impl PartialOrd for Policy {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Policy {
    fn said(&self) -> impl Ord {
        // All of them: what is not compared would be taken for the same.
        let Self {
            on_failure,
            rerun_on_loss,
            retries,
            lost_limit,
            backoff_base_ms,
            backoff_cap_ms,
            no_retry_after_ms,
            lease_ms,
            needs_override,
            resource_group,
        } = self;
        let counts = (on_failure, rerun_on_loss, retries, lost_limit, needs_override, resource_group);
        (counts, backoff_base_ms, backoff_cap_ms, no_retry_after_ms, lease_ms)
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

impl FinalStatuses {
    pub fn is_empty(self) -> bool {
        self == Self::default()
    }
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
    #[serde(deserialize_with = "text::shared")]
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
    #[serde(deserialize_with = "text::shared")]
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

impl Spec {
    /// A job that says nothing but its ops.
    pub fn of_ops(ops: Vec<OpSpec>) -> Self {
        Self {
            queue: QUEUE_DEFAULT.into(),
            name: None,
            groups: BTreeSet::new(),
            priority: None,
            unique: None,
            limits: Vec::new(),
            needs: None,
            policy: Policy::for_ops(ops.len()),
            when: When::Now,
            meta: None,
            comment: None,
            reasons: Vec::new(),
            keep_output: false,
            batch_name: None,
            environment: None,
            ops,
            submitted_by: None,
            parent: None,
        }
    }
}

impl OpSpec {
    pub fn new(kind: impl Into<Arc<str>>, payload: Payload) -> Self {
        Self { kind: kind.into(), payload, priority: None, depends: Vec::new() }
    }
}
