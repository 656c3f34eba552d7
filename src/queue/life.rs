//! What a job can say about itself, and the steps of its life that concern nobody else.
//!
//! Nothing here knows of other jobs, rows, or indexes: [`super::step::Step`] wraps these steps and keeps the rest true.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::{
    ids::{ClusterMs, LeaseId, Priority, Stamp, WallMs},
    job::{CancelSignal, Hold, Job, LastLease, Lease, LeaseEnd, More, Op, OpStatus, Runs, Status},
    limits,
};

static NO_RUNS: Runs = Runs {
    attempts: 0,
    retries_used: 0,
    lost: 0,
    start_failures: 0,
    recorded: 0,
    reserved_at: Stamp::NONE,
    exec_at: Stamp::NONE,
    ended_at: Stamp::NONE,
    last: None,
};

static NO_MORE: More =
    More { unique: None, log_serial: 0, log_dropped: 0, log_bytes: 0, output_bytes: 0, reasons: 0, waits: false };

impl OpStatus {
    pub fn lease(&self) -> Option<&Lease> {
        match self {
            OpStatus::Reserved(lease) | OpStatus::Running(lease) | OpStatus::Canceling(lease, _) => Some(lease),
            OpStatus::Queued | OpStatus::Success | OpStatus::Error | OpStatus::Canceled => None,
        }
    }

    pub fn lease_mut(&mut self) -> Option<&mut Lease> {
        match self {
            OpStatus::Reserved(lease) | OpStatus::Running(lease) | OpStatus::Canceling(lease, _) => Some(lease),
            OpStatus::Queued | OpStatus::Success | OpStatus::Error | OpStatus::Canceled => None,
        }
    }

    /// The op's status as users see it; holds are the job's.
    pub fn status(&self) -> Status {
        match self {
            OpStatus::Queued => Status::Queued,
            OpStatus::Reserved(_) => Status::Reserved,
            OpStatus::Running(_) => Status::Running,
            OpStatus::Canceling(..) => Status::Canceling,
            OpStatus::Success => Status::Success,
            OpStatus::Error => Status::Error,
            OpStatus::Canceled => Status::Canceled,
        }
    }

    pub fn is_final(&self) -> bool {
        self.status().is_final()
    }
}

impl Op {
    pub fn new(kind: Arc<str>, priority: Priority) -> Self {
        Self { kind, priority, status: OpStatus::Queued, runs: None }
    }

    pub fn runs(&self) -> &Runs {
        self.runs.as_deref().unwrap_or(&NO_RUNS)
    }

    pub fn runs_mut(&mut self) -> &mut Runs {
        self.runs.get_or_insert_default()
    }
}

impl Job {
    /// The job's status, from its ops in order (design 2): success skips; queued changes nothing; reserved and running
    /// set it; canceling, error and canceled set it and stop; all success is success.
    pub fn status(&self) -> Status {
        let mut status = None;
        let mut all_success = true;
        for op in &self.ops {
            all_success &= op.status == OpStatus::Success;
            match op.status.status() {
                Status::Reserved => status = Some(Status::Reserved),
                Status::Running => status = Some(Status::Running),
                stop @ (Status::Canceling | Status::Error | Status::Canceled) => return stop,
                Status::Success | Status::Queued | Status::Delayed | Status::Blocked | Status::Buried => {}
            }
        }
        match status {
            Some(status) => status,
            None if all_success => Status::Success,
            None => self.hold_status(),
        }
    }

    fn hold_status(&self) -> Status {
        match self.hold {
            Hold::None => Status::Queued,
            Hold::Delayed(_) | Hold::RunAt(_) => Status::Delayed,
            Hold::Blocked => Status::Blocked,
            Hold::Buried => Status::Buried,
        }
    }

    /// The op that runs, or runs next, or at which the job ended.
    pub fn current(&self) -> usize {
        let unsuccessful = self.ops.iter().position(|op| op.status != OpStatus::Success);
        unsuccessful.unwrap_or(self.ops.len() - 1)
    }

    pub fn current_op(&self) -> &Op {
        &self.ops[self.current()]
    }

    pub fn current_op_mut(&mut self) -> &mut Op {
        let current = self.current();
        &mut self.ops[current]
    }

    /// The minimum over unfinished ops, 0 if there is none.
    pub fn priority(&self) -> Priority {
        let unfinished = self.ops.iter().filter(|op| !op.status.is_final());
        unfinished.map(|op| op.priority).min().unwrap_or_default()
    }

    pub fn lease(&self) -> Option<&Lease> {
        self.current_op().status.lease()
    }

    /// Whether a lease of it has ended.
    pub fn had_leases(&self) -> bool {
        self.ops.iter().any(|op| op.runs().last.is_some())
    }

    /// Whether it was ever handed out. No other has results, attempts, progress or a checkpoint.
    pub fn was_granted(&self) -> bool {
        self.lease().is_some() || self.ops.iter().any(|op| op.runs().last.is_some() || op.runs().recorded > 0)
    }

    /// Whether no more than one attempt was ever recorded of it.
    pub fn has_one_attempt(&self) -> bool {
        matches!(&*self.ops, [op] if op.runs().recorded == 1)
    }

