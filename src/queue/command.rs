//! What goes into the log: entries, the requests in them, and the verbs.
//!
//! One entry carries many requests: the leader gathers what arrives while the last entry is being written. A request is
//! applied whole and gets one answer, and under an idempotency key the same one again (P7).

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::refusal::Refusal;
use super::{
    ids::{ClusterMs, Index, JobId, LeaseId, Priority, WallMs},
    job::{Json, Office, Spec},
    schedule::{Missed, Next, Overlap, Timing},
    text,
};

/// One Raft log entry's worth of work.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    pub clocks: Clocks,
    /// Who led when this was proposed. The first entry of another office ends the grace of the old pool's leases.
    pub office: Office,
    pub requests: Vec<Request>,
}

/// The two clocks of an entry, stamped by the leader and never read in apply (design 2.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Clocks {
    pub cluster: ClusterMs,
    pub wall: WallMs,
}

/// One operation, with who asked and under which key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// Who asked; keys are per principal.
    #[serde(deserialize_with = "text::shared")]
    pub principal: Arc<str>,
    pub key: Option<Key>,
    pub command: Command,
}

/// An idempotency key `NAME/N` (design 2.2).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Key {
    #[serde(deserialize_with = "text::shared")]
    pub name: Arc<str>,
    pub number: u64,
    /// Digest of method, path and body: the same key with another body is a conflict.
    pub digest: u128,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Command {
    /// What the leader proposes when [`super::State::next_deadline`] has passed: the only command that expires anything.
    Tick {
        /// The leader mistrusts its wall clock: what wall time would trigger waits (design 2.1).
        hold_wall: bool,
    },
    Submit {
        /// In order. What the front door could not even decode stands in its place with its refusal.
        jobs: Vec<Result<Arc<Spec>, Refusal>>,
        atomic: bool,
    },
    Claim(Claim),
    Leases {
        items: Vec<LeaseItem>,
        claim: Option<Claim>,
    },
    Cancel {
        ids: Vec<JobId>,
        how: CancelHow,
        reason: Option<Box<str>>,
    },
    Kick {
        ids: Vec<JobId>,
    },
    Bury {
        ids: Vec<JobId>,
        reason: Option<Box<str>>,
    },
    Priority {
        ids: Vec<JobId>,
        priority: Priority,
    },
    Archive {
        ids: Vec<JobId>,
    },
    Autoarchive(Autoarchive),
    Delete {
        ids: Vec<JobId>,
    },
    Edit {
        id: JobId,
        edit: Box<Edit>,
    },
    Drain {
        drained: bool,
        reason: Option<Box<str>>,
    },
    /// `None`: all queues.
    Pause {
        queue: Option<Arc<str>>,
        paused: bool,
    },
    Pool(PoolChange),
    Limit {
        name: Arc<str>,
        max: Option<u32>,
    },
    Settings(SettingsChange),
    Worker(WorkerChange),
    /// Keeps a submitter's environment under its digest, for specs that name it.
    Environment {
        digest: u128,
        value: Json,
    },
    Schedule(ScheduleChange),
    /// A verb for many jobs, of which these are the next.
    Piece {
        /// A verb on jobs: one whose answer is [`super::applied::Answer::Jobs`].
        command: Box<Command>,
        ids: Vec<JobId>,
        /// Where the piece after begins. Part of the answer, and so of what a repeat under the key is told again (P7).
        next: Option<JobId>,
    },
    /// Does it only if the job has not changed since this version.
    IfVersion {
        id: JobId,
        version: Index,
        command: Box<Command>,
    },
    /// What a resource group has learned, and its name with that.
    Forget {
        resource_group: Arc<str>,
    },
    /// How the jobs of a queue have ended goes to that of the others, and its name makes room.
    ForgetQueue {
        queue: Arc<str>,
    },
}

/// Take work (design 2.2, claim).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    pub worker: Box<str>,
    pub host: Box<str>,
    pub pid: u32,
    /// The leader's own pool: leases are bound to the entry's office and have no deadline within it.
    pub pool: bool,
    pub wanted: Wanted,
    /// `None`: any.
    pub kinds: Option<Vec<Arc<str>>>,
    pub resource_groups: Option<Vec<Arc<str>>>,
    pub max: u32,
    /// `None`: each job's own.
    pub lease_ms: Option<u64>,
    /// Reserve and start in one step.
    pub start: bool,
    pub free: Option<Free>,
}

