//! kick: what was put aside or has ended badly runs again, now (design 2.2).

use crate::queue::{
    applied::{Answer, JobBrief},
    ids::{JobId, Stamp},
    job::{Dep, Hold, Job, OpStatus, Status},
    ops::depend,
    refusal::Refusal,
    rows::{Row, RowKey},
    step::{Found, Step, brief},
};

pub fn kick(step: &mut Step, ids: &[JobId]) -> Answer {
    super::each(step, ids, None, kick_one)
}

fn kick_one(step: &mut Step, id: JobId) -> Result<JobBrief, Refusal> {
    let job = match step.find(id)? {
        Found::Live(job) if matches!(job.status(), Status::Buried | Status::Delayed) => {
            step.change(id, |job, _| reset(job));
            return Ok(step.brief(id, true));
        }
        Found::Live(job) => return Ok(brief(job, false)),
        Found::Ended(job) if job.archived || job.status() == Status::Success => return Ok(brief(&job, false)),
        Found::Ended(job) => job,
    };
    check_revival(step, &job)?;
    let deps = deps(step, &job);
    step.revive(job, deps, reset);
    Ok(step.brief(id, true))
}

/// Outcomes that were accepted stand; for the others the jobs are looked at again, and one that is gone is waited for no
/// more: nobody could ever say how it ended.
fn deps(step: &Step, job: &Job) -> Box<[Dep]> {
    let Some(Row::Waits(deps)) = step.read(&RowKey::Waits(job.id)) else { return Box::default() };
    deps.iter().filter_map(|dep| look_again(step, *dep)).collect()
}

fn look_again(step: &Step, dep: Dep) -> Option<Dep> {
    if dep.outcome.is_some_and(|outcome| dep.accepts(outcome)) || step.live(dep.on).is_some() {
        let outcome = dep.outcome.filter(|outcome| dep.accepts(*outcome));
        return Some(Dep { outcome, ..dep });
    }
    let outcome = depend::outcome(step, dep.on)?;
    Some(Dep { outcome: Some(outcome), ..dep })
}

fn check_revival(step: &Step, job: &Job) -> Result<(), Refusal> {
    if let Some(other) = job.more().unique.as_ref().and_then(|unique| step.state.order.unique(unique)) {
        let message = format!("its unique key is now that of job {other}; cancel or wait for that one first");
        return Err(Refusal::Conflict { message: message.into() });
    }
    if step.state.waits.is_waking(job.id) {
        let message = "jobs that wait for it are still being told how it ended; repeat in a moment";
        return Err(Refusal::Busy { message: message.into() });
    }
    let limit = step.state.settings.live_jobs_max;
    if step.state.live.len() as u64 >= limit {
        return Err(Refusal::QueueFull { limit });
    }
    Ok(())
}

/// Successes stay; the first unsuccessful op and those after it run again, with all their retries.
fn reset(job: &mut Job) {
    job.hold = Hold::None;
    job.ended_at = Stamp::NONE;
    for op in job.ops.iter_mut().filter(|op| op.status != OpStatus::Success) {
        op.status = OpStatus::Queued;
        if let Some(runs) = &mut op.runs {
            (runs.retries_used, runs.lost, runs.start_failures) = (0, 0, 0);
        }
    }
}
