//! archive: a job that has ended leaves the default listing; nothing else about it changes (P8).

use crate::queue::{
    applied::{Answer, JobBrief},
    ids::JobId,
    job::Job,
    refusal::Refusal,
    rows::{Row, RowKey},
    step::{Found, Step, brief},
};

pub fn archive(step: &mut Step, ids: &[JobId]) -> Answer {
    super::each(step, ids, None, archive_one)
}

fn archive_one(step: &mut Step, id: JobId) -> Result<JobBrief, Refusal> {
    let job = match step.find(id)? {
        Found::Live(job) => return Err(Refusal::NotFinal { status: job.status() }),
        Found::Ended(job) if job.archived => return Ok(brief(&job, false)),
        Found::Ended(job) => job,
    };
    move_over(step, job);
    Ok(step.brief(id, true))
}

pub fn move_over(step: &mut Step, mut job: Box<Job>) {
    let (id, end) = (job.id, job.ended_at.time().expect("a job that has ended says when"));
    let state = &mut *step.state;
    state.history.remove_ended(&mut state.changes, end, id);
    state.history.add_archived(&mut state.changes, end, id);
    state.changes.delete(RowKey::Ended(id));
    job.archived = true;
    (job.version, job.changed_at) = (step.index, step.clocks.wall);
    step.state.changes.put(RowKey::Archived(id), Row::Job(job));
    step.state.counters.archived += 1;
}
