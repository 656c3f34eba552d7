//! Schedules: each slot is taken once, by whoever comes first from where the schedule stands.

use std::sync::Arc;

use raftq::queue::{
    applied::{Answer, ScheduleNews, Submitted},
    command::{Advance, Definition, ScheduleChange, Slot},
    ids::{Index, JobId, WallMs},
    job::{Reason, Spec, Status, When},
    refusal::Refusal,
    schedule::{Next, Outcome, Overlap, Taken, Timing},
};

use super::{Model, submit::check};

/// Of one spec.
const REASONS_MAX: usize = 100;

#[derive(Clone, Debug)]
pub struct Schedule {
    pub definition: Definition,
    pub paused: bool,
    pub by: Box<str>,
    pub created_at: WallMs,
    pub defined_at: WallMs,
    pub version: Index,
    pub next: Next,
    /// Every slot that was taken, in order.
    pub taken: Vec<Taken>,
    pub last_job: Option<JobId>,
}

impl Model {
    pub(super) fn schedule(&mut self, change: &ScheduleChange) -> Answer {
        let done = match change {
            ScheduleChange::Put { name, definition, if_absent } => self.define(name, definition, *if_absent),
            ScheduleChange::Remove { name } => self.remove_schedule(name),
            ScheduleChange::Pause { name, paused } => self.pause_schedule(name, *paused),
            ScheduleChange::Advance(to) => self.advance(to),
            ScheduleChange::Run { name } => {
                return match self.run_schedule(name) {
                    Ok(submitted) => Answer::Submitted(vec![Ok(submitted)]),
                    Err(refusal) => Answer::Refused(refusal),
                };
            }
        };
        done.map_or_else(Answer::Refused, |()| Answer::Done)
    }

    /// A new definition keeps who made the first one and what has been taken.
    fn define(&mut self, name: &Arc<str>, definition: &Definition, if_absent: bool) -> Result<(), Refusal> {
        check_definition(definition)?;
        self.check_environment(&definition.spec).map_err(|_| Refusal::invalid("spec.environment", ""))?;
        let old = self.schedules.get(name);
        if old.is_some() && if_absent {
            return Err(Refusal::Conflict { message: "".into() });
        }
        let (now, by) = (self.now.wall, (&*self.principal).into());
        let schedule = Schedule {
            definition: definition.clone(),
            paused: definition.paused.unwrap_or(old.is_some_and(|old| old.paused)),
            by: old.map_or(by, |old| old.by.clone()),
            created_at: old.map_or(now, |old| old.created_at),
            defined_at: now,
            version: self.index,
            next: Next::Unplanned,
            taken: old.map_or(Vec::new(), |old| old.taken.clone()),
            last_job: old.and_then(|old| old.last_job),
        };
        self.schedules.insert(name.clone(), schedule);
        self.told.schedules.push((name.clone(), ScheduleNews::Defined));
        Ok(())
    }

    /// Its jobs stay.
    fn remove_schedule(&mut self, name: &Arc<str>) -> Result<(), Refusal> {
        self.schedules.remove(name).ok_or_else(|| unknown(name))?;
        self.told.schedules.push((name.clone(), ScheduleNews::Removed));
        Ok(())
    }

    fn pause_schedule(&mut self, name: &Arc<str>, paused: bool) -> Result<(), Refusal> {
        let index = self.index;
        let schedule = self.schedules.get_mut(name).ok_or_else(|| unknown(name))?;
        if schedule.paused != paused {
            (schedule.paused, schedule.version, schedule.next) = (paused, index, Next::Unplanned);
            let news = if paused { ScheduleNews::Paused } else { ScheduleNews::Resumed };
            self.told.schedules.push((name.clone(), news));
        }
        Ok(())
    }

