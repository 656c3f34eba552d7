//! delete: gone, and never comes back. Not while somebody holds it.

use std::collections::BTreeMap;

use crate::queue::{
    applied::{Answer, Effect, JobBrief},
    ids::JobId,
    job::{Job, Status},
    refusal::Refusal,
    rows::RowKey,
    step::{Step, brief},
};

pub fn delete(step: &mut Step, ids: &[JobId]) -> Answer {
    let verdicts = judge(step, ids);
    super::each(step, ids, None, |step, id| match &verdicts[&id] {
        Ok(_) if step.find(id).is_err() => Err(Refusal::NotFound { id }),
        Ok(brief) => {
            remove(step, id);
            Ok(*brief)
        }
        Err(refusal) => Err(refusal.clone()),
    })
}

type Verdicts = BTreeMap<JobId, Result<JobBrief, Refusal>>;

/// Who may go. A job that an unfinished one waits for goes only together with that one.
fn judge(step: &Step, ids: &[JobId]) -> Verdicts {
    let mut verdicts: Verdicts = ids.iter().map(|id| (*id, judge_one(step, *id))).collect();
    let mut stays: Vec<JobId> = verdicts.keys().copied().collect();
    while let Some(id) = stays.pop() {
        if verdicts.get(&id).is_none_or(Result::is_err) {
            continue;
        }
        let needed = |by: &JobId| !matches!(verdicts.get(by), Some(Ok(_)));
        if let Some(by) = step.state.waits.dependents_of(id).find(needed) {
            verdicts.insert(id, Err(Refusal::InUse { by }));
            // It stays, so those that it waits for stay as well.
            stays.extend(step.state.waits.of(id).iter().map(|dep| dep.on));
        }
    }
    verdicts
}

fn judge_one(step: &Step, id: JobId) -> Result<JobBrief, Refusal> {
    let found = step.find(id)?;
    let job = found.job();
    if job.status() == Status::Canceling {
        return Err(Refusal::Canceling);
    }
    match job.lease() {
        Some(lease) => Err(Refusal::Claimed { owner: lease.holder.worker.clone() }),
        None => Ok(brief(job, true)),
    }
}

/// The job and everything that names it.
pub fn remove(step: &mut Step, id: JobId) {
    match step.state.live.remove(&id) {
        Some(job) => remove_live(step, &job),
        None => remove_ended(step, id),
    }
    if let Some((spec, _)) = step.spec(id) {
        for group in &spec.groups {
            step.state.changes.delete(RowKey::Group(group.clone(), id));
        }
        if let Some(digest) = spec.environment {
            step.state.environments.release(&mut step.state.changes, digest);
        }
    }
    let changes = &mut step.state.changes;
    changes.drop_job(id);
    changes.delete(RowKey::Spec(id));
    step.emit(Effect::Removed { job: id });
}

fn remove_live(step: &mut Step, job: &Job) {
    step.state.order.remove(job);
    step.state.waits.forget(job.id);
    step.state.shared.release(job);
    step.state.forget_row(job.id);
}

fn remove_ended(step: &mut Step, id: JobId) {
    let job = step.ended(id).expect("a job that is removed was found");
    let end = job.ended_at.time().expect("a job that has ended says when");
    let state = &mut *step.state;
    if let Some(unique) = &job.more().unique {
        state.changes.delete(RowKey::Unique(unique.clone(), id));
    }
    if job.archived {
        state.history.remove_archived(&mut state.changes, step.rows, end, id);
        state.changes.delete(RowKey::Archived(id));
        state.counters.archived = state.counters.archived.saturating_sub(1);
    } else {
        state.history.remove_ended(&mut state.changes, step.rows, end, id);
        state.changes.delete(RowKey::Ended(id));
    }
    state.counters.ended = state.counters.ended.saturating_sub(1);
}
