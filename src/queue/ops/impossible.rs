//! By policy: a job that no known worker can ever hold is buried, with that reason.
//!
//! Looked at when it becomes ready, and again when a worker comes, leaves or has less to give, when needs have risen, and when
//! the policy or the pool changes. Then the ready shapes are compared with what is offered, never the jobs, by the next tick and
//! in bounded pieces. A worker that comes back brings no buried job back: that is for a kick.

use crate::queue::{
    attempt,
    ids::JobId,
    job::{Hold, KIND_EXEC, KIND_SLEEP, Shape},
    ops::worker::Offer,
    order::ShapeKey,
    rows::{Row, RowKey, Rows},
    state::State,
    step::Step,
};

/// A job has become ready.
pub fn bury(step: &mut Step, id: JobId) {
    if !step.state.settings.bury_impossible {
        return;
    }
    let job = step.live(id).expect("a job that became ready is live");
    if is_impossible(step.state, &job.current_op().kind, &job.shape) {
        put_aside(step, id);
    }
}

/// What was possible may no longer be: the next tick looks at all that is ready.
pub fn look_again(step: &mut Step) {
    if step.state.settings.bury_impossible && !step.state.looks_again {
        step.state.looks_again = true;
        step.state.changes.put(RowKey::LookAgain, Row::Mark);
    }
}

pub fn load(rows: &dyn Rows) -> bool {
    rows.get(&RowKey::LookAgain).is_some()
}

/// Buries at most `piece` of those that no worker can hold; says how many.
pub fn bury_ready(step: &mut Step, piece: usize) -> usize {
    if !step.state.looks_again || piece == 0 {
        return 0;
    }
    let found = if step.state.settings.bury_impossible { impossible(step.state, piece) } else { Vec::new() };
    found.iter().for_each(|id| put_aside(step, *id));
    if found.len() < piece {
        step.state.looks_again = false;
        step.state.changes.delete(RowKey::LookAgain);
    }
    found.len()
}

fn put_aside(step: &mut Step, id: JobId) {
    step.change(id, |job, writer| {
        let current = job.current();
        attempt::record_unrun(job, writer, current, "resources_impossible", None);
        job.hold = Hold::Buried;
    });
}

/// The first `max` ready jobs of shapes that no worker can hold.
fn impossible(state: &State, max: usize) -> Vec<JobId> {
    let ready = state.order.queues().flat_map(|(_, lane)| lane.ready());
    let lost = ready.filter(|((kind, shape), _): &(&ShapeKey, _)| is_impossible(state, kind, shape));
    lost.flat_map(|(_, jobs)| jobs.iter()).map(|(_, id)| id).take(max).collect()
}

/// Whoever does not say what it has might hold anything, and where nobody is known nothing is known.
fn is_impossible(state: &State, kind: &str, shape: &Shape) -> bool {
    let is_for_pool = is_for_pool(state, kind, shape) && state.pool.size > 0;
    let needs = state.needs(shape);
    let mut offers = offers(state, is_for_pool).peekable();
    let pool_is_silent = is_for_pool && !state.workers.offers().any(|offer| offer.is_pool);
    let is_too_small = |offer: &Offer| offer.resources.is_some_and(|resources| !resources.fits(&needs));
    !pool_is_silent && offers.peek().is_some() && offers.all(is_too_small)
}

/// Whether the built-in pool takes such jobs, if it is active.
pub fn is_for_pool(state: &State, kind: &str, shape: &Shape) -> bool {
    matches!(kind, KIND_EXEC | KIND_SLEEP) && state.pool.queues.contains(&shape.queue)
}

/// What is offered to a job, `with_pools` or without.
pub fn offers(state: &State, with_pools: bool) -> impl Iterator<Item = &Offer> {
    state.workers.offers().filter(move |offer| with_pools || !offer.is_pool)
}
