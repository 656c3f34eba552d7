//! schedule: named submissions that repeat themselves. The leader says when (see [`crate::queue::schedule`]); what a slot
//! brings about is decided here, in the entry that takes it.

use std::sync::Arc;

use crate::queue::{
    applied::{Answer, Effect, ScheduleNews, Submitted},
    command::{Advance, Definition, ScheduleChange, Slot},
    ids::JobId,
    job::{Reason, Spec, Status, When},
    limits,
    ops::{environment, submit},
    refusal::Refusal,
    rows::{Row, RowKey},
    schedule::{Next, Outcome, Overlap, Schedule, Taken, Timing},
    step::Step,
};

/// Who speaks in the reason that such a job carries.
const REASON_SOURCE: &str = "schedule";

pub fn schedule(step: &mut Step, change: &ScheduleChange) -> Answer {
    let changed = match change {
        ScheduleChange::Put { name, definition, if_absent } => put(step, name, definition, *if_absent),
        ScheduleChange::Remove { name } => remove(step, name),
        ScheduleChange::Pause { name, paused } => pause(step, name, *paused),
        ScheduleChange::Advance(to) => advance(step, to),
        ScheduleChange::Run { name } => return run(step, name),
    };
    changed.map_or_else(Answer::Refused, |()| Answer::Done)
}

/// Defines it, in place of the one of this name: what its past was stays, its next slot is planned anew.
fn put(step: &mut Step, name: &Arc<str>, definition: &Definition, if_absent: bool) -> Result<(), Refusal> {
    let old = step.state.schedules.known().get(name).cloned();
    check(step, name, definition)?;
    if if_absent && old.is_some() {
        let message = format!("there is a schedule {name} already; replace it, or take another name");
        return Err(Refusal::Conflict { message: message.into() });
    }
    if old.is_none() && step.state.schedules.known().len() >= limits::SCHEDULES_MAX {
        let message = format!("there are {} schedules already; remove some", limits::SCHEDULES_MAX);
        return Err(Refusal::Busy { message: message.into() });
    }
    keep_spec(step, name, &definition.spec);
    let old = old.unwrap_or_else(|| fresh(step, definition));
    let schedule = Schedule {
        timing: definition.timing.clone(),
        missed: definition.missed,
        overlap: definition.overlap,
        paused: definition.paused.unwrap_or(old.paused),
        defined_at: step.wall(),
        ..old
    };
    keep(step, name, Schedule { version: step.index, next: Next::Unplanned, ..schedule });
    tell(step, name, ScheduleNews::Defined);
    Ok(())
}

fn tell(step: &mut Step, name: &Arc<str>, news: ScheduleNews) {
    step.emit(Effect::Schedule { name: name.clone(), news });
}

fn fresh(step: &Step, definition: &Definition) -> Schedule {
    Schedule {
        timing: definition.timing.clone(),
        missed: definition.missed,
        overlap: definition.overlap,
        paused: false,
        created_by: (&*step.principal).into(),
        created_at: step.wall(),
        defined_at: step.wall(),
        version: step.index,
        next: Next::Unplanned,
        last: None,
        last_job: None,
        submitted: 0,
        skipped: 0,
    }
}

fn check(step: &Step, name: &str, definition: &Definition) -> Result<(), Refusal> {
    limits::check_name("name", name)?;
    match &definition.timing {
        Timing::Cron { expression, time_zone } => {
            limits::check_text("cron", Some(expression), limits::NAME_BYTES_MAX)?;
            limits::check_name("time_zone", time_zone)?;
        }
        Timing::Every { ms } => {
            limits::check_range("every_ms", *ms, limits::SCHEDULE_EVERY_MS_MIN, limits::DELAY_MS_MAX)?;
        }
    }
    check_spec(step, &definition.spec).map_err(|refusal| refusal.within("spec"))
}

fn check_spec(step: &Step, spec: &Spec) -> Result<(), Refusal> {
    spec.check()?;
    if let When::RunAt(_) = spec.when {
        return Err(Refusal::invalid("run_at_ms", "the schedule says when its jobs run; leave this out"));
    }
    if spec.ops.iter().any(|op| !op.depends.is_empty()) {
        return Err(Refusal::invalid("depends", "jobs of a schedule wait for no other jobs; leave this out"));
    }
    if spec.batch_name.is_some() {
        return Err(Refusal::invalid("as", "a job of a schedule is alone in its batch; leave this out"));
    }
    environment::check(step, spec)
}

/// The new one's environment is taken before the old one's is let go: they may be the same.
fn keep_spec(step: &mut Step, name: &Arc<str>, spec: &Arc<Spec>) {
    if let Some(digest) = spec.environment {
        step.state.environments.take(&mut step.state.changes, digest);
    }
    forget_spec(step, name);
    step.state.changes.put(RowKey::ScheduleSpec(name.clone()), Row::Spec(spec.clone()));
}

fn forget_spec(step: &mut Step, name: &Arc<str>) {
    let key = RowKey::ScheduleSpec(name.clone());
    if let Some(Row::Spec(spec)) = step.read(&key) {
        if let Some(digest) = spec.environment {
            step.state.environments.release(&mut step.state.changes, digest);
        }
        step.state.changes.delete(key);
    }
}

fn keep(step: &mut Step, name: &Arc<str>, schedule: Schedule) {
    step.state.changes.put(RowKey::Schedule(name.clone()), Row::Schedule(Box::new(schedule.clone())));
    step.state.schedules.put(name.clone(), schedule);
}

