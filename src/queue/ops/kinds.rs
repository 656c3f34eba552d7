//! What a submission brings that was not there: queues, shapes, limit groups, resource groups. Each costs memory and stands
//! in listings whole, so each has a limit, and one too many is refused by name.

use std::{collections::BTreeSet, sync::Arc};

use crate::queue::{
    job::{Shape, Spec},
    limits,
    needs::Learned,
    refusal::Refusal,
    rows::{Row, RowKey},
    state::State,
    step::Step,
};

/// What the members of a batch bring together.
#[derive(Default)]
pub struct Kinds {
    queues: BTreeSet<Arc<str>>,
    shapes: BTreeSet<Arc<Shape>>,
    limits: BTreeSet<Arc<str>>,
    resource_groups: BTreeSet<Arc<str>>,
}

impl Kinds {
    /// Adds what one more member brings, or says what there are too many of already.
    pub fn add(&mut self, state: &State, spec: &Spec, shape: &Arc<Shape>) -> Result<(), Refusal> {
        let brought = Self::brought(state, spec, shape);
        if brought.is_empty() {
            return Ok(());
        }
        let (known, max) = (state.order.queues().len(), limits::QUEUES_MAX);
        Room { known, max, advice: "queues already; use those, or wait until one is empty" }
            .check(&self.queues, &brought.queues)?;
        let (known, max) = (state.shared.shapes.count(), limits::SHAPES_MAX);
        Room { known, max, advice: "kinds of needs and limits already; use those, or wait until one is unused" }
            .check(&self.shapes, &brought.shapes)?;
        let (known, max) = (state.limits.len(), limits::LIMIT_GROUPS_MAX);
        Room { known, max, advice: "limit groups already; remove one" }.check(&self.limits, &brought.limits)?;
        let (known, max) = (state.learned.len(), limits::RESOURCE_GROUPS_MAX);
        Room { known, max, advice: "resource groups already; use one of those, or forget one" }
            .check(&self.resource_groups, &brought.resource_groups)?;
        self.extend(brought);
        Ok(())
    }

    fn brought(state: &State, spec: &Spec, shape: &Arc<Shape>) -> Self {
        let mut brought = Self::default();
        if state.order.lane(&spec.queue).is_none() {
            brought.queues.insert(spec.queue.clone());
        }
        let ceilings = spec.limits.iter().filter(|(name, max)| max.is_some() && !state.limits.contains_key(name));
        brought.limits.extend(ceilings.map(|(name, _)| name.clone()));
        let group = shape.resource_group.iter().filter(|group| !state.learned.contains_key(*group));
        brought.resource_groups.extend(group.cloned());
        if !state.shared.shapes.contains(shape) {
            brought.shapes.insert(Arc::clone(shape));
        }
        brought
    }

    fn is_empty(&self) -> bool {
        let Self { queues, shapes, limits, resource_groups } = self;
        queues.is_empty() && shapes.is_empty() && limits.is_empty() && resource_groups.is_empty()
    }

    fn extend(&mut self, brought: Self) {
        self.queues.extend(brought.queues);
        self.shapes.extend(brought.shapes);
        self.limits.extend(brought.limits);
        self.resource_groups.extend(brought.resource_groups);
    }
}

/// How many of a kind there are, and may be.
struct Room {
    known: usize,
    max: usize,
    advice: &'static str,
}

impl Room {
    /// Whether `more` fit beside what the batch has brought so far.
    fn check<T: Ord>(&self, so_far: &BTreeSet<T>, more: &BTreeSet<T>) -> Result<(), Refusal> {
        let new = more.difference(so_far).count();
        if new == 0 || self.known + so_far.len() + new <= self.max {
            return Ok(());
        }
        let message = format!("there are {} {}", self.max, self.advice);
        Err(Refusal::Busy { message: message.into() })
    }
}

/// Limit groups (`"etl:5"`) and resource groups are there from the first job that names them, so that none is found to be
/// one too many when there is something to count or to learn.
pub fn create(step: &mut Step, spec: &Spec) {
    for (limit, max) in &spec.limits {
        if let Some(max) = max {
            step.state.create_limit(limit, *max);
        }
    }
    if let Some(group) = spec.policy.resource_group.as_ref().filter(|group| !step.state.learned.contains_key(*group)) {
        step.state.learned.insert(group.clone(), Learned::default());
        step.state.changes.put(RowKey::Learned(group.clone()), Row::Learned(Box::default()));
    }
}
