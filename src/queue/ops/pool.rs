//! pool: size, activity and queues of the built-in workers; whichever node leads obeys.

use crate::queue::{
    applied::{Answer, Effect},
    command::PoolChange,
    limits,
    ops::impossible,
    refusal::Refusal,
    rows::{Row, RowKey},
    step::Step,
};

pub fn pool(step: &mut Step, change: &PoolChange) -> Answer {
    if let Err(refusal) = check(change) {
        return Answer::Refused(refusal);
    }
    let before = step.state.pool.clone();
    let pool = &mut step.state.pool;
    pool.active = change.active.unwrap_or(pool.active);
    pool.size = change.size.unwrap_or(pool.size);
    if let Some(queues) = &change.queues {
        pool.queues.clone_from(queues);
    }
    if *pool != before {
        step.state.changes.put(RowKey::Pool, Row::Pool(step.state.pool.clone()));
        step.emit(Effect::SettingsChanged);
        impossible::look_again(step);
    }
    Answer::Pool(step.state.pool.clone())
}

fn check(change: &PoolChange) -> Result<(), Refusal> {
    limits::check_range("size", change.size.unwrap_or(0), 0, limits::POOL_SIZE_MAX)?;
    let queues = change.queues.as_deref().unwrap_or_default();
    limits::check_count("queues", queues.len(), limits::CLAIM_MAX as usize)?;
    queues.iter().try_for_each(|queue| limits::check_queue("queues", queue))
}
