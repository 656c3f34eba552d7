//! What a spec makes of a job: everything of it follows from the spec and the moment at which it came.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{
    command::Clocks,
    ids::{Index, JobId, Stamp},
    job::{Hold, Job, More, Op, Shape, Spec, When},
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
        let wall = self.clocks.wall;
        let ops = spec.ops.iter().map(|op| {
            let priority = op.priority.or(spec.priority).unwrap_or_default();
            Op::new(op.kind.clone(), priority)
        });
        Job {
            id,
            shape: Arc::new(shape(spec)),
            policy: Arc::new(spec.policy.clone()),
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

pub fn shape(spec: &Spec) -> Shape {
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
