//! pause: no claims from a queue, or from all; what runs goes on.

use std::sync::Arc;

use crate::queue::{
    applied::{Answer, Effect},
    limits,
    refusal::Refusal,
    rows::{Row, RowKey},
    state::State,
    step::Step,
};

/// The name under which a pause of all queues is kept; no queue has it.
const ALL: &str = "";

pub fn pause(step: &mut Step, queue: Option<&Arc<str>>, paused: bool) -> Answer {
    if let Err(refusal) = check(step, queue, paused) {
        return Answer::Refused(refusal);
    }
    let name = queue.cloned().unwrap_or_else(|| ALL.into());
    let changed = if paused { step.state.paused.insert(name.clone()) } else { step.state.paused.remove(&name) };
    if !changed {
        return Answer::Done;
    }
    let key = RowKey::Paused(name.clone());
    if paused {
        step.state.changes.put(key, Row::Mark);
    } else {
        step.state.changes.delete(key);
        if queue.is_some() { step.wake(&name) } else { step.wake_all() }
    }
    step.emit(Effect::SettingsChanged);
    Answer::Done
}

fn check(step: &Step, queue: Option<&Arc<str>>, paused: bool) -> Result<(), Refusal> {
    queue.map_or(Ok(()), |queue| limits::check_queue("queue", queue))?;
    if paused && queue.is_some_and(|queue| !step.state.paused.contains(queue)) {
        limits::check_count("queue", step.state.paused.len() + 1, limits::QUEUES_MAX)?;
    }
    Ok(())
}

impl State {
    /// Whether claims from this queue are paused, by its name or with all others.
    pub fn is_paused(&self, queue: &str) -> bool {
        !self.paused.is_empty() && (self.paused.contains(ALL) || self.paused.contains(queue))
    }
}
