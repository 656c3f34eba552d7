//! What an operator does to jobs: kick, bury, priority, archive, delete, edit.

use std::sync::Arc;

use raftq::queue::{
    applied::{Answer, JobBrief},
    command::{Autoarchive, Edit},
    ids::{JobId, Priority, WallMs},
    job::{Hold, Spec, Status},
    refusal::Refusal,
};

use super::{
    Model,
    attempts::too_heavy,
    job::{Lasting, OpStatus},
    submit::check,
};

impl Model {
    /// Queued now: successes stay, the first unsuccessful op and those after it run again, retries and losses are reset,
    /// attempts are kept. What is none of buried, delayed, error, canceled is skipped.
    pub(super) fn kick(&mut self, id: JobId) -> Result<JobBrief, Refusal> {
        let job = self.job(id)?;
        let kickable = matches!(job.status(), Status::Buried | Status::Delayed | Status::Error | Status::Canceled);
        if !kickable || job.archived {
            return Ok(job.brief(false));
        }
        let (was_final, unique) = (job.status().is_final(), job.spec.unique.clone());
        if was_final && self.holder_of(unique.as_ref()).is_some() {
            return Err(Refusal::Conflict { message: "".into() });
        }
        // It ended in this very request, and those that wait for it have not heard yet.
        if self.ended.contains_key(&id) && self.waits_for(id, &[]).is_some() {
            return Err(Refusal::Busy { message: "".into() });
        }
        if was_final && let Some(full) = self.full() {
            return Err(full);
        }
        let job = self.job(id)?;
        for op in job.ops.iter_mut().skip_while(|op| op.status == OpStatus::Success) {
            op.status = OpStatus::Queued;
            op.retries_used = 0;
            op.lost = 0;
            op.start_failures = 0;
        }
        job.hold = Lasting::exactly(Hold::None);
        self.changed(id);
        if was_final {
            self.reopen_dependencies(id);
        }
        self.settle(id);
        Ok(self.jobs[&id].brief(true))
    }

    /// An operator may bury whatever has no lease.
    pub(super) fn bury(&mut self, id: JobId, reason: Option<&str>) -> Result<JobBrief, Refusal> {
        let job = self.job(id)?;
        let status = job.status();
        match status {
            Status::Success | Status::Error | Status::Canceled => return Err(Refusal::Finished { status }),
            Status::Reserved | Status::Running | Status::Canceling => {
                let owner = job.held().expect("it has a lease").1.worker.clone();
                return Err(Refusal::Claimed { owner });
            }
            Status::Buried => return Ok(job.brief(false)),
            Status::Queued | Status::Delayed | Status::Blocked => {}
        }
        job.hold = Lasting::exactly(Hold::Buried);
        self.add_reason(id, reason);
        self.changed(id);
        Ok(self.jobs[&id].brief(true))
    }

    /// Every queued and reserved op; running and final ones are left.
    pub(super) fn reprioritize(&mut self, id: JobId, priority: Priority) -> Result<JobBrief, Refusal> {
        let job = self.job(id)?;
        let waits = |op: &&mut super::job::Op| matches!(op.status, OpStatus::Queued | OpStatus::Reserved(_));
        let mut changed = false;
        for op in job.ops.iter_mut().filter(waits) {
            changed |= op.priority != priority;
            op.priority = priority;
        }
        if changed {
            self.changed(id);
        }
        Ok(self.jobs[&id].brief(changed))
    }

    pub(super) fn archive(&mut self, id: JobId) -> Result<JobBrief, Refusal> {
        let job = self.job(id)?;
        let status = job.status();
        if !status.is_final() {
            return Err(Refusal::NotFinal { status });
        }
        let changed = !std::mem::replace(&mut job.archived, true);
        if changed {
            let job = self.jobs.get_mut(&id).expect("it was found");
            (job.version, job.changed_at) = (self.index, self.now.wall);
        }
        Ok(self.jobs[&id].brief(changed))
    }

