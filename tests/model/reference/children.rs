//! Jobs that a successful op brings along: submitted in the same entry as its finish.

use std::sync::Arc;

use raftq::queue::{
    applied::Submitted,
    ids::JobId,
    job::{Generated, Spec},
    refusal::Refusal,
};

use super::{Model, OpStatus, attempts::last};

/// Of one spec.
const REASONS_MAX: usize = 100;

type Member = Result<Arc<Spec>, Refusal>;

impl Model {
    /// Each is answered for itself; with `atomic` the finish itself is refused if one of them is. A job that ends canceled
    /// brings nothing along.
    pub(super) fn submit_children(
        &mut self,
        parent: JobId,
        op: usize,
        jobs: &[Member],
        atomic: bool,
    ) -> Result<Vec<Generated>, Refusal> {
        if jobs.is_empty() || matches!(self.jobs[&parent].ops[op].status, OpStatus::Canceling(..)) {
            return Ok(Vec::new());
        }
        if let Some(drained) = self.drained() {
            return if atomic { Err(drained) } else { Ok(vec![told(Err(drained)); jobs.len()]) };
        }
        let adopted: Vec<Member> =
            jobs.iter().map(|job| job.clone().map(|spec| self.adopt(parent, op, &spec))).collect();
        let verdicts = self.submit_batch(&adopted, atomic);
        let fault =
            verdicts.iter().filter_map(|verdict| verdict.as_ref().err()).find(|fault| **fault != Refusal::Aborted);
        match fault {
            Some(fault) if atomic => Err(fault.clone()),
            _ => Ok(verdicts.into_iter().map(told).collect()),
        }
    }

    /// Children inherit the priority of the op that brings them, and the job's reasons, unless they set their own.
    fn adopt(&self, parent: JobId, op: usize, spec: &Arc<Spec>) -> Arc<Spec> {
        let mut spec = Spec::clone(spec);
        let from = &self.jobs[&parent];
        spec.priority = spec.priority.or(Some(from.ops[op].priority));
        if spec.reasons.is_empty() {
            let all: Vec<_> = from.spec.reasons.iter().chain(from.reasons_kept()).cloned().collect();
            spec.reasons = last(&all, REASONS_MAX).to_vec();
        }
        spec.comment.get_or_insert_with(|| format!("submitted by job {parent}").into());
        spec.parent = Some(parent);
        Arc::new(spec)
    }
}

/// What stands in the parent's result; the words are free.
fn told(verdict: Result<Submitted, Refusal>) -> Generated {
    verdict.map(|submitted| submitted.id).map_err(|refusal| (refusal.code().into(), "".into()))
}
