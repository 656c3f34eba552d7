//! environment: a submitter's environment, stored once however many jobs name it.

use std::collections::{BTreeMap, BTreeSet};

use crate::queue::{
    applied::Answer,
    job::{Json, Spec},
    limits,
    refusal::Refusal,
    rows::{Changes, Row, RowKey, Rows},
    step::Step,
};

/// How many jobs, live or ended, name each environment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Environments {
    uses: BTreeMap<u128, u64>,
    /// Those that nobody names go first when room is needed.
    unused: BTreeSet<u128>,
}

impl Environments {
    pub fn load(rows: &dyn Rows) -> Self {
        let mut environments = Environments::default();
        rows.scan(&RowKey::EnvironmentUses(0), &mut |key, row| {
            let (RowKey::EnvironmentUses(digest), Row::Count(uses)) = (key, row) else {
                panic!("an environment's row counts its uses")
            };
            environments.set(digest, uses);
            true
        });
        environments
    }

    fn set(&mut self, digest: u128, uses: u64) {
        self.uses.insert(digest, uses);
        if uses == 0 {
            self.unused.insert(digest);
        } else {
            self.unused.remove(&digest);
        }
    }

    pub fn knows(&self, digest: u128) -> bool {
        self.uses.contains_key(&digest)
    }

    /// A job names this environment.
    pub fn take(&mut self, changes: &mut Changes, digest: u128) {
        let uses = self.uses.get(&digest).copied().expect("a job names an environment that is known") + 1;
        self.set(digest, uses);
        changes.put(RowKey::EnvironmentUses(digest), Row::Count(uses));
    }

    /// A job that named this environment is gone.
    pub fn release(&mut self, changes: &mut Changes, digest: u128) {
        let uses = self.uses.get(&digest).copied().expect("a job names an environment that is known") - 1;
        self.set(digest, uses);
        changes.put(RowKey::EnvironmentUses(digest), Row::Count(uses));
    }

    fn forget_one(&mut self, changes: &mut Changes) -> bool {
        let Some(digest) = self.unused.pop_first() else { return false };
        self.uses.remove(&digest);
        changes.delete(RowKey::EnvironmentUses(digest));
        changes.delete(RowKey::Environment(digest));
        true
    }
}

/// Keeps an environment, so that jobs submitted afterwards may name its digest.
pub fn environment(step: &mut Step, digest: u128, value: &Json) -> Answer {
    if let Err(refusal) = limits::check_text("environment", Some(&value.0), limits::ENVIRONMENT_BYTES_MAX) {
        return Answer::Refused(refusal);
    }
    let state = &mut *step.state;
    if state.environments.knows(digest) {
        return Answer::Done;
    }
    let full = state.environments.uses.len() >= limits::ENVIRONMENTS_MAX;
    if full && !state.environments.forget_one(&mut state.changes) {
        let message = "too many distinct environments are kept; submit without one, or delete jobs that name them";
        return Answer::Refused(Refusal::Busy { message: message.into() });
    }
    state.environments.set(digest, 0);
    state.changes.put(RowKey::EnvironmentUses(digest), Row::Count(0));
    state.changes.put(RowKey::Environment(digest), Row::Json(value.clone()));
    Answer::Done
}

/// A spec may only name what is kept.
pub fn check(step: &Step, spec: &Spec) -> Result<(), Refusal> {
    match spec.environment {
        Some(digest) if !step.state.environments.knows(digest) => {
            Err(Refusal::invalid("environment", "is not kept any more; send it again"))
        }
        _ => Ok(()),
    }
}
