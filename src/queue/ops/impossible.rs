//! By policy: a job that no known worker can ever hold is buried when it becomes ready, with that reason.
//!
//! Looked at when a job becomes ready, and not when a worker leaves: who left may come back.

use crate::queue::{
    attempt,
    ids::JobId,
    job::{Hold, Job},
    rows::Worker,
    state::State,
    step::Step,
};

pub fn bury(step: &mut Step, id: JobId) {
    if !step.state.settings.bury_impossible {
        return;
    }
    let job = step.live(id).expect("a job that became ready is live");
    if !is_impossible(step.state, job) {
        return;
    }
    step.change(id, |job, writer| {
        let current = job.current();
        attempt::record_unrun(job, writer, current, "resources_impossible", None);
        job.hold = Hold::Buried;
    });
}

/// Only where every worker is known with what it has; the pool does not say.
fn is_impossible(state: &State, job: &Job) -> bool {
    let workers = state.workers.known();
    if workers.is_empty() || (state.pool.size > 0 && state.pool.queues.contains(&job.shape.queue)) {
        return false;
    }
    let needs = state.needs(&job.shape);
    let too_small = |worker: &Worker| worker.resources.is_some_and(|free| !free.fits(&needs));
    workers.values().all(too_small)
}
