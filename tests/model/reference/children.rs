//! Jobs that a successful op brings along: submitted in the same entry as its finish.

use std::sync::Arc;

use raftq::queue::{ids::JobId, job::Spec, refusal::Refusal};

use super::{Model, OpStatus};

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
    ) -> Result<(), Refusal> {
        if jobs.is_empty() || matches!(self.jobs[&parent].ops[op].status, OpStatus::Canceling(..)) {
            return Ok(());
        }
        if let Some(drained) = self.drained() {
            return if atomic { Err(drained) } else { Ok(()) };
        }
        let adopted: Vec<Member> =
            jobs.iter().map(|job| job.clone().map(|spec| self.adopt(parent, op, &spec))).collect();
        let verdicts = self.submit_batch(&adopted, atomic);
        let fault = verdicts.into_iter().filter_map(Result::err).find(|refusal| *refusal != Refusal::Aborted);
        match fault {
            Some(fault) if atomic => Err(fault),
            _ => Ok(()),
        }
    }

    /// Children inherit the priority of the op that brings them, and the job's reasons, unless they set their own.
    fn adopt(&self, parent: JobId, op: usize, spec: &Arc<Spec>) -> Arc<Spec> {
        let mut spec = Spec::clone(spec);
        let from = &self.jobs[&parent];
        spec.priority = spec.priority.or(Some(from.ops[op].priority));
        if spec.reasons.is_empty() {
            spec.reasons = from.spec.reasons.clone();
        }
        spec.parent = Some(parent);
        Arc::new(spec)
    }
}
