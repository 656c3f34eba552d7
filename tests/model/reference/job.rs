//! A job as the model keeps it: the submitter's words, and what has become of each op.

use std::sync::Arc;

use raftq::queue::{
    applied::JobBrief,
    ids::{ClusterMs, Index, JobId, LeaseId, Priority, WallMs},
    job::{Attempt, CancelSignal, Hold, Json, LeaseEnd, LogLine, Needs, Office, OpResult, Reason, Spec, Status},
};

use super::Model;

#[derive(Clone, Debug)]
pub struct Job {
    pub id: JobId,
    pub spec: Arc<Spec>,
    pub ops: Vec<Op>,
    pub hold: Lasting,
    pub version: Index,
    pub received_at: WallMs,
    pub changed_at: WallMs,
    pub ended_at: Option<WallMs>,
    pub archived: bool,
    /// Every line that was ever written, the oldest first.
    pub log: Vec<Arc<LogLine>>,
    /// How many of those made way for younger ones.
    pub log_dropped: usize,
    /// Given by verbs, after the submission's own: all of them, of which the last are kept.
    pub reasons: Vec<Reason>,
    pub progress: Option<Json>,
    pub checkpoint: Option<Json>,
    /// When any op of it was started for the first time.
    pub started_at: Option<WallMs>,
    /// For each op, for each of its dependencies: which job, and its final status once it had one.
    pub depends: Vec<Vec<super::dependencies::Latch>>,
    /// Floors that its failures have set.
    pub raised: Needs,
}

#[derive(Clone, Debug)]
pub struct Op {
    pub priority: Priority,
    pub status: OpStatus,
    pub attempts: u32,
    /// When its last lease was granted, when that attempt was started, and when the lease ended.
    pub reserved_at: Option<WallMs>,
    pub exec_at: Option<WallMs>,
    pub lease_ended_at: Option<WallMs>,
    /// What every lease and every end without one left behind, of which the last are kept.
    pub history: Vec<Arc<Attempt>>,
    pub retries_used: u32,
    pub lost: u32,
    pub start_failures: u32,
    pub result: Arc<OpResult>,
    /// The last lease that ended, and how.
    pub last: Option<(LeaseId, LeaseEnd)>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OpStatus {
    Queued,
    Reserved(Lease),
    Running(Lease),
    Canceling(Lease, CancelSignal),
    Success,
    Error,
    Canceled,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    pub id: LeaseId,
    pub worker: Box<str>,
    pub host: Box<str>,
    pub pid: u32,
    /// The office of the pool that holds it, if one does.
    pub office: Option<Office>,
    pub length_ms: u64,
    pub deadline: Option<ClusterMs>,
    pub log_next: u64,
    /// After this op the rest is to be canceled.
    pub cancel_after: bool,
}

/// A hold whose end the model may know only within a range.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lasting {
    pub hold: Hold,
    /// The true deadline is at most this much later.
    pub slack_ms: u64,
}

impl Lasting {
    pub fn exactly(hold: Hold) -> Self {
        Self { hold, slack_ms: 0 }
    }

    /// Whether the core's hold is one that the model allows.
    pub fn allows(&self, other: &Hold) -> bool {
        match (&self.hold, other) {
            (Hold::Delayed(earliest), Hold::Delayed(actual)) => {
                earliest <= actual && actual.0 - earliest.0 <= self.slack_ms
            }
            (mine, theirs) => mine == theirs,
        }
    }
}

impl Job {
    /// Design 2: scan in order; success skips; queued changes nothing; reserved and running set it, later ones override;
    /// canceling, error and canceled set it and stop; all success = success.
    pub fn status(&self) -> Status {
        let mut status = Status::Queued;
        for op in &self.ops {
            match op.status {
                OpStatus::Success | OpStatus::Queued => {}
                OpStatus::Reserved(_) => status = Status::Reserved,
                OpStatus::Running(_) => status = Status::Running,
                OpStatus::Canceling(..) => return Status::Canceling,
                OpStatus::Error => return Status::Error,
                OpStatus::Canceled => return Status::Canceled,
            }
        }
        if self.ops.iter().all(|op| op.status == OpStatus::Success) {
            return Status::Success;
        }
        if status == Status::Queued { self.held_status() } else { status }
    }