/// Its jobs stay.
fn remove(step: &mut Step, name: &Arc<str>) -> Result<(), Refusal> {
    step.state.schedules.remove(name).ok_or_else(|| unknown(name))?;
    forget_spec(step, name);
    step.state.changes.delete(RowKey::Schedule(name.clone()));
    tell(step, name, ScheduleNews::Removed);
    Ok(())
}

/// Slots that pass meanwhile are nobody's: a resumed one is planned from then on.
fn pause(step: &mut Step, name: &Arc<str>, paused: bool) -> Result<(), Refusal> {
    let schedule = known(step, name)?;
    if schedule.paused != paused {
        keep(step, name, Schedule { paused, version: step.index, next: Next::Unplanned, ..schedule });
        tell(step, name, if paused { ScheduleNews::Paused } else { ScheduleNews::Resumed });
    }
    Ok(())
}

fn known(step: &Step, name: &str) -> Result<Schedule, Refusal> {
    step.state.schedules.known().get(name).cloned().ok_or_else(|| unknown(name))
}

fn unknown(name: &str) -> Refusal {
    Refusal::NoSchedule { name: name.into() }
}

/// The leader's step from one slot to the next. From where the schedule no longer stands it is no step.
fn advance(step: &mut Step, to: &Advance) -> Result<(), Refusal> {
    let schedule = known(step, &to.name)?;
    if schedule.paused || (schedule.version, schedule.next) != (to.version, to.from) {
        return Ok(());
    }
    let mut moved = Schedule { next: to.to, ..schedule };
    if let Some(slot) = &to.slot {
        check_slot(step, &moved, slot)?;
        let outcome = take(step, &to.name, &moved, slot);
        moved.note(&outcome);
        let taken = Taken { slot: slot.at, at: step.wall(), outcome };
        tell(step, &to.name, ScheduleNews::Taken(Box::new(taken.clone())));
        moved.last = Some(taken);
    }
    keep(step, &to.name, moved);
    Ok(())
}

/// No slot is taken before its time, none twice, none out of order, whatever a leader's clock or calendar says.
fn check_slot(step: &Step, moved: &Schedule, slot: &Slot) -> Result<(), Refusal> {
    let after_last = moved.last.as_ref().is_none_or(|last| last.slot < slot.at);
    let before_next = match moved.next {
        Next::Slot(next) => slot.at < next,
        Next::Never => true,
        Next::Unplanned => false,
    };
    match slot.at <= step.wall() && after_last && before_next {
        true => Ok(()),
        false => Err(Refusal::invalid("slot", "its time has not come, or has gone")),
    }
}

fn take(step: &mut Step, name: &str, schedule: &Schedule, slot: &Slot) -> Outcome {
    if slot.missed {
        return Outcome::Missed;
    }
    if let (Overlap::Skip, Some(job)) = (schedule.overlap, schedule.last_job.filter(|job| is_under_way(step, *job))) {
        return Outcome::Overlapped(job);
    }
    match submit(step, name, schedule, &format!("schedule {name}, slot {}", slot.text)) {
        Ok(Submitted { id, existed: false }) => Outcome::Submitted(id),
        Ok(Submitted { id, existed: true }) => Outcome::Existed(id),
        Err(refusal) => Outcome::Refused(refusal),
    }
}

/// A buried job neither waits nor runs: one failure must not end a schedule.
fn is_under_way(step: &Step, job: JobId) -> bool {
    step.live(job).is_some_and(|job| job.status() != Status::Buried)
}

/// A job now, whatever its slots, its pause and its other jobs say.
fn run(step: &mut Step, name: &Arc<str>) -> Answer {
    let schedule = match known(step, name) {
        Ok(schedule) => schedule,
        Err(refusal) => return Answer::Refused(refusal),
    };
    let why = format!("schedule {name}, asked for by {}", step.principal);
    match submit(step, name, &schedule, &why) {
        Ok(submitted) => {
            let last_job = Some(submitted.id);
            keep(step, name, Schedule { last_job, ..schedule });
            Answer::Submitted(vec![Ok(submitted)])
        }
        Err(refusal) => Answer::Refused(refusal),
    }
}

fn submit(step: &mut Step, name: &str, schedule: &Schedule, why: &str) -> Result<Submitted, Refusal> {
    if let Some(refusal) = step.state.drain.refusal() {
        return Err(refusal);
    }
    let Some(Row::Spec(mut spec)) = step.read(&RowKey::ScheduleSpec(name.into())) else {
        panic!("a schedule has a spec")
    };
    let job = Arc::make_mut(&mut spec);
    job.name.get_or_insert_with(|| name.into());
    job.comment.get_or_insert_with(|| format!("submitted by schedule {name}").into());
    job.submitted_by = Some(schedule.created_by.clone());
    job.reasons.truncate(limits::REASONS_KEPT as usize - 1);
    job.reasons.push(Reason { source: REASON_SOURCE.into(), text: why.into(), at: step.wall() });
    submit::submit_batch(step, &[Ok(spec)], false).remove(0)
}

impl Schedule {
    fn note(&mut self, outcome: &Outcome) {
        match outcome {
            Outcome::Submitted(job) => {
                self.submitted += 1;
                self.last_job = Some(*job);
            }
            Outcome::Existed(_) | Outcome::Overlapped(_) | Outcome::Missed | Outcome::Refused(_) => self.skipped += 1,
        }
    }
}
