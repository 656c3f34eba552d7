//! Jobs that a finish brings along: submitted in the same entry, each answered for itself (design 2.2).

use std::sync::Arc;

use crate::queue::{
    applied::Submitted,
    ids::{JobId, Priority},
    job::{Reason, Spec},
    limits,
    ops::submit::{self, Member},
    refusal::Refusal,
    rows::{Row, RowKey},
    step::Step,
};

/// The id of a child, or the code and message of its refusal.
pub type Child = Result<JobId, (Box<str>, Box<str>)>;

/// Submits the children of `parent`, whose finish is at hand. With `atomic`, all of them or no finish.
pub fn submit(step: &mut Step, parent: JobId, jobs: &[Member], atomic: bool) -> Result<Vec<Child>, Refusal> {
    if jobs.is_empty() {
        return Ok(Vec::new());
    }
    let results = match step.state.drain.refusal() {
        Some(refusal) => vec![Err(refusal); jobs.len()],
        None => {
            let parent = Parent::of(step, parent);
            let jobs: Vec<Member> = jobs.iter().map(|job| job.clone().map(|spec| parent.hand_down(spec))).collect();
            submit::submit_batch(step, &jobs, atomic)
        }
    };
    let faults = results.iter().filter_map(|result| result.as_ref().err());
    match faults.into_iter().find(|fault| **fault != Refusal::Aborted) {
        Some(fault) if atomic => Err(fault.clone()),
        _ => Ok(results.into_iter().map(told).collect()),
    }
}

fn told(result: Result<Submitted, Refusal>) -> Child {
    result.map(|submitted| submitted.id).map_err(|refusal| (refusal.code().into(), refusal.to_string().into()))
}

/// What children take from their parent unless they say otherwise.
struct Parent {
    id: JobId,
    priority: Priority,
    reasons: Vec<Reason>,
}

impl Parent {
    fn of(step: &Step, id: JobId) -> Self {
        let job = step.live(id).expect("its lease was found");
        let (spec, _) = step.spec(id).expect("a live job has a spec");
        let mut reasons = spec.reasons.clone();
        for slot in job.reason_slots() {
            if let Some(Row::Reason(reason)) = step.read(&RowKey::Reason(id, slot)) {
                reasons.push(reason);
            }
        }
        let excess = reasons.len().saturating_sub(limits::REASONS_KEPT as usize);
        reasons.drain(..excess);
        Self { id, priority: job.current_op().priority, reasons }
    }

    fn hand_down(&self, mut spec: Arc<Spec>) -> Arc<Spec> {
        let child = Arc::make_mut(&mut spec);
        child.parent = Some(self.id);
        child.priority = child.priority.or(Some(self.priority));
        if child.reasons.is_empty() {
            child.reasons.clone_from(&self.reasons);
        }
        child.comment.get_or_insert_with(|| format!("submitted by job {}", self.id).into());
        spec
    }
}
