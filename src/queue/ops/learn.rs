//! What a run teaches its resource group, how that is forgotten, and what a failure for want of memory or time changes for the
//! job itself.

use std::sync::Arc;

use crate::queue::{
    applied::Answer,
    command::Report,
    ids::JobId,
    job::{Job, Needs},
    limits, needs,
    ops::{failure::Failure, impossible},
    refusal::Refusal,
    rows::{Row, RowKey},
    step::Step,
};

/// Adds a run to what the job's group knows.
pub fn learn(step: &mut Step, id: JobId, report: &Report) {
    let job = step.live(id).expect("its lease was found");
    let Some(group) = job.shape.resource_group.clone() else { return };
    if report.peak_ram_mb.is_none() && report.wall_ms.is_none() {
        return;
    }
    let state = &mut *step.state;
    // It was forgotten while the job waited, and others came in its place.
    if state.learned.len() >= limits::RESOURCE_GROUPS_MAX && !state.learned.contains_key(&group) {
        return;
    }
    let learned = state.learned.entry(group.clone()).or_default();
    let before = (learned.ram_mb(), learned.time_s());
    learned.add(report);
    let has_changed = before != (learned.ram_mb(), learned.time_s());
    state.changes.put(RowKey::Learned(group.clone()), Row::Learned(Box::new(learned.clone())));
    if has_changed {
        step.wake_group(&group);
        impossible::look_again(step);
    }
}

/// Nothing is known of the group any more, and its name makes room for another. Jobs that say it still need what they ask for
/// themselves, and it is there again with the next job or run of it.
pub fn forget(step: &mut Step, group: &Arc<str>) -> Answer {
    if step.state.learned.remove(group).is_none() {
        return Answer::Refused(Refusal::NoResourceGroup { name: (&**group).into() });
    }
    step.state.changes.delete(RowKey::Learned(group.clone()));
    step.wake_all();
    impossible::look_again(step);
    Answer::Done
}

/// After `ram` or `time` the job asks for more.
pub fn raise(job: &mut Job, asked: Needs, failed: &Failure) {
    let shape = Arc::make_mut(&mut job.shape);
    if failed.reason == "ram" {
        let peak_mb = failed.report.peak_ram_mb.unwrap_or(asked.ram_mb);
        shape.ram_floor_mb = needs::raised_ram_mb(asked.ram_mb, peak_mb);
    } else {
        shape.time_floor_s = needs::raised_time_s(asked.time_s);
    }
}