    /// By end, strictly more than the age ago; a piece at a time.
    pub(super) fn autoarchive(&mut self, which: &Autoarchive) -> Answer {
        let now = self.now.wall.0;
        let old = |end: u64| which.age_ms.is_none_or(|age| end.saturating_add(age) < now);
        let mut eligible: Vec<_> = (self.jobs.values())
            .filter(|job| job.status().is_final() && !job.archived)
            .map(|job| (job.ended_at.expect("it is final"), job.id))
            .filter(|(end, _)| old(end.0))
            .collect();
        eligible.sort();
        let behind = |job: &(WallMs, JobId)| which.after.is_none_or(|after| *job > after);
        let piece: Vec<_> = eligible.iter().copied().filter(behind).take(which.limit as usize).collect();
        for (_, id) in &piece {
            self.archive(*id).expect("it is final");
        }
        let left = (eligible.len() - piece.len()) as u64;
        let next = piece.last().copied().filter(|_| left > 0 && piece.len() == which.limit as usize);
        Answer::Archived { archived: piece.len() as u64, left, next }
    }

    /// Gone, and never comes back; those that go together do not stand in each other's way.
    pub(super) fn delete(&mut self, ids: &[JobId]) -> Answer {
        let mut going: Vec<JobId> = ids.iter().copied().filter(|id| self.may_go(*id).is_ok()).collect();
        while let Some(at) = going.iter().position(|id| self.waits_for(*id, &going).is_some()) {
            going.remove(at);
        }
        self.each(ids, |model, id| {
            let brief = model.may_go(id)?;
            match model.waits_for(id, &going) {
                Some(by) if !going.contains(&id) => Err(Refusal::InUse { by }),
                _ => {
                    model.remove(id);
                    Ok(brief)
                }
            }
        })
    }

    pub(super) fn remove(&mut self, id: JobId) {
        self.jobs.remove(&id);
        self.told.removed.insert(id);
    }

    fn may_go(&mut self, id: JobId) -> Result<JobBrief, Refusal> {
        let job = self.job(id)?;
        match job.held() {
            Some(_) if job.status() == Status::Canceling => Err(Refusal::Canceling),
            Some((_, lease)) => Err(Refusal::Claimed { owner: lease.worker.clone() }),
            None => Ok(job.brief(true)),
        }
    }

    /// Fields of a job without a lease; what has ended and what it waits for stay as they are.
    pub(super) fn edit(&mut self, id: JobId, edit: &Edit) -> Result<JobBrief, Refusal> {
        let job = self.job(id)?;
        let status = job.status();
        if status.is_final() {
            return Err(Refusal::Finished { status });
        }
        if status == Status::Canceling {
            return Err(Refusal::Canceling);
        }
        if let Some((_, lease)) = job.held() {
            return Err(Refusal::Claimed { owner: lease.worker.clone() });
        }
        let Some(spec) = &edit.spec else { return Ok(job.brief(false)) };
        self.check_edit(id, spec)?;
        self.create_limits(spec);
        self.know_group(spec);
        let job = self.job(id)?;
        let written =
            |spec: &Spec| spec.ops.iter().map(|op| op.priority.or(spec.priority).unwrap_or_default()).collect();
        let (old, new): (Vec<_>, Vec<_>) = (written(&job.spec), written(spec));
        for (op, (old, new)) in job.ops.iter_mut().zip(old.into_iter().zip(new)) {
            if op.status == OpStatus::Queued && old != new {
                op.priority = new;
            }
        }
        let (submitted_by, parent) = (job.spec.submitted_by.clone(), job.spec.parent);
        job.spec = Arc::new(Spec { submitted_by, parent, ..Spec::clone(spec) });
        job.shed();
        self.changed(id);
        Ok(self.jobs[&id].brief(true))
    }

    fn check_edit(&self, id: JobId, new: &Spec) -> Result<(), Refusal> {
        check(new)?;
        self.check_environment(new)?;
        let job = &self.jobs[&id];
        if let Some(refusal) = too_heavy(new, job.output_bytes()) {
            return Err(refusal);
        }
        if new.ops.len() != job.ops.len() {
            return Err(Refusal::invalid("ops", ""));
        }
        for (at, (op, (old, new))) in job.ops.iter().zip(job.spec.ops.iter().zip(&new.ops)).enumerate() {
            if op.status != OpStatus::Queued && old != new {
                return Err(Refusal::invalid(format!("ops[{at}]"), ""));
            }
            if old.depends != new.depends {
                return Err(Refusal::invalid(format!("ops[{at}].depends"), ""));
            }
        }
        match self.holder_of(new.unique.as_ref()) {
            Some(holder) if holder != id => Err(Refusal::Conflict { message: "".into() }),
            _ => Ok(()),
        }
    }
}