    /// A paused schedule stays where it is, and so does one that has moved on since somebody looked.
    fn advance(&mut self, to: &Advance) -> Result<(), Refusal> {
        let schedule = self.schedules.get(&to.name).ok_or_else(|| unknown(&to.name))?.clone();
        if schedule.paused || schedule.version != to.version || schedule.next != to.from {
            return Ok(());
        }
        let taken = match &to.slot {
            None => None,
            Some(slot) if self.may_take(&schedule, slot, to.to) => Some(self.take(&to.name, &schedule, slot)),
            Some(_) => return Err(Refusal::invalid("slot", "")),
        };
        let schedule = self.schedules.get_mut(&to.name).expect("it was there a moment ago");
        schedule.next = to.to;
        if let Some(Taken { outcome: Outcome::Submitted(job), .. }) = taken {
            schedule.last_job = Some(job);
        }
        if let Some(taken) = taken {
            schedule.taken.push(taken.clone());
            self.told.schedules.push((to.name.clone(), ScheduleNews::Taken(Box::new(taken))));
        }
        Ok(())
    }

    /// Its time has come, no slot as late has been taken, and the next one is later.
    fn may_take(&self, schedule: &Schedule, slot: &Slot, next: Next) -> bool {
        let come = slot.at <= self.now.wall;
        let rising = schedule.taken.iter().all(|taken| taken.slot < slot.at);
        let ahead = match next {
            Next::Slot(next) => slot.at < next,
            Next::Never => true,
            Next::Unplanned => false,
        };
        come && rising && ahead
    }

    fn take(&mut self, name: &str, schedule: &Schedule, slot: &Slot) -> Taken {
        let busy = |job: &JobId| {
            let status = self.jobs.get(job).map(super::Job::status);
            status.is_some_and(|status| !status.is_final() && status != Status::Buried)
        };
        let outcome = match schedule.last_job.filter(busy) {
            _ if slot.missed => Outcome::Missed,
            Some(job) if schedule.definition.overlap == Overlap::Skip => Outcome::Overlapped(job),
            _ => match self.submit_for(name, schedule, &format!("schedule {name}, slot {}", slot.text)) {
                Ok(Submitted { id, existed: true }) => Outcome::Existed(id),
                Ok(Submitted { id, existed: false }) => Outcome::Submitted(id),
                Err(refusal) => Outcome::Refused(refusal),
            },
        };
        Taken { slot: slot.at, at: self.now.wall, outcome }
    }

    /// Whatever its slots, its pause and its other jobs say.
    fn run_schedule(&mut self, name: &str) -> Result<Submitted, Refusal> {
        let schedule = self.schedules.get(name).ok_or_else(|| unknown(name))?.clone();
        let why = format!("schedule {name}, asked for by {}", self.principal);
        let submitted = self.submit_for(name, &schedule, &why)?;
        self.schedules.get_mut(name).expect("it was there a moment ago").last_job = Some(submitted.id);
        Ok(submitted)
    }

    /// The job says which slot it is for, in a reason of its own.
    fn submit_for(&mut self, name: &str, schedule: &Schedule, why: &str) -> Result<Submitted, Refusal> {
        if let Some(drained) = self.drained() {
            return Err(drained);
        }
        let mut spec = Spec::clone(&schedule.definition.spec);
        spec.name.get_or_insert_with(|| name.into());
        spec.submitted_by = Some(schedule.by.clone());
        spec.comment.get_or_insert_with(|| format!("submitted by schedule {name}").into());
        spec.reasons.truncate(REASONS_MAX - 1);
        spec.reasons.push(Reason { source: "schedule".into(), text: why.into(), at: self.now.wall });
        self.submit_batch(&[Ok(Arc::new(spec))], false).remove(0)
    }
}

fn unknown(name: &str) -> Refusal {
    Refusal::NoSchedule { name: name.into() }
}

fn check_definition(definition: &Definition) -> Result<(), Refusal> {
    if let Timing::Every { ms: 0..1000 } = definition.timing {
        return Err(Refusal::invalid("every_ms", ""));
    }
    let spec = &definition.spec;
    check(spec).map_err(|refusal| match refusal {
        Refusal::Invalid { field, .. } => Refusal::invalid(format!("spec.{field}"), ""),
        other => other,
    })?;
    let wrong = None
        .or(matches!(spec.when, When::RunAt(_)).then_some("run_at_ms"))
        .or(spec.ops.iter().any(|op| !op.depends.is_empty()).then_some("depends"))
        .or(spec.batch_name.is_some().then_some("as"));
    wrong.map_or(Ok(()), |field| Err(Refusal::invalid(format!("spec.{field}"), "")))
}
