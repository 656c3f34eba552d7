//! Submit: drained for the whole call; then per job a bad field, the unique key, the number of live jobs.

use std::sync::Arc;

use raftq::queue::{
    applied::{Answer, Submitted},
    ids::{JobId, Priority},
    job::{Depends, Hold, JobRef, LEASE_MS_MAX, LEASE_MS_MIN, Needs, OpResult, OpSpec, Spec, When},
    refusal::Refusal,
};

use super::{
    Model,
    attempts::too_heavy,
    dependencies::{Latch, Target, Targets},
    job::{Job, Lasting, Op, OpStatus},
    limits::{allow, too_many_jobs},
    plan::Plan,
};

type Member = Result<Arc<Spec>, Refusal>;
type Verdict = Result<Submitted, Refusal>;

impl Model {
    pub(super) fn submit(&mut self, jobs: &[Member], atomic: bool) -> Answer {
        match self.drained() {
            Some(drained) => Answer::Refused(drained),
            None => match allow(too_many_jobs(jobs.len())) {
                Ok(()) => Answer::Submitted(self.submit_batch(jobs, atomic)),
                Err(refusal) => Answer::Refused(refusal),
            },
        }
    }

    pub(super) fn drained(&self) -> Option<Refusal> {
        self.drain.drained.then(|| Refusal::Drained {
            by: self.drain.by.clone(),
            reason: self.drain.reason.clone(),
            since_ms: self.drain.since.unwrap_or_default().0,
        })
    }

    pub(super) fn submit_batch(&mut self, jobs: &[Member], atomic: bool) -> Vec<Verdict> {
        let mut after = self.clone();
        let verdicts: Vec<Verdict> = after.submit_each(jobs);
        if atomic && verdicts.iter().any(Result::is_err) {
            return verdicts.into_iter().map(|verdict| Err(verdict.err().unwrap_or(Refusal::Aborted))).collect();
        }
        *self = after;
        verdicts
    }

    fn submit_each(&mut self, jobs: &[Member]) -> Vec<Verdict> {
        let plans = self.plan(jobs);
        let ids = self.future_ids(&plans);
        let mut verdicts = Vec::new();
        for (at, plan) in plans.into_iter().enumerate() {
            verdicts.push(plan.map(|plan| self.carry_out(plan, ids[at].expect("it was taken"), &ids)));
        }
        verdicts
    }

    fn carry_out(&mut self, plan: Plan, id: JobId, ids: &[Option<JobId>]) -> Submitted {
        match plan {
            Plan::New(spec, targets) => {
                self.last_job = id;
                self.create_limits(&spec);
                self.know_group(&spec);
                self.jobs.insert(id, self.new_job(&spec, &targets, ids));
                self.settle(id);
                self.stirred.insert(id);
                self.told.news.insert(id);
                self.bury_stirred();
                Submitted { id, existed: false }
            }
            Plan::Existing(spec, _) | Plan::Twin(spec, _) => {
                self.join(id, &spec);
                Submitted { id, existed: true }
            }
        }
    }

    /// Its groups are added to the job's, unless that would then weigh too much.
    fn join(&mut self, id: JobId, newcomer: &Spec) {
        let job = self.jobs.get_mut(&id).expect("it has the key");
        let mut spec = Spec::clone(&job.spec);
        spec.groups.extend(newcomer.groups.iter().cloned());
        if too_heavy(&spec, job.output_bytes()).is_none() {
            job.spec = Arc::new(spec);
            job.shed();
        }
    }

    /// The id that each member will have: members may wait for later ones.
    fn future_ids(&self, plans: &[Result<Plan, Refusal>]) -> Vec<Option<JobId>> {
        let mut last = self.last_job.0;
        let mut ids: Vec<Option<JobId>> = Vec::new();
        for plan in plans {
            ids.push(match plan {
                Err(_) => None,
                Ok(Plan::New(..)) => {
                    last += 1;
                    Some(JobId(last))
                }
                Ok(Plan::Existing(_, id)) => Some(*id),
                Ok(Plan::Twin(_, first)) => ids[*first],
            });
        }
        ids
    }

