//! cancel: what waits is canceled at once, what runs is asked to stop (design 2.2).

use crate::queue::{
    applied::{Answer, Effect, JobBrief},
    attempt::append_reason,
    command::CancelHow,
    ids::JobId,
    job::{CancelSignal, LeaseEnd, OpStatus, Status},
    refusal::Refusal,
    step::{Found, Step},
};

pub fn cancel(step: &mut Step, ids: &[JobId], how: CancelHow, reason: Option<&str>) -> Answer {
    super::each(step, ids, reason, |step, id| cancel_one(step, id, how, reason))
}

fn cancel_one(step: &mut Step, id: JobId, how: CancelHow, reason: Option<&str>) -> Result<JobBrief, Refusal> {
    let status = match step.find(id)? {
        Found::Live(job) => job.status(),
        Found::Ended(job) => return Err(Refusal::Finished { status: job.status() }),
    };
    let changed = match status {
        Status::Queued | Status::Delayed | Status::Blocked | Status::Buried => {
            cancel_waiting(step, id, reason);
            true
        }
        Status::Reserved => {
            cancel_reserved(step, id, reason);
            true
        }
        Status::Running => cancel_running(step, id, how, reason)?,
        Status::Canceling => escalate(step, id, how),
        Status::Success | Status::Error | Status::Canceled => panic!("job {id} is final and not live"),
    };
    Ok(step.brief(id, changed))
}

fn cancel_waiting(step: &mut Step, id: JobId, reason: Option<&str>) {
    let who = step.principal.clone();
    step.change(id, |job, writer| {
        reason.inspect(|text| append_reason(job, writer, &who, text));
        job.cancel_rest(writer.clocks.wall);
    });
}

fn cancel_reserved(step: &mut Step, id: JobId, reason: Option<&str>) {
    let who = step.principal.clone();
    let lease = step.change(id, |job, writer| {
        reason.inspect(|text| append_reason(job, writer, &who, text));
        let lease = job.end_lease(LeaseEnd::Canceled, writer.clocks.wall);
        job.cancel_rest(writer.clocks.wall);
        lease.id
    });
    step.emit(Effect::LeaseEnded { job: id, lease });
}

fn cancel_running(step: &mut Step, id: JobId, how: CancelHow, reason: Option<&str>) -> Result<bool, Refusal> {
    match how {
        CancelHow::Waiting => Err(Refusal::NotCancelable { status: Status::Running }),
        CancelHow::Kill => {
            ask_to_stop(step, id, CancelSignal::Term, reason);
            Ok(true)
        }
        CancelHow::AfterOp => Ok(cancel_after(step, id, reason)),
    }
}

fn ask_to_stop(step: &mut Step, id: JobId, signal: CancelSignal, reason: Option<&str>) {
    let who = step.principal.clone();
    let lease = step.change(id, |job, writer| {
        reason.inspect(|text| append_reason(job, writer, &who, text));
        job.ask_to_stop(signal);
        job.lease().expect("a running op is held").id
    });
    step.emit(Effect::Stop { job: id, lease, signal });
}

fn cancel_after(step: &mut Step, id: JobId, reason: Option<&str>) -> bool {
    let asked = step.live(id).and_then(|job| job.lease()).is_some_and(|lease| lease.cancel_after);
    if asked {
        return false;
    }
    let who = step.principal.clone();
    step.change(id, |job, writer| {
        reason.inspect(|text| append_reason(job, writer, &who, text));
        job.current_op_mut().status.lease_mut().expect("a running op is held").cancel_after = true;
    });
    true
}

/// Canceling already: only a second kill says anything new, and a third does not.
fn escalate(step: &mut Step, id: JobId, how: CancelHow) -> bool {
    let asked = &step.live(id).expect("its status was looked at").current_op().status;
    let harder = how == CancelHow::Kill && matches!(asked, OpStatus::Canceling(_, CancelSignal::Term));
    if harder {
        ask_to_stop(step, id, CancelSignal::Kill, None);
    }
    harder
}