impl Claim {
    /// Of one job, which is only reserved; it says nothing else.
    pub fn of(worker: &str, wanted: Wanted) -> Self {
        Self {
            worker: worker.into(),
            host: worker.into(),
            pid: 0,
            pool: false,
            wanted,
            kinds: None,
            resource_groups: None,
            max: 1,
            lease_ms: None,
            start: false,
            free: None,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Wanted {
    Queues(Vec<Arc<str>>),
    /// Exactly these, with an answer each.
    Ids(Vec<JobId>),
}

/// What a claimer has left to give.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Free {
    pub cores_milli: Option<u64>,
    pub ram_mb: Option<u64>,
    pub disk_mb: Option<u64>,
    pub time_s: Option<u64>,
}

/// One call of a lease's holder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseItem {
    pub job: JobId,
    pub lease: LeaseId,
    pub action: LeaseAction,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum LeaseAction {
    Start { host: Option<Box<str>>, pid: Option<u32> },
    Touch { log: Vec<(Box<str>, Box<str>)>, log_seq: Option<u64>, progress: Option<Json>, checkpoint: Option<Json> },
    Success { result: Option<Json>, jobs: Vec<Result<Arc<Spec>, Refusal>>, atomic_children: bool, report: Box<Report> },
    Failure { fail_reason: Box<str>, retryable: Option<bool>, delay_ms: Option<u64>, report: Box<Report> },
    Release { delay_ms: u64, reason: Option<Box<str>> },
    Bury { reason: Option<Box<str>> },
}

/// What an attempt measured, with its finish.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    pub exit_code: Option<i32>,
    pub error: Option<Box<str>>,
    pub stdout: Option<Box<str>>,
    pub stderr: Option<Box<str>>,
    pub wall_ms: Option<u64>,
    pub cpu_ms: Option<u64>,
    pub peak_ram_mb: Option<u64>,
    pub shell: Option<Box<str>>,
    /// Lines written since the last touch, so that none is lost with the finish.
    pub log: Vec<(Box<str>, Box<str>)>,
    pub log_seq: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CancelHow {
    /// Only what does not run.
    Waiting,
    /// A running op too: its holder is told to stop.
    Kill,
    /// The running op ends as it will, the later ones are canceled.
    AfterOp,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Autoarchive {
    /// Final strictly longer than this; `None`: all.
    pub age_ms: Option<u64>,
    pub limit: u32,
    /// Cursor of the previous piece.
    pub after: Option<(WallMs, JobId)>,
}

/// Fields of a job without a lease that an operator changes; `None` leaves a field as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Edit {
    pub spec: Option<Arc<Spec>>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PoolChange {
    pub active: Option<bool>,
    pub size: Option<u32>,
    pub queues: Option<Vec<Arc<str>>>,
}

/// Replicated settings an operator changes (design: PUT /v1/policy); `None` leaves as is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SettingsChange {
    pub live_jobs_max: Option<u64>,
    /// Final jobs are archived when their end is older; inner `None`: never.
    pub archive_after_ms: Option<Option<u64>>,
    /// Archived jobs are deleted when their end is older; inner `None`: never.
    pub delete_after_ms: Option<Option<u64>>,
    pub pool_timeout_ms: Option<u64>,
    pub bury_impossible: Option<bool>,
}

/// Named submissions that repeat themselves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ScheduleChange {
    Put {
        name: Arc<str>,
        definition: Box<Definition>,
        /// Refused where there is one of this name.
        if_absent: bool,
    },
    Remove {
        name: Arc<str>,
    },
    Pause {
        name: Arc<str>,
        paused: bool,
    },
    /// A job of it now.
    Run {
        name: Arc<str>,
    },
    /// Proposed by the leader, and by nobody else.
    Advance(Advance),
}

/// What a user says of a schedule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Definition {
    pub timing: Timing,
    pub missed: Missed,
    pub overlap: Overlap,
    /// `None`: as it is; a new one is not.
    pub paused: Option<bool>,
    pub spec: Arc<Spec>,
}

/// From one slot of a schedule to the next.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Advance {
    pub name: Arc<str>,
    /// Of the definition from which the slots were computed.
    pub version: Index,
    pub from: Next,
    pub to: Next,
    /// What has come; `None` where only the first slot is planned.
    pub slot: Option<Slot>,
}

/// A slot whose time has come. Where several passed unseen, the newest stands for them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Slot {
    pub at: WallMs,
    /// The same for people, in the schedule's time zone.
    pub text: Box<str>,
    /// Too late, as the schedule sees it: no job.
    pub missed: bool,
}

/// The registry of workers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum WorkerChange {
    Put {
        id: Arc<str>,
        info: Json,
        ttl_ms: u64,
        resources: Option<Free>,
    },
    Remove {
        id: Arc<str>,
    },
    /// The machine of a member's pool, put when the member begins to lead. It stays known until it is removed.
    Pool {
        id: Arc<str>,
        info: Json,
        resources: Free,
    },
}
