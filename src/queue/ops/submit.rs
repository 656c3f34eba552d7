//! submit: new jobs, checked in the order of design 2.2, each answered for itself or all together.

use std::{collections::BTreeMap, sync::Arc};

use crate::queue::{
    applied::{Answer, Submitted},
    ids::{JobId, Stamp},
    job::{Hold, Job, More, Op, Shape, Spec, When},
    limits,
    refusal::Refusal,
    rows::{Row, RowKey},
    step::Step,
};

/// What stands in a batch: a spec, or why the front door could not make one.
pub type Member = Result<Arc<Spec>, Refusal>;

pub fn submit(step: &mut Step, jobs: &[Member], atomic: bool) -> Answer {
    if let Some(refusal) = step.state.drain.refusal() {
        return Answer::Refused(refusal);
    }
    if let Err(refusal) = limits::check_count("jobs", jobs.len(), limits::JOBS_PER_REQUEST_MAX) {
        return Answer::Refused(refusal);
    }
    Answer::Submitted(submit_batch(step, jobs, atomic))
}

/// What a member of a batch will become.
#[derive(Clone, Debug)]
enum Plan {
    New(Arc<Spec>),
    /// Its unique key is a live job's.
    Existing(Arc<Spec>, JobId),
    /// Its unique key is that of an earlier member.
    Same(Arc<Spec>, usize),
}

/// Plans first and changes afterwards, so that an atomic batch can still be refused as a whole.
pub fn submit_batch(step: &mut Step, jobs: &[Member], atomic: bool) -> Vec<Result<Submitted, Refusal>> {
    let plans = plan(step, jobs);
    if atomic && plans.iter().any(Result::is_err) {
        return plans.into_iter().map(|plan| Err(plan.err().unwrap_or(Refusal::Aborted))).collect();
    }
    carry_out(step, plans)
}

fn plan(step: &Step, jobs: &[Member]) -> Vec<Result<Plan, Refusal>> {
    let mut planner = Planner { step, new: 0, unique: BTreeMap::new(), lanes: 0, shapes: 0 };
    let checked = jobs.iter().map(|job| job.as_ref().map_err(Refusal::clone));
    checked.enumerate().map(|(at, job)| planner.plan(at, job?)).collect()
}

struct Planner<'a, 's> {
    step: &'a Step<'s>,
    new: u64,
    /// Unique keys of members planned so far.
    unique: BTreeMap<&'a str, usize>,
    lanes: usize,
    shapes: usize,
}

impl<'a> Planner<'a, '_> {
    fn plan(&mut self, at: usize, spec: &'a Arc<Spec>) -> Result<Plan, Refusal> {
        spec.check()?;
        if let Some(unique) = &spec.unique {
            if let Some(id) = self.step.state.order.unique(unique) {
                return Ok(Plan::Existing(spec.clone(), id));
            }
            if let Some(earlier) = self.unique.get(&**unique) {
                return Ok(Plan::Same(spec.clone(), *earlier));
            }
        }
        self.check_room(spec)?;
        self.new += 1;
        if let Some(unique) = &spec.unique {
            self.unique.insert(unique, at);
        }
        Ok(Plan::New(spec.clone()))
    }

    fn check_room(&mut self, spec: &Spec) -> Result<(), Refusal> {
        let state = &self.step.state;
        let max = state.settings.live_jobs_max;
        if state.live.len() as u64 + self.new >= max {
            return Err(Refusal::QueueFull { limit: max });
        }
        self.check_kinds(spec)
    }

    fn check_kinds(&mut self, spec: &Spec) -> Result<(), Refusal> {
        let state = &self.step.state;
        if state.order.lane(&spec.queue).is_none() {
            self.lanes += 1;
            check_room("queues", state.order.queues().len() + self.lanes, limits::QUEUES_MAX)?;
        }
        if !state.shared.shapes.contains(&shape(spec)) {
            self.shapes += 1;
            check_room("kinds of needs and limits", state.shared.shapes.len() + self.shapes, limits::SHAPES_MAX)?;
        }
        let new_limits = spec.limits.iter().filter(|(name, max)| max.is_some() && !state.limits.contains_key(name));
        check_room("limit groups", state.limits.len() + new_limits.count(), limits::LIMIT_GROUPS_MAX)
    }
}

/// Whether a job of this spec would find room for its queue, shape and limits.
pub fn check_room_for(step: &Step, spec: &Spec) -> Result<(), Refusal> {
    Planner { step, new: 0, unique: BTreeMap::new(), lanes: 0, shapes: 0 }.check_kinds(spec)
}