    fn new_job(&self, spec: &Spec, targets: &Targets, ids: &[Option<JobId>]) -> Job {
        let latch = |(depends, target): (&Depends, &Target)| {
            let on = match target {
                Target::Job(id) => *id,
                Target::Member(at) => ids[*at].expect("who waits for a refused member is refused"),
            };
            let outcome = self.jobs.get(&on).map(Job::status).filter(|status| status.is_final());
            Latch { on, accept: depends.accept, outcome }
        };
        let latches = |(op, targets): (&OpSpec, &Vec<Target>)| op.depends.iter().zip(targets).map(latch).collect();
        let depends: Vec<Vec<Latch>> = spec.ops.iter().zip(targets).map(latches).collect();
        let mut spec = spec.clone();
        let said = spec.ops.iter_mut().flat_map(|op| &mut op.depends);
        said.zip(depends.iter().flatten()).for_each(|(said, latch)| said.on = JobRef::Id(latch.on));
        spec.submitted_by = spec.submitted_by.or(Some((&*self.principal).into()));
        self.fresh(&spec, depends)
    }

    pub(super) fn full(&self) -> Option<Refusal> {
        let limit = self.settings.live_jobs_max;
        (self.live().count() as u64 >= limit).then_some(Refusal::QueueFull { limit })
    }

    /// The live job that holds a unique key.
    pub(super) fn holder_of(&self, unique: Option<&Arc<str>>) -> Option<JobId> {
        let unique = unique?;
        self.live().find(|job| job.spec.unique.as_ref() == Some(unique)).map(|job| job.id)
    }

    /// A spec may only name what is kept.
    pub(super) fn check_environment(&self, spec: &Spec) -> Result<(), Refusal> {
        match spec.environment.filter(|digest| !self.environments.contains_key(digest)) {
            Some(_) => Err(Refusal::invalid("environment", "")),
            None => Ok(()),
        }
    }

    pub(super) fn create_limits(&mut self, spec: &Spec) {
        for (name, max) in &spec.limits {
            if let Some(max) = max {
                self.limits.entry(name.clone()).or_insert(*max);
            }
        }
    }

    fn fresh(&self, spec: &Spec, depends: Vec<Vec<Latch>>) -> Job {
        let priority = spec.priority.unwrap_or_default();
        let op = |priority: Priority| Op {
            priority,
            status: OpStatus::Queued,
            attempts: 0,
            reserved_at: None,
            exec_at: None,
            lease_ended_at: None,
            history: Vec::new(),
            retries_used: 0,
            lost: 0,
            start_failures: 0,
            result: Arc::new(OpResult::default()),
            last: None,
        };
        Job {
            id: self.last_job,
            spec: Arc::new(spec.clone()),
            ops: spec.ops.iter().map(|each| op(each.priority.unwrap_or(priority))).collect(),
            hold: self.first_hold(spec.when),
            version: self.index,
            received_at: self.now.wall,
            changed_at: self.now.wall,
            ended_at: None,
            archived: false,
            log: Vec::new(),
            log_dropped: 0,
            reasons: Vec::new(),
            progress: None,
            checkpoint: None,
            started_at: None,
            depends,
            raised: Needs::default(),
        }
    }

    fn first_hold(&self, when: When) -> Lasting {
        match when {
            When::Now => Lasting::exactly(Hold::None),
            When::Delay(ms) => self.delayed(ms),
            When::RunAt(at) if at <= self.now.wall => Lasting::exactly(Hold::None),
            When::RunAt(at) => Lasting::exactly(Hold::RunAt(at)),
        }
    }
}

/// What breaks a limit of design 3: the first field that does, or all of it together.
pub(super) fn check(spec: &Spec) -> Result<(), Refusal> {
    bad_field(spec).map(|field| Refusal::invalid(field, "")).or(too_heavy(spec, 0)).map_or(Ok(()), Err)
}

fn bad_field(spec: &Spec) -> Option<&'static str> {
    if spec.ops.is_empty() || spec.ops.len() > 100 {
        return Some("ops");
    }
    if !is_queue_name(&spec.queue) {
        return Some("queue");
    }
    if !(LEASE_MS_MIN..=LEASE_MS_MAX).contains(&spec.policy.lease_ms) {
        return Some("lease_ms");
    }
    None
}

fn is_queue_name(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-+/;.$_()".contains(&byte);
    !name.is_empty() && name.len() <= 200 && !name.starts_with('-') && name.bytes().all(allowed)
}
