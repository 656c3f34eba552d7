//! limit: the ceiling of a limit group. 0 stops it, absent is unlimited.

use std::sync::Arc;

use crate::queue::{
    applied::{Answer, Effect},
    limits,
    refusal::Refusal,
    rows::{Row, RowKey},
    state::State,
    step::Step,
};

pub fn limit(step: &mut Step, name: &Arc<str>, max: Option<u32>) -> Answer {
    if let Err(refusal) = check(step, name, max) {
        return Answer::Refused(refusal);
    }
    let before = match max {
        Some(max) => step.state.limits.insert(name.clone(), max),
        None => step.state.limits.remove(name),
    };
    if before == max {
        return Answer::Done;
    }
    let key = RowKey::Limit(name.clone());
    match max {
        Some(max) => step.state.changes.put(key, Row::Limit(max)),
        None => step.state.changes.delete(key),
    }
    step.wake_limit(name);
    step.emit(Effect::SettingsChanged);
    Answer::Done
}

fn check(step: &Step, name: &str, max: Option<u32>) -> Result<(), Refusal> {
    limits::check_name("name", name)?;
    let new = max.is_some() && !step.state.limits.contains_key(name);
    limits::check_count("name", step.state.limits.len() + usize::from(new), limits::LIMIT_GROUPS_MAX)
}

impl State {
    /// A spec's `"etl:5"`: creates the group if it is absent, and never changes it.
    pub(in crate::queue) fn create_limit(&mut self, name: &Arc<str>, max: u32) {
        if !self.limits.contains_key(name) {
            self.limits.insert(name.clone(), max);
            self.changes.put(RowKey::Limit(name.clone()), Row::Limit(max));
        }
    }
}
