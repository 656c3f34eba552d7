//! submit: new jobs, checked in the order of design 2.2, each answered for itself or all together.

use std::{collections::BTreeMap, sync::Arc};

use crate::queue::{
    applied::{Answer, Submitted},
    attempt,
    birth::Alike,
    ids::JobId,
    job::{Dep, JobRef, Spec},
    limits,
    ops::{
        depend::{self, Target},
        kinds::{self, Kinds},
    },
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
    New(Arc<Spec>, Vec<Target>, Arc<Alike>),
    /// Its unique key is a live job's.
    Existing(Arc<Spec>, JobId),
    /// Its unique key is that of an earlier member.
    Same(Arc<Spec>, usize),
}

type Plans = Vec<Result<Plan, Refusal>>;

/// Plans first and changes afterwards, so that an atomic batch can still be refused as a whole.
pub fn submit_batch(step: &mut Step, jobs: &[Member], atomic: bool) -> Vec<Result<Submitted, Refusal>> {
    let plans = plan(step, jobs);
    if atomic && plans.iter().any(Result::is_err) {
        return plans.into_iter().map(|plan| Err(plan.err().unwrap_or(Refusal::Aborted))).collect();
    }
    carry_out(step, plans)
}

fn plan(step: &Step, jobs: &[Member]) -> Plans {
    let links = depend::resolve(step, jobs);
    let last = step.last.clone();
    let mut planner = Planner { step, new: 0, unique: BTreeMap::new(), kinds: Kinds::default(), last };
    let mut plans = Plans::with_capacity(jobs.len());
    for (at, (job, link)) in jobs.iter().zip(links).enumerate() {
        let plan = link.and_then(|targets| planner.plan(at, job.as_ref().map_err(Refusal::clone)?, targets));
        plans.push(plan);
    }
    refuse_circles_of_twins(jobs, &mut plans);
    refuse_waiters(&mut plans);
    plans
}

/// Members with one unique key become one job, and so may come to wait for themselves.
fn refuse_circles_of_twins(jobs: &[Member], plans: &mut Plans) {
    if !plans.iter().any(|plan| matches!(plan, Ok(Plan::Same(..)))) {
        return;
    }
    let mut links: depend::Links = plans.iter().map(link).collect();
    depend::refuse_circles(jobs, &mut links);
    for (plan, link) in plans.iter_mut().zip(links) {
        if let Err(refusal) = link {
            *plan = Err(refusal);
        }
    }
}

/// A twin waits for whatever its first waits for, so it stands as waiting for that one.
fn link(plan: &Result<Plan, Refusal>) -> Result<Vec<Target>, Refusal> {
    match plan {
        Err(refusal) => Err(refusal.clone()),
        Ok(Plan::New(_, targets, _)) => Ok(targets.clone()),
        Ok(Plan::Existing(..)) => Ok(Vec::new()),
        Ok(Plan::Same(_, earlier)) => Ok(vec![Target::Member(*earlier)]),
    }
}

/// Whoever waits for a member that is refused is refused as well, and whoever waits for that one, and a twin with the one
/// that has its unique key.
fn refuse_waiters(plans: &mut Plans) {
    let mut waiters: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for (at, plan) in plans.iter().enumerate() {
        for target in link(plan).into_iter().flatten() {
            if let Target::Member(member) = target {
                waiters.entry(member).or_default().push(at);
            }
        }
    }
    let mut refused: Vec<usize> = waiters.keys().copied().filter(|at| plans[*at].is_err()).collect();
    while let Some(at) = refused.pop() {
        for waiter in waiters.remove(&at).unwrap_or_default() {
            let message = format!("job {} of the batch, for which it waits, is refused", at + 1);
            if plans[waiter].is_ok() {
                plans[waiter] = Err(Refusal::invalid("depends", message));
                refused.push(waiter);
            }
        }
    }
}

struct Planner<'a, 's> {
    step: &'a Step<'s>,
    new: u64,
    /// Unique keys of members planned so far.
    unique: BTreeMap<&'a str, usize>,
    kinds: Kinds,
    /// Of the member planned last, at first of the job that came last.
    last: Option<Arc<Alike>>,
}

impl<'a> Planner<'a, '_> {
    /// The checks after those of fields: unique, then room.
    fn plan(&mut self, at: usize, spec: &'a Arc<Spec>, targets: Vec<Target>) -> Result<Plan, Refusal> {
        if let Some(unique) = &spec.unique {
            if let Some(id) = self.step.state.order.unique(unique) {
                return Ok(Plan::Existing(spec.clone(), id));
            }
            if let Some(earlier) = self.unique.get(&**unique) {
                return Ok(Plan::Same(spec.clone(), *earlier));
            }
        }
        let alike = self.alike(spec);
        self.check_room(spec, &alike)?;
        self.new += 1;
        if let Some(unique) = &spec.unique {
            self.unique.insert(unique, at);
        }
        Ok(Plan::New(spec.clone(), targets, alike))
    }

    fn alike(&mut self, spec: &Spec) -> Arc<Alike> {
        let last = self.last.take().filter(|last| last.is_of(spec));
        let alike = last.unwrap_or_else(|| Arc::new(self.step.state.shared.alike(spec)));
        self.last = Some(Arc::clone(&alike));
        alike
    }

    fn check_room(&mut self, spec: &Spec, alike: &Alike) -> Result<(), Refusal> {
        let state = &self.step.state;
        let max = state.settings.live_jobs_max;
        if state.live.len() as u64 + self.new >= max {
            return Err(Refusal::QueueFull { limit: max });
        }
        self.kinds.add(state, spec, &alike.shape)
    }
}