fn check_room(what: &str, count: usize, max: usize) -> Result<(), Refusal> {
    if count > max {
        let message = format!("there are {max} {what} already; use those, or wait until some are no longer used");
        return Err(Refusal::Busy { message: message.into() });
    }
    Ok(())
}

fn carry_out(step: &mut Step, plans: Vec<Result<Plan, Refusal>>) -> Vec<Result<Submitted, Refusal>> {
    let mut results: Vec<Result<Submitted, Refusal>> = Vec::with_capacity(plans.len());
    for plan in plans {
        let result = match plan {
            Err(refusal) => Err(refusal),
            Ok(Plan::New(spec)) => Ok(Submitted { id: create(step, spec), existed: false }),
            Ok(Plan::Existing(spec, id)) => Ok(join(step, &spec, id)),
            Ok(Plan::Same(spec, earlier)) => results[earlier].clone().map(|first| join(step, &spec, first.id)),
        };
        results.push(result);
    }
    results
}

/// A live job has the unique key: the newcomer only adds its groups.
fn join(step: &mut Step, spec: &Spec, id: JobId) -> Submitted {
    let existed = Submitted { id, existed: true };
    let Some(Row::Spec(mut stored)) = step.read(&RowKey::Spec(id)) else { panic!("a live job has a spec") };
    let added: Vec<Arc<str>> = spec.groups.difference(&stored.groups).cloned().collect();
    if added.is_empty() || stored.groups.len() + added.len() > limits::GROUPS_MAX {
        return existed;
    }
    for group in &added {
        step.state.changes.put(RowKey::Group(group.clone(), id), Row::Mark);
    }
    Arc::make_mut(&mut stored).groups.extend(added);
    step.state.changes.put(RowKey::Spec(id), Row::Spec(stored));
    existed
}

fn create(step: &mut Step, spec: Arc<Spec>) -> JobId {
    let id = step.next_job_id();
    let spec = signed(spec, &step.principal);
    for (limit, max) in &spec.limits {
        if let Some(max) = max {
            step.state.create_limit(limit, *max);
        }
    }
    for group in &spec.groups {
        step.state.changes.put(RowKey::Group(group.clone(), id), Row::Mark);
    }
    let job = build(step, &spec, id);
    step.state.changes.put(RowKey::Spec(id), Row::Spec(spec));
    step.admit(Box::new(job));
    id
}

/// With the submitter's name, where the front door has not set it.
fn signed(mut spec: Arc<Spec>, principal: &Arc<str>) -> Arc<Spec> {
    if spec.submitted_by.is_none() && !principal.is_empty() {
        Arc::make_mut(&mut spec).submitted_by = Some((&**principal).into());
    }
    spec
}

pub fn build(step: &Step, spec: &Spec, id: JobId) -> Job {
    let ops = spec.ops.iter().map(|op| {
        let priority = op.priority.or(spec.priority).unwrap_or_default();
        Op::new(op.kind.clone(), priority)
    });
    Job {
        id,
        shape: Arc::new(shape(spec)),
        policy: Arc::new(spec.policy.clone()),
        hold: hold(step, spec.when),
        ops: ops.collect(),
        received_at: step.wall(),
        started_at: Stamp::NONE,
        ended_at: Stamp::NONE,
        changed_at: step.wall(),
        version: step.index,
        more: more(spec),
        spec_bytes: u32::try_from(spec.bytes()).expect("a spec's size was checked"),
        archived: false,
    }
}

fn more(spec: &Spec) -> Option<Box<More>> {
    let unique = spec.unique.clone()?;
    Some(Box::new(More { unique: Some(unique), ..More::default() }))
}

fn hold(step: &Step, when: When) -> Hold {
    match when {
        When::Delay(delay_ms) if delay_ms > 0 => Hold::Delayed(step.now().after(delay_ms)),
        When::RunAt(at) if at > step.wall() => Hold::RunAt(at),
        When::Now | When::Delay(_) | When::RunAt(_) => Hold::None,
    }
}

fn shape(spec: &Spec) -> Shape {
    Shape {
        queue: spec.queue.clone(),
        limits: spec.limits.iter().map(|(name, _)| name.clone()).collect(),
        needs: spec.needs.unwrap_or_default(),
        resource_group: spec.policy.resource_group.clone(),
    }
}
