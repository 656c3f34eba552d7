//! Dependencies: looked at when an op is next to run, against outcomes that were latched when they happened.

use std::{collections::BTreeMap, sync::Arc};

use raftq::queue::{
    ids::JobId,
    job::{FinalStatuses, Hold, JobRef, Spec, Status},
    refusal::Refusal,
};

use super::{
    Model,
    job::{Lasting, OpStatus},
};

/// Dependents that hear in one entry.
pub const WAKES_PIECE: usize = 10_000;

/// One dependency of one op.
#[derive(Clone, Debug)]
pub struct Latch {
    pub on: JobId,
    pub accept: FinalStatuses,
    /// How that job ended, the first time it did after this was submitted (or before).
    pub outcome: Option<Status>,
}

impl Latch {
    fn accepted(&self) -> FinalStatuses {
        let any = FinalStatuses { success: true, error: true, canceled: false };
        if self.accept == FinalStatuses::default() { any } else { self.accept }
    }

    /// Names job, status and what was required.
    fn mismatch(&self) -> Option<String> {
        let (accepted, outcome) = (self.accepted(), self.outcome?);
        let all = [(accepted.success, "success"), (accepted.error, "error"), (accepted.canceled, "canceled")];
        let required: Vec<&str> = all.into_iter().filter(|(accepts, _)| *accepts).map(|(_, name)| name).collect();
        Some(format!("job {} ended as {}, required was {}", self.on, outcome.name(), required.join(" or ")))
    }

    fn is_met(&self) -> bool {
        let accept = self.accepted();
        match self.outcome {
            Some(Status::Success) => accept.success,
            Some(Status::Error) => accept.error,
            Some(Status::Canceled) => accept.canceled,
            _ => false,
        }
    }
}

/// What a dependency points at: a job that exists, or a member of the same batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    Job(JobId),
    Member(usize),
}

/// The targets of a member's dependencies, op by op.
pub type Targets = Vec<Vec<Target>>;

impl Model {
    /// Where each dependency points; the first that points nowhere is named.
    pub(super) fn targets(&self, jobs: &[Result<Arc<Spec>, Refusal>], at: usize) -> Result<Targets, Refusal> {
        let spec = jobs[at].as_ref().map_err(Refusal::clone)?;
        let mut targets = Vec::new();
        for (op, depends) in spec.ops.iter().enumerate() {
            let mut of_op = Vec::new();
            for (position, depend) in depends.depends.iter().enumerate() {
                let target = self.target(&depend.on, jobs, at);
                of_op.push(target.ok_or_else(|| Refusal::invalid(format!("ops[{op}].depends[{position}]"), ""))?);
            }
            targets.push(of_op);
        }
        Ok(targets)
    }

    fn target(&self, reference: &JobRef, jobs: &[Result<Arc<Spec>, Refusal>], at: usize) -> Option<Target> {
        let member = match reference {
            JobRef::Id(id) => return self.jobs.contains_key(id).then_some(Target::Job(*id)),
            JobRef::Back(back) => at.checked_sub(*back as usize)?,
            JobRef::Named(name) => jobs.iter().position(|job| job.as_ref().is_ok_and(|spec| says(spec, name)))?,
        };
        (member != at).then_some(Target::Member(member))
    }

    /// Looks at the dependencies of the op that is next, if the job is free to run it. A failed one decides at once, also
    /// while others are open.
    pub(super) fn settle(&mut self, id: JobId) {
        let job = self.jobs.get_mut(&id).expect("the caller found it");
        if job.status() != Status::Queued {
            return;
        }
        let unmet: Vec<Latch> = job.depends[job.current()].iter().filter(|latch| !latch.is_met()).cloned().collect();
        let op = job.current();
        match unmet.iter().find_map(|latch| Some((latch.outcome?, latch.mismatch()?))) {
            Some((Status::Canceled, why)) => {
                self.give_reason(id, "dependency", &why);
                self.jobs.get_mut(&id).expect("it is there").end_unfinished(&OpStatus::Canceled);
            }
            Some((_, why)) => {
                self.remember_unrun(id, op, "dependency", Some(&why));
                self.fail_from(id, op);
            }
            None if unmet.is_empty() => return,
            None => job.hold = Lasting::exactly(Hold::Blocked),
        }
        self.changed(id);
    }

    /// A job has ended: its outcome is latched wherever somebody waits for it, and those look again.
    pub(super) fn wake_dependents(&mut self, ended: JobId, status: Status) {
        let mut waiting = Vec::new();
        for job in self.jobs.values_mut().filter(|job| !job.status().is_final()) {
            if waiting.len() == self.wakes_left {
                break;
            }
            let latches = job.depends.iter_mut().flatten();
            let mut open = latches.filter(|latch| latch.on == ended && latch.outcome.is_none()).peekable();
            waiting.extend(open.peek().map(|_| job.id));
            open.for_each(|latch| latch.outcome = Some(status));
        }
        if waiting.is_empty() {
            self.ended.remove(&ended);
        }
        self.wakes_left -= waiting.len();
        for id in waiting {
            self.look_again(id);
            self.bury_stirred();
        }
    }

    /// Only a verdict is a change: who still waits for others has not changed.
    fn look_again(&mut self, id: JobId) {
        let job = self.jobs.get_mut(&id).expect("it was found a moment ago");
        if job.hold.hold != Hold::Blocked || job.status().is_final() {
            return;
        }
        let latches = &job.depends[job.current()];
        let failed = latches.iter().any(|latch| latch.outcome.is_some() && !latch.is_met());
        if failed || latches.iter().all(Latch::is_met) {
            job.hold = Lasting::exactly(Hold::None);
            self.changed(id);
            self.settle(id);
        }
    }

    /// A job that runs again after its end: outcomes that it accepted stand, for the others it looks at those jobs again.
    /// One that is gone is waited for no more, as nobody could ever say how it ended.
    pub(super) fn reopen_dependencies(&mut self, id: JobId) {
        let now: BTreeMap<JobId, Status> = self.jobs.values().map(|job| (job.id, job.status())).collect();
        let job = self.jobs.get_mut(&id).expect("the caller found it");
        for latches in &mut job.depends {
            latches.retain(|latch| latch.is_met() || now.contains_key(&latch.on));
            for latch in latches.iter_mut().filter(|latch| !latch.is_met()) {
                latch.outcome = now.get(&latch.on).copied().filter(|status| status.is_final());
            }
        }
    }

    /// An unfinished job, outside of `going`, that waits for this one.
    pub fn waits_for(&self, id: JobId, going: &[JobId]) -> Option<JobId> {
        let waits =
            |job: &&super::Job| job.depends.iter().flatten().any(|latch| latch.on == id && latch.outcome.is_none());
        self.live().filter(|job| !going.contains(&job.id)).find(waits).map(|job| job.id)
    }
}

pub fn says(spec: &Spec, name: &str) -> bool {
    spec.batch_name.as_deref() == Some(name)
}
