//! Calls under a lease: start, touch, finish, release, bury (design 2.2).
//!
//! Every call names its lease, and only the op's current one changes anything (P3). The last lease of an op and how it
//! ended are kept, so that an identical repeat is answered ok, also after the job has ended.

use crate::queue::{
    applied::{Answer, LeaseState},
    command::{Claim, LeaseAction, LeaseItem},
    ids::LeaseId,
    job::{CancelSignal, Job, LeaseEnd, OpStatus},
    limits,
    ops::{bury, claim, failure, release, success, touch},
    refusal::Refusal,
    step::Step,
};

pub fn leases(step: &mut Step, items: &[LeaseItem], wanted: Option<&Claim>) -> Answer {
    if let Err(refusal) = limits::check_count("items", items.len(), limits::JOBS_PER_REQUEST_MAX) {
        return Answer::Refused(refusal);
    }
    let results = items.iter().map(|item| call(step, item)).collect();
    let claimed = wanted.map_or(Ok(Vec::new()), |wanted| claim::take(step, wanted));
    Answer::Leases { results, claimed: claimed.unwrap_or_else(|refusal| vec![Err(refusal)]) }
}

fn call(step: &mut Step, item: &LeaseItem) -> Result<LeaseState, Refusal> {
    let standing = standing(step.find(item.job)?.job(), item.lease, &item.action)?;
    item.action.check()?;
    match standing {
        Standing::Repeat => Ok(LeaseState { cancel: None, lease_ms: 0 }),
        Standing::Holder(state) => act(step, item).map(|()| state),
    }
}

fn act(step: &mut Step, item: &LeaseItem) -> Result<(), Refusal> {
    let id = item.job;
    match &item.action {
        LeaseAction::Start { host, pid } => touch::start(step, id, host.as_deref(), *pid),
        LeaseAction::Touch { .. } => touch::touch(step, id, &item.action),
        LeaseAction::Success { result, jobs, atomic_children, report } => {
            let done = success::Success { result, jobs, atomic: *atomic_children, report };
            return success::success(step, id, &done);
        }
        LeaseAction::Failure { fail_reason, retryable, delay_ms, report } => {
            let failed = failure::Failure { reason: fail_reason, retryable: *retryable, delay_ms: *delay_ms, report };
            failure::failure(step, id, &failed);
        }
        LeaseAction::Release { delay_ms, reason } => release::release(step, id, *delay_ms, reason.as_deref()),
        LeaseAction::Bury { reason } => bury::bury_held(step, id, reason.as_deref()),
    }
    Ok(())
}

enum Standing {
    Holder(LeaseState),
    /// The call that ended this lease, again.
    Repeat,
}

fn standing(job: &Job, lease: LeaseId, action: &LeaseAction) -> Result<Standing, Refusal> {
    let status = job.status();
    if let Some(held) = job.lease().filter(|held| held.id == lease) {
        return Ok(Standing::Holder(LeaseState { cancel: signal(job), lease_ms: held.length_ms }));
    }
    if job.last_of(lease).is_some_and(|last| Some(last.ended_by) == ended_by(action)) {
        return Ok(Standing::Repeat);
    }
    match job.lease() {
        Some(held) => Err(Refusal::StaleLease { status, owner: Some(held.holder.worker.clone()) }),
        None => Err(Refusal::NotClaimed { status }),
    }
}

fn signal(job: &Job) -> Option<CancelSignal> {
    match &job.current_op().status {
        OpStatus::Canceling(_, signal) => Some(*signal),
        OpStatus::Queued
        | OpStatus::Reserved(_)
        | OpStatus::Running(_)
        | OpStatus::Success
        | OpStatus::Error
        | OpStatus::Canceled => None,
    }
}

/// How a lease ends by this call.
fn ended_by(action: &LeaseAction) -> Option<LeaseEnd> {
    match action {
        LeaseAction::Start { .. } | LeaseAction::Touch { .. } => None,
        LeaseAction::Success { .. } => Some(LeaseEnd::FinishedSuccess),
        LeaseAction::Failure { .. } => Some(LeaseEnd::FinishedFailure),
        LeaseAction::Release { .. } => Some(LeaseEnd::Released),
        LeaseAction::Bury { .. } => Some(LeaseEnd::Buried),
    }
}
