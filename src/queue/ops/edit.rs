//! edit: another spec for a job that nobody holds (wrong directory, needs, queue, retries, ...).

use std::sync::Arc;

use crate::queue::{
    applied::{Answer, JobBrief},
    attempt,
    birth::Birth,
    command::Edit,
    ids::{Index, JobId},
    job::{Job, OpStatus, Shape, Spec, Status},
    ops::{environment, kinds, submit},
    refusal::Refusal,
    rows::{Row, RowKey},
    step::{Found, Step},
};

pub fn edit(step: &mut Step, id: JobId, edit: &Edit) -> Answer {
    Answer::Jobs(vec![edit_one(step, id, edit)])
}

/// For whoever read the job before and changes what he read.
pub fn check_version(step: &Step, id: JobId, version: Index) -> Result<(), Refusal> {
    let now = step.find(id)?.job().version;
    if now == version {
        return Ok(());
    }
    let message = format!("job {id} has changed since version {version}: it is at {now}; read it again");
    Err(Refusal::Conflict { message: message.into() })
}

fn edit_one(step: &mut Step, id: JobId, edit: &Edit) -> Result<JobBrief, Refusal> {
    let job = match step.find(id)? {
        Found::Live(job) => job,
        Found::Ended(job) => return Err(Refusal::Finished { status: job.status() }),
    };
    if job.status() == Status::Canceling {
        return Err(Refusal::Canceling);
    }
    if let Some(lease) = job.lease() {
        return Err(Refusal::Claimed { owner: lease.holder.worker.clone() });
    }
    let Some(spec) = &edit.spec else { return Ok(step.brief(id, false)) };
    let (old, birth) = step.spec(id).expect("a live job has a spec");
    check(step, job, &old, spec)?;
    replace(step, id, (&old, birth), spec);
    Ok(step.brief(id, true))
}

fn check(step: &Step, job: &Job, old: &Spec, new: &Spec) -> Result<(), Refusal> {
    new.check()?;
    environment::check(step, new)?;
    if !attempt::has_room_for_spec(job, new.bytes()) {
        return Err(attempt::too_large());
    }
    if new.ops.len() != old.ops.len() {
        return Err(Refusal::invalid("ops", "an edit changes ops, their number stays"));
    }
    for (at, (op, (old, new))) in job.ops.iter().zip(old.ops.iter().zip(&new.ops)).enumerate() {
        if op.status != OpStatus::Queued && old != new {
            return Err(Refusal::invalid(format!("ops[{at}]"), "this op has ended already"));
        }
        if old.depends != new.depends {
            return Err(Refusal::invalid(format!("ops[{at}].depends"), "cannot be edited; submit a new job"));
        }
    }
    let taken = new.unique.as_ref().and_then(|unique| step.state.order.unique(unique));
    match taken.filter(|holder| *holder != job.id) {
        Some(holder) => {
            let message = format!("unique: job {holder} has this key");
            Err(Refusal::Conflict { message: message.into() })
        }
        None => submit::check_room_for(step, new),
    }
}

fn replace(step: &mut Step, id: JobId, (old, birth): (&Spec, Birth), new: &Arc<Spec>) {
    for group in old.groups.difference(&new.groups) {
        step.state.changes.delete(RowKey::Group(group.clone(), id));
    }
    for group in new.groups.difference(&old.groups) {
        step.state.changes.put(RowKey::Group(group.clone(), id), Row::Mark);
    }
    let mut spec = new.clone();
    let stored = Arc::make_mut(&mut spec);
    (stored.submitted_by, stored.parent) = (old.submitted_by.clone(), old.parent);
    let changes = &mut step.state.changes;
    spec.environment.inspect(|digest| step.state.environments.take(changes, *digest));
    old.environment.inspect(|digest| step.state.environments.release(changes, *digest));
    kinds::create(step, &spec);
    let (before, draft) = (birth.of(id, old), birth.of(id, &spec));
    step.state.changes.put(RowKey::Spec(id), Row::Born(spec, birth));
    step.reshape(id, |job, writer| {
        let written = before.ops.into_iter().zip(draft.ops);
        for (op, (old, new)) in job.ops.iter_mut().zip(written).filter(|(op, _)| op.status == OpStatus::Queued) {
            op.kind = new.kind;
            // What the priority verb has set since stands, unless the edit is of the priority.
            if new.priority != old.priority {
                op.priority = new.priority;
            }
        }
        let (ram_floor_mb, time_floor_s) = (job.shape.ram_floor_mb, job.shape.time_floor_s);
        job.shape = Arc::new(Shape { ram_floor_mb, time_floor_s, ..Arc::unwrap_or_clone(draft.shape) });
        job.policy = draft.policy;
        attempt::count_spec(job, writer, draft.spec_bytes as usize);
        let unique = draft.more.and_then(|more| more.unique);
        if unique != job.more().unique {
            job.more_mut().unique = unique;
        }
    });
}
