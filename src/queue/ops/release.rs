//! release: the lease goes back, no retry is used.

use crate::queue::{
    attempt,
    command::Report,
    ids::JobId,
    job::{Job, LeaseEnd, OpStatus},
    step::{Step, Writer},
};

/// How a lease ends without an outcome.
pub struct Ending<'a> {
    pub ended_by: LeaseEnd,
    pub delay_ms: u64,
    pub reason: &'a str,
    pub report: &'a Report,
}

pub fn release(step: &mut Step, id: JobId, delay_ms: u64, reason: Option<&str>) {
    let (reason, report) = (reason.unwrap_or("released"), &Report::default());
    let ending = Ending { ended_by: LeaseEnd::Released, delay_ms, reason, report };
    step.change(id, |job, writer| give_back(job, writer, &ending));
}

/// Queued again, or delayed. A started op that must not run twice is lost instead.
pub fn give_back(job: &mut Job, writer: &mut Writer, ending: &Ending) {
    let started = !matches!(job.current_op().status, OpStatus::Reserved(_));
    let lost = started && !job.policy.rerun_on_loss;
    if started {
        let reason = if lost { "lost_contact" } else { ending.reason };
        attempt::record(job, writer, Some(reason), ending.report);
    }
    let canceling = is_canceling(job);
    let lease = job.end_lease(ending.ended_by, writer.clocks.wall);
    if canceling || lease.cancel_after {
        job.cancel_rest(writer.clocks.wall);
    } else if lost {
        attempt::lose(job, writer);
    } else {
        attempt::delay(job, writer.clocks.cluster, ending.delay_ms);
    }
}

pub fn is_canceling(job: &Job) -> bool {
    matches!(job.current_op().status, OpStatus::Canceling(..))
}