    pub fn retries_left(&self, op: usize) -> u32 {
        self.policy.retries.saturating_sub(self.ops[op].runs().retries_used)
    }

    pub fn more(&self) -> &More {
        self.more.as_deref().unwrap_or(&NO_MORE)
    }

    pub fn more_mut(&mut self) -> &mut More {
        self.more.get_or_insert_default()
    }

    /// Slots of the reasons given after submission, the oldest that is kept first.
    pub fn reason_slots(&self) -> impl Iterator<Item = u32> + use<> {
        let given = self.more().reasons;
        (given.saturating_sub(limits::REASONS_KEPT)..given).map(|number| number % limits::REASONS_KEPT)
    }

    pub fn limits(&self) -> &BTreeSet<Arc<str>> {
        &self.shape.limits
    }

    /// The op that `lease` was the last to hold, and how that ended.
    pub fn last_of(&self, lease: LeaseId) -> Option<&LastLease> {
        self.ops.iter().filter_map(|op| op.runs().last.as_ref()).find(|last| last.lease == lease)
    }

    /// A claim is granted: queued → reserved, and running where it is started at once.
    pub fn grant(&mut self, lease: Lease, start: bool, wall: WallMs) {
        self.hold = Hold::None;
        self.reserve(lease, wall);
        if start {
            self.start(wall);
        }
    }

    /// queued → reserved.
    pub fn reserve(&mut self, lease: Lease, wall: WallMs) {
        let op = self.current_op_mut();
        assert_eq!(op.status, OpStatus::Queued, "only a queued op is claimed");
        op.status = OpStatus::Reserved(Box::new(lease));
        let runs = op.runs_mut();
        (runs.reserved_at, runs.exec_at, runs.ended_at) = (Stamp::at(wall), Stamp::NONE, Stamp::NONE);
    }

    /// reserved → running. One more attempt.
    pub fn start(&mut self, wall: WallMs) {
        let op = self.current_op_mut();
        let OpStatus::Reserved(lease) = std::mem::replace(&mut op.status, OpStatus::Queued) else {
            panic!("only a reserved op is started");
        };
        op.status = OpStatus::Running(lease);
        let runs = op.runs_mut();
        runs.exec_at = Stamp::at(wall);
        runs.attempts = runs.attempts.saturating_add(1);
        if self.started_at == Stamp::NONE {
            self.started_at = Stamp::at(wall);
        }
    }

    /// Takes the lease from the current op, which is queued then, and remembers how it ended.
    pub fn end_lease(&mut self, ended_by: LeaseEnd, wall: WallMs) -> Lease {
        let op = self.current_op_mut();
        let lease = match std::mem::replace(&mut op.status, OpStatus::Queued) {
            OpStatus::Reserved(lease) | OpStatus::Running(lease) | OpStatus::Canceling(lease, _) => lease,
            OpStatus::Queued | OpStatus::Success | OpStatus::Error | OpStatus::Canceled => {
                panic!("only a lease that is there can end")
            }
        };
        let runs = op.runs_mut();
        runs.ended_at = Stamp::at(wall);
        runs.last = Some(LastLease { lease: lease.id, ended_by, worker: lease.holder.worker.clone() });
        *lease
    }

    /// Every unfinished op → canceled.
    pub fn cancel_rest(&mut self, wall: WallMs) {
        self.hold = Hold::None;
        for op in self.ops.iter_mut().filter(|op| !op.status.is_final()) {
            op.status = OpStatus::Canceled;
        }
        self.seal(wall);
    }

    /// The current op, and every later one with it, → error.
    pub fn fail_rest(&mut self, wall: WallMs) {
        self.hold = Hold::None;
        for op in self.ops.iter_mut().filter(|op| !op.status.is_final()) {
            op.status = OpStatus::Error;
        }
        self.seal(wall);
    }

    /// The current op → error; the later ones were to be canceled anyway.
    pub fn fail_one(&mut self, wall: WallMs) {
        self.current_op_mut().status = OpStatus::Error;
        self.cancel_rest(wall);
    }

    /// The current op → success.
    pub fn succeed(&mut self, wall: WallMs) {
        self.current_op_mut().status = OpStatus::Success;
        if self.status().is_final() {
            self.seal(wall);
        }
    }

    fn seal(&mut self, wall: WallMs) {
        self.ended_at = Stamp::at(wall);
    }

    /// Asks the holder of the running op to stop.
    pub fn ask_to_stop(&mut self, signal: CancelSignal) {
        let op = self.current_op_mut();
        op.status = match std::mem::replace(&mut op.status, OpStatus::Queued) {
            OpStatus::Running(lease) | OpStatus::Canceling(lease, _) => OpStatus::Canceling(lease, signal),
            OpStatus::Reserved(_) | OpStatus::Queued | OpStatus::Success | OpStatus::Error | OpStatus::Canceled => {
                panic!("only a running op is asked to stop")
            }
        };
    }

    /// When the state must look at this job again on its own.
    pub fn due(&self) -> Option<ClusterMs> {
        match (self.lease(), &self.hold) {
            (Some(lease), _) => lease.deadline,
            (None, Hold::Delayed(until)) => Some(*until),
            (None, Hold::None | Hold::RunAt(_) | Hold::Blocked | Hold::Buried) => None,
        }
    }
}
