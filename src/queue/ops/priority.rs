//! priority: every queued or reserved op gets it; running and final ones stay as they are.

use crate::queue::{
    applied::{Answer, JobBrief},
    check::check_priority,
    ids::{JobId, Priority},
    job::{Job, Op, OpStatus},
    refusal::Refusal,
    step::{Found, Step, brief},
};

pub fn priority(step: &mut Step, ids: &[JobId], priority: Priority) -> Answer {
    if let Err(refusal) = check_priority("priority", Some(priority)) {
        return Answer::Refused(refusal);
    }
    super::each(step, ids, None, |step, id| set_one(step, id, priority))
}

fn set_one(step: &mut Step, id: JobId, priority: Priority) -> Result<JobBrief, Refusal> {
    match step.find(id)? {
        Found::Live(job) if job.ops.iter().any(|op| moves(op, priority)) => {}
        Found::Live(job) => return Ok(brief(job, false)),
        Found::Ended(job) => return Ok(brief(&job, false)),
    }
    step.change(id, |job: &mut Job, _| {
        for op in job.ops.iter_mut().filter(|op| moves(op, priority)) {
            op.priority = priority;
        }
    });
    Ok(step.brief(id, true))
}

fn moves(op: &Op, priority: Priority) -> bool {
    matches!(op.status, OpStatus::Queued | OpStatus::Reserved(_)) && op.priority != priority
}
