//! archive: a job that has ended leaves the default listing; nothing else about it changes (P8).

use crate::queue::{
    applied::{Answer, JobBrief},
    ids::JobId,
    refusal::Refusal,
    rows::{Ended, RowKey},
    step::{Step, brief},
};

pub fn archive(step: &mut Step, ids: &[JobId]) -> Answer {
    super::each(step, ids, None, archive_one)
}

fn archive_one(step: &mut Step, id: JobId) -> Result<JobBrief, Refusal> {
    if let Some(job) = step.live(id) {
        return Err(Refusal::NotFinal { status: job.status() });
    }
    let ended = step.ended_whole(id).ok_or(Refusal::NotFound { id })?;
    if ended.job.archived {
        return Ok(brief(&ended.job, false));
    }
    move_over(step, ended);
    Ok(step.brief(id, true))
}

pub fn move_over(step: &mut Step, mut ended: Ended) {
    let job = &mut ended.job;
    let (id, end) = (job.id, job.ended_at.time().expect("a job that has ended says when"));
    let state = &mut *step.state;
    state.history.remove_ended(&mut state.changes, step.rows, end, id);
    state.history.add_archived(&mut state.changes, step.rows, end, id);
    state.changes.delete(RowKey::Ended(id));
    job.archived = true;
    (job.version, job.changed_at) = (step.index, step.clocks.wall);
    step.state.changes.put(RowKey::Archived(id), ended.into());
    step.state.counters.archived += 1;
}