/// Whether a job of this spec would find room for its queue, shape and groups.
pub fn check_room_for(step: &Step, spec: &Spec) -> Result<(), Refusal> {
    Kinds::default().add(step.state, spec, &step.state.shared.alike(spec).shape)
}

fn carry_out(step: &mut Step, plans: Plans) -> Vec<Result<Submitted, Refusal>> {
    let ids = ids(step, &plans);
    let mut results: Vec<Result<Submitted, Refusal>> = Vec::with_capacity(plans.len());
    for plan in plans {
        let result = match plan {
            Err(refusal) => Err(refusal),
            Ok(Plan::New(spec, targets, alike)) => {
                let on: Vec<JobId> = targets.iter().map(|target| target.id(&ids)).collect();
                Ok(Submitted { id: create(step, spec, alike, &on), existed: false })
            }
            Ok(Plan::Existing(spec, id)) => Ok(join(step, &spec, id)),
            Ok(Plan::Same(spec, earlier)) => results[earlier].clone().map(|first| join(step, &spec, first.id)),
        };
        results.push(result);
    }
    results
}

/// The id that each member will have: members may wait for later ones.
fn ids(step: &Step, plans: &Plans) -> Vec<Option<JobId>> {
    let mut last = step.state.counters.last_job.0;
    let mut ids: Vec<Option<JobId>> = Vec::with_capacity(plans.len());
    for plan in plans {
        ids.push(match plan {
            Ok(Plan::New(..)) => {
                last += 1;
                Some(JobId(last))
            }
            Ok(Plan::Existing(_, id)) => Some(*id),
            Ok(Plan::Same(_, earlier)) => ids[*earlier],
            Err(_) => None,
        });
    }
    ids
}

impl Target {
    fn id(&self, members: &[Option<JobId>]) -> JobId {
        match self {
            Target::Job(id) => *id,
            Target::Member(at) => members[*at].expect("who waits for a refused member is refused"),
        }
    }
}

/// A live job has the unique key: the newcomer only adds its groups, as long as there is room.
fn join(step: &mut Step, spec: &Spec, id: JobId) -> Submitted {
    let existed = Submitted { id, existed: true };
    let (mut stored, birth) = step.spec(id).expect("a live job has a spec");
    let added: Vec<Arc<str>> = spec.groups.difference(&stored.groups).cloned().collect();
    if added.is_empty() {
        return existed;
    }
    Arc::make_mut(&mut stored).groups.extend(added.iter().cloned());
    let (bytes, groups) = (stored.bytes(), stored.groups.len());
    let has_room = attempt::has_room_for_spec(step.find(id).expect("it has the unique key").job(), bytes);
    if groups > limits::GROUPS_MAX || bytes > limits::JOB_BYTES_MAX || !has_room {
        return existed;
    }
    for group in added {
        step.state.changes.put(RowKey::Group(group, id), Row::Mark);
    }
    step.state.changes.put(RowKey::Spec(id), Row::Born(stored, birth));
    // With that it has a row of its own: its spec is not the one that it was made from any more.
    weigh(step, id, bytes);
    existed
}

/// A member of this batch may have ended as it came, for what it waits for.
fn weigh(step: &mut Step, id: JobId, spec_bytes: usize) {
    if step.live(id).is_some() {
        return step.renew(id, |job, writer| attempt::count_spec(job, writer, spec_bytes));
    }
    let mut ended = step.ended_whole(id).expect("a job that is not live has ended");
    ended.job.spec_bytes = u32::try_from(spec_bytes).expect("a spec's size was checked");
    step.state.changes.put(RowKey::Ended(id), ended.into());
}

fn create(step: &mut Step, spec: Arc<Spec>, alike: Arc<Alike>, on: &[JobId]) -> JobId {
    let id = step.next_job_id();
    let spec = depend::with_ids(signed(spec, &step.principal), on);
    kinds::create(step, &spec);
    if let Some(digest) = spec.environment {
        step.state.environments.take(&mut step.state.changes, digest);
    }
    for group in &spec.groups {
        step.state.changes.put(RowKey::Group(group.clone(), id), Row::Mark);
    }
    let birth = step.birth();
    let mut job = birth.alike(id, &spec, &alike);
    step.last = Some(alike);
    let deps = deps(step, &spec);
    if !deps.is_empty() {
        job.more_mut().waits = true;
    }
    step.state.changes.put(RowKey::Spec(id), Row::Born(spec, birth));
    step.admit(Box::new(job), deps);
    id
}

/// The dependencies of all ops, with the outcomes that are known already.
fn deps(step: &Step, spec: &Spec) -> Box<[Dep]> {
    let mut deps = Vec::new();
    for (op, depends) in spec.ops.iter().enumerate() {
        for depend in &depends.depends {
            let JobRef::Id(on) = depend.on else { panic!("a stored spec names jobs by their ids") };
            deps.push(Dep { op: op as u32, on, accept: depend.accept, outcome: depend::outcome(step, on) });
        }
    }
    deps.into()
}

/// With the submitter's name, where the front door has not set it.
fn signed(mut spec: Arc<Spec>, principal: &Arc<str>) -> Arc<Spec> {
    if spec.submitted_by.is_none() && !principal.is_empty() {
        Arc::make_mut(&mut spec).submitted_by = Some((&**principal).into());
    }
    spec
}
