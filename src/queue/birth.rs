//! What a spec makes of a job: everything of it follows from the spec and the moment at which it came.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{
    command::Clocks,
    ids::{Index, JobId, Stamp},
    intern::Interner,
    job::{Hold, Job, More, Needs, Op, Policy, Shape, Spec, When},
};

/// The entry that a job came with. It stands beside its spec.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Birth {
    pub index: Index,
    pub clocks: Clocks,
}

impl Birth {
    /// The job as it is before anything happens to it. What it waits for stands elsewhere.
    ///
    /// Stored jobs are read by this. Where it comes to give something else it must go on giving the same for those that are stored,
    /// or members of two versions would differ.
    pub fn of(self, id: JobId, spec: &Spec) -> Job {
        self.alike(id, spec, &Alike::of(spec))
    }

    /// The same, with what it shares with others made already.
    pub fn alike(self, id: JobId, spec: &Spec, alike: &Alike) -> Job {
        let wall = self.clocks.wall;
        let ops = spec.ops.iter().map(|op| {
            let priority = op.priority.or(spec.priority).unwrap_or_default();
            Op::new(op.kind.clone(), priority)
        });
        Job {
            id,
            shape: Arc::clone(&alike.shape),
            policy: Arc::clone(&alike.policy),
            hold: self.hold(spec.when),
            ops: ops.collect(),
            received_at: wall,
            started_at: Stamp::NONE,
            ended_at: Stamp::NONE,
            changed_at: wall,
            version: self.index,
            more: more(spec),
            spec_bytes: u32::try_from(spec.bytes()).expect("a spec's size was checked"),
            archived: false,
        }
    }

    fn hold(self, when: When) -> Hold {
        let Clocks { cluster, wall } = self.clocks;
        match when {
            When::Delay(delay_ms) if delay_ms > 0 => Hold::Delayed(cluster.after(delay_ms)),
            When::RunAt(at) if at > wall => Hold::RunAt(at),
            When::Now | When::Delay(_) | When::RunAt(_) => Hold::None,
        }
    }
}

fn more(spec: &Spec) -> Option<Box<More>> {
    let unique = spec.unique.clone()?;
    Some(Box::new(More { unique: Some(unique), ..More::default() }))
}

/// What of a spec many jobs say alike, and what it makes of them.
#[derive(Clone, Debug)]
pub struct Alike {
    limits: Vec<(Arc<str>, Option<u32>)>,
    needs: Option<Needs>,
    pub shape: Arc<Shape>,
    pub policy: Arc<Policy>,
}

impl Alike {
    pub fn of(spec: &Spec) -> Self {
        let (shape, policy) = (Arc::new(shape(spec)), Arc::new(spec.policy.clone()));
        Self { limits: spec.limits.clone(), needs: spec.needs, shape, policy }
    }

    /// The same, with the copies that live jobs have.
    pub fn shared(self, shapes: &Interner<Shape>, policies: &Interner<Policy>) -> Self {
        let shape = shapes.find(&self.shape).unwrap_or(&self.shape).clone();
        let policy = policies.find(&self.policy).unwrap_or(&self.policy).clone();
        Self { shape, policy, ..self }
    }

    /// Whether this spec says just that.
    pub fn is_of(&self, spec: &Spec) -> bool {
        self.shape.queue == spec.queue
            && self.limits == spec.limits
            && self.needs == spec.needs
            && *self.policy == spec.policy
    }
}

fn shape(spec: &Spec) -> Shape {
    Shape {
        queue: spec.queue.clone(),
        limits: spec.limits.iter().map(|(name, _)| name.clone()).collect(),
        needs: spec.needs.unwrap_or_default(),
        needs_override: spec.policy.needs_override,
        resource_group: spec.policy.resource_group.clone(),
        ram_floor_mb: 0,
        time_floor_s: 0,
    }
}
