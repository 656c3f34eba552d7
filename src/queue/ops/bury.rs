//! bury: a job is put aside until somebody kicks it; by its holder, or by an operator while nobody holds it.

use crate::queue::{
    applied::{Answer, JobBrief},
    attempt::{self, append_reason},
    command::Report,
    ids::JobId,
    job::{Hold, LeaseEnd, OpStatus, Status},
    ops::release::is_canceling,
    refusal::Refusal,
    step::{Found, Step},
};

pub fn bury(step: &mut Step, ids: &[JobId], reason: Option<&str>) -> Answer {
    super::each(step, ids, reason, |step, id| bury_one(step, id, reason))
}

fn bury_one(step: &mut Step, id: JobId, reason: Option<&str>) -> Result<JobBrief, Refusal> {
    let job = match step.find(id)? {
        Found::Live(job) => job,
        Found::Ended(job) => return Err(Refusal::Finished { status: job.status() }),
    };
    if let Some(lease) = job.lease() {
        return Err(Refusal::Claimed { owner: lease.holder.worker.clone() });
    }
    if job.status() == Status::Buried {
        return Ok(step.brief(id, false));
    }
    let who = step.principal.clone();
    step.change(id, |job, writer| {
        reason.inspect(|text| append_reason(job, writer, &who, text));
        job.hold = Hold::Buried;
    });
    Ok(step.brief(id, true))
}

/// By the holder.
pub fn bury_held(step: &mut Step, id: JobId, reason: Option<&str>) {
    let who = step.principal.clone();
    step.change(id, |job, writer| {
        reason.inspect(|text| append_reason(job, writer, &who, text));
        if !matches!(job.current_op().status, OpStatus::Reserved(_)) {
            attempt::record(job, writer, Some("buried"), &Report::default());
        }
        let canceling = is_canceling(job);
        let lease = job.end_lease(LeaseEnd::Buried, writer.clocks.wall);
        if canceling || lease.cancel_after {
            job.cancel_rest(writer.clocks.wall);
        } else {
            job.hold = Hold::Buried;
        }
    });
}