    fn held_status(&self) -> Status {
        match self.hold.hold {
            Hold::None => Status::Queued,
            Hold::Delayed(_) | Hold::RunAt(_) => Status::Delayed,
            Hold::Blocked => Status::Blocked,
            Hold::Buried => Status::Buried,
        }
    }

    /// The op that is to run next, or runs: the first that has not succeeded.
    pub fn current(&self) -> usize {
        self.ops.iter().position(|op| op.status != OpStatus::Success).expect("a live job has an unfinished op")
    }

    /// Minimum over the unfinished ops, 0 if there is none.
    pub fn priority(&self) -> Priority {
        self.ops.iter().filter(|op| !op.is_final()).map(|op| op.priority).min().unwrap_or_default()
    }

    /// The op that somebody holds, and the lease.
    pub fn held(&self) -> Option<(usize, &Lease)> {
        self.ops.iter().enumerate().find_map(|(number, op)| op.lease().map(|lease| (number, lease)))
    }

    pub fn count_start(&mut self, op: usize, at: WallMs) {
        self.ops[op].attempts += 1;
        self.ops[op].exec_at = Some(at);
        self.started_at.get_or_insert(at);
    }

    pub fn brief(&self, changed: bool) -> JobBrief {
        JobBrief { id: self.id, status: self.status(), version: self.version, changed }
    }

    /// Every unfinished op ends now; so does the job.
    pub fn end_unfinished(&mut self, status: &OpStatus) {
        for op in self.ops.iter_mut().filter(|op| !op.is_final()) {
            op.status = status.clone();
        }
        self.hold = Lasting::exactly(Hold::None);
    }
}

impl Op {
    pub fn is_final(&self) -> bool {
        matches!(self.status, OpStatus::Success | OpStatus::Error | OpStatus::Canceled)
    }

    pub fn lease(&self) -> Option<&Lease> {
        match &self.status {
            OpStatus::Reserved(lease) | OpStatus::Running(lease) | OpStatus::Canceling(lease, _) => Some(lease),
            OpStatus::Queued | OpStatus::Success | OpStatus::Error | OpStatus::Canceled => None,
        }
    }

    pub fn lease_mut(&mut self) -> Option<&mut Lease> {
        match &mut self.status {
            OpStatus::Reserved(lease) | OpStatus::Running(lease) | OpStatus::Canceling(lease, _) => Some(lease),
            OpStatus::Queued | OpStatus::Success | OpStatus::Error | OpStatus::Canceled => None,
        }
    }
}

impl Model {
    /// Marks a change of the job by this entry: version, time, and `ended_at` if and only if it is final.
    pub(super) fn changed(&mut self, id: JobId) {
        let (index, wall) = (self.index, self.now.wall);
        let job = self.jobs.get_mut(&id).expect("only jobs that exist change");
        job.version = index;
        job.changed_at = wall;
        match (job.status().is_final(), job.ended_at) {
            (true, None) => {
                job.ended_at = Some(wall);
                let ends = self.totals.entry(job.spec.queue.clone()).or_default();
                *ends.entry(job.status()).or_default() += 1;
            }
            (false, Some(_)) => job.ended_at = None,
            (true, Some(_)) | (false, None) => {}
        }
        if job.status().is_final() {
            let status = job.status();
            self.ended.insert(id, status);
        }
        self.stirred.insert(id);
        self.told.news.insert(id);
    }

    pub(super) fn add_reason(&mut self, id: JobId, text: Option<&str>) {
        let source = self.principal.clone();
        text.inspect(|text| self.give_reason(id, &source, text));
    }

    pub(super) fn give_reason(&mut self, id: JobId, source: &str, text: &str) {
        let reason = Reason { source: source.into(), text: text.into(), at: self.now.wall };
        self.jobs.get_mut(&id).expect("the caller found it").reasons.push(reason);
    }

    pub(super) fn delayed(&self, ms: u64) -> Lasting {
        Lasting::exactly(if ms == 0 { Hold::None } else { Hold::Delayed(ClusterMs(self.now.cluster.0 + ms)) })
    }
}
