//! One entry being applied: where it stands, and the few ways in which verbs change the state.
//!
//! Verbs go through [`Step::change`], [`Step::admit`] and [`Step::revive`]; these keep the indexes, rows, counters and
//! effects true, so that a verb is only its rule.

use std::{collections::BTreeSet, sync::Arc};

use super::{
    applied::{Effect, JobBrief, Position},
    birth::{Alike, Birth},
    command::{Clocks, Entry},
    fresh,
    ids::{ClusterMs, Index, JobId, LeaseId, WallMs},
    job::{Attempt, Dep, Job, Office, Spec, Status},
    limits, ops,
    order::ShapeKey,
    refusal::Refusal,
    rows::{Changes, Ended, Row, RowKey, Rows},
    state::State,
    waits,
};

pub struct Step<'a> {
    pub state: &'a mut State,
    pub rows: &'a dyn Rows,
    pub index: Index,
    pub clocks: Clocks,
    pub office: Office,
    /// Who asked for the request at hand.
    pub principal: Arc<str>,
    /// How many dependents this entry may still wake.
    pub wakes_left: usize,
    /// Of the job that came last: the next one mostly says the same.
    pub last: Option<Arc<Alike>>,
    effects: Vec<Effect>,
    /// Queues in which a claim may now find something.
    ready: BTreeSet<Arc<str>>,
}

/// What a change of one job may write besides the job.
pub struct Writer<'a> {
    pub changes: &'a mut Changes,
    pub rows: &'a dyn Rows,
    pub clocks: Clocks,
    /// The newest attempt. If the job ends by it, and it is the only one, it stands with the job.
    attempt: Option<Recorded>,
}

/// An attempt, and the row that is its own.
type Recorded = (RowKey, Box<Attempt>);

/// A job, wherever it stands.
pub enum Found<'a> {
    Live(&'a Job),
    Ended(Box<Job>),
}

impl<'a> Writer<'a> {
    fn new(changes: &'a mut Changes, rows: &'a dyn Rows, clocks: Clocks) -> Self {
        Self { changes, rows, clocks, attempt: None }
    }

    pub fn keep_attempt(&mut self, key: RowKey, attempt: Box<Attempt>) {
        self.changes.put_attempt(self.attempt.replace((key, attempt)));
    }

    pub fn read(&self, key: &RowKey) -> Option<Row> {
        self.changes.read(self.rows, key)
    }
}

impl Found<'_> {
    pub fn job(&self) -> &Job {
        match self {
            Found::Live(job) => job,
            Found::Ended(job) => job,
        }
    }
}

impl<'a> Step<'a> {
    pub fn begin(state: &'a mut State, rows: &'a dyn Rows, index: Index, entry: &Entry) -> Self {
        let before = state.counters.position;
        assert!(index > before.index, "entry {index} comes after {}", before.index);
        // A leader starts its cluster clock from the last stamp in the log, so this maximum is a guard and no rule.
        let cluster = entry.clocks.cluster.max(before.clocks.cluster);
        let clocks = Clocks { cluster, wall: entry.clocks.wall };
        state.counters.position = Position { index, clocks, office: entry.office };
        let mut step = Self {
            state,
            rows,
            index,
            clocks,
            office: entry.office,
            principal: Arc::from(""),
            wakes_left: limits::WAKES_PIECE,
            last: None,
            effects: Vec::new(),
            ready: BTreeSet::new(),
        };
        if (before.office.node, before.office.incarnation) != (entry.office.node, entry.office.incarnation) {
            ops::expire::end_grace_of_old_pool(&mut step);
        }
        step
    }

    pub fn end(mut self) -> Vec<Effect> {
        self.effects.extend(self.ready.into_iter().map(|queue| Effect::Ready { queue }));
        self.effects
    }

    pub fn now(&self) -> ClusterMs {
        self.clocks.cluster
    }

    pub fn wall(&self) -> WallMs {
        self.clocks.wall
    }

    /// Of what comes with this entry.
    pub fn birth(&self) -> Birth {
        Birth { index: self.index, clocks: self.clocks }
    }

    pub fn emit(&mut self, effect: Effect) {
        self.effects.push(effect);
    }

    pub fn read(&self, key: &RowKey) -> Option<Row> {
        self.state.changes.read(self.rows, key)
    }

    pub fn live(&self, id: JobId) -> Option<&Job> {
        self.state.live.get(&id).map(|job| &**job)
    }

    /// A job that has ended, archived or not.
    pub fn ended(&self, id: JobId) -> Option<Box<Job>> {
        self.ended_whole(id).map(|ended| ended.job)
    }

    /// The same, with what else its row holds: for whoever writes that anew.
    pub fn ended_whole(&self, id: JobId) -> Option<Ended> {
        let row = self.read(&RowKey::Ended(id)).or_else(|| self.read(&RowKey::Archived(id)))?;
        Some(row.into_ended().expect("the row of a job that has ended holds a job"))
    }

    /// What a job's submitter said, and when.
    pub fn spec(&self, id: JobId) -> Option<(Arc<Spec>, Birth)> {
        self.read(&RowKey::Spec(id))?.into_spec()
    }

    pub fn find(&self, id: JobId) -> Result<Found<'_>, Refusal> {
        if let Some(job) = self.live(id) {
            return Ok(Found::Live(job));
        }
        self.ended(id).map(Found::Ended).ok_or(Refusal::NotFound { id })
    }

    /// What a verb answers about a live job.
    pub fn brief(&self, id: JobId, changed: bool) -> JobBrief {
        self.find(id).map(|found| brief(found.job(), changed)).expect("a verb answers about a job that it found")
    }

    /// Changes a live job. If that ends it, it leaves memory.
    pub fn change<T>(&mut self, id: JobId, edit: impl FnOnce(&mut Job, &mut Writer) -> T) -> T {
        let mut writer = Writer::new(&mut self.state.changes, self.rows, self.clocks);
        let job = self.state.live.get_mut(&id).expect("a verb changes a job that it found");
        self.state.order.remove(job);
        let (was, held, shape) = (job.status(), job.lease().is_some(), job.shape.clone());
        let answer = edit(job, &mut writer);
        waits::settle(job, self.state.waits.of(id), &mut writer);
        let attempt = writer.attempt;
        (job.version, job.changed_at) = (self.index, self.clocks.wall);
        if !Arc::ptr_eq(&job.shape, &shape) {
            self.state.shared.shapes.release(&shape);
            self.state.shared.shapes.share(&mut job.shape);
        }
        if held && job.lease().is_none() {
            let waiting = job.shape.limits.iter().flat_map(|limit| self.state.order.waiting_for(limit));
            self.ready.extend(waiting.cloned());
        }
        let status = job.status();
        if status.is_final() {
            let job = self.state.live.remove(&id).expect("it was there a line ago");
            self.retire(job, was, attempt);
        } else {
            self.state.order.insert(job);
            note_ready(&mut self.ready, job, status);
            self.state.changes.put_attempt(attempt);
            self.state.touch(id);
            self.announce(id, was, status);
        }
        answer
    }

    /// As [`Self::change`], by a claim. Of a job to which nothing had happened before, that says all there is.
    pub fn grant<T>(&mut self, id: JobId, edit: impl FnOnce(&mut Job, &mut Writer) -> T) -> T {
        let was_fresh = self.state.fresh.contains(id);
        let answer = self.change(id, edit);
        if was_fresh {
            self.state.only_granted(id);
        }
        answer
    }

    /// Says that a live job has changed.
    fn announce(&mut self, id: JobId, was: Status, status: Status) {
        self.effects.push(Effect::Changed { job: id, was, status });
        if status == Status::Queued {
            ops::impossible::bury(self, id);
        }
    }

    /// Changes what is no news to anybody: the version stays.
    pub fn renew<T>(&mut self, id: JobId, edit: impl FnOnce(&mut Job, &mut Writer) -> T) -> T {
        let State { live, order, changes, .. } = &mut *self.state;
        let job = live.get_mut(&id).expect("a verb changes a job that it found");
        order.remove(job);
        let mut writer = Writer::new(changes, self.rows, self.clocks);
        let answer = edit(job, &mut writer);
        let attempt = writer.attempt;
        changes.put_attempt(attempt);
        order.insert(job);
        self.state.touch(id);
        answer
    }

    /// Changes what a live job shares with others.
    pub fn reshape(&mut self, id: JobId, edit: impl FnOnce(&mut Job, &mut Writer)) {
        let mut job = self.state.live.remove(&id).expect("a verb changes a job that it found");
        self.state.order.remove(&job);
        self.state.shared.release(&job);
        let was = job.status();
        let mut writer = Writer::new(&mut self.state.changes, self.rows, self.clocks);
        edit(&mut job, &mut writer);
        let attempt = writer.attempt;
        self.state.changes.put_attempt(attempt);
        (job.version, job.changed_at) = (self.index, self.clocks.wall);
        self.state.touch(job.id);
        self.enter(job, was);
    }

    /// Takes in a new job. What it waits for may have ended badly already, and then it ends here.
    pub fn admit(&mut self, job: Box<Job>, deps: Box<[Dep]>) {
        self.effects.push(Effect::Posted { job: job.id });
        if deps.is_empty() && job.spec_bytes <= fresh::SPEC_BYTES_MAX {
            self.state.fresh.add(job.id);
        } else {
            self.state.touched.insert(job.id);
        }
        if !deps.is_empty() {
            self.state.changes.put(RowKey::Waits(job.id), Row::Waits(deps.clone()));
            self.state.waits.add(job.id, deps);
        }
        self.enter(job, Status::Queued);
    }

    /// A job that has ended, and is not archived, lives again.
    pub fn revive(&mut self, mut job: Box<Job>, deps: Box<[Dep]>, edit: impl FnOnce(&mut Job)) {
        let (state, was) = (&mut *self.state, job.status());
        let end = job.ended_at.time().expect("a job that has ended says when");
        state.history.remove_ended(&mut state.changes, self.rows, end, job.id);
        if let Some(Row::Done(_, attempt)) = state.changes.read(self.rows, &RowKey::Ended(job.id)) {
            // There may be more from now on, which stand in rows of their own.
            state.changes.put(RowKey::Attempt(job.id, 0, 0), Row::Attempt(attempt));
        }
        state.counters.ended = state.counters.ended.saturating_sub(1);
        state.changes.delete(RowKey::Ended(job.id));
        if let Some(unique) = &job.more().unique {
            state.changes.delete(RowKey::Unique(unique.clone(), job.id));
        }
        if !deps.is_empty() {
            state.changes.put(RowKey::Waits(job.id), Row::Waits(deps.clone()));
            state.waits.add(job.id, deps);
        } else if job.more().waits {
            // None is left: the row goes too, or a restart would bring the old ones back.
            state.changes.delete(RowKey::Waits(job.id));
            job.more_mut().waits = false;
        }
        edit(&mut job);
        (job.version, job.changed_at) = (self.index, self.clocks.wall);
        self.state.touch(job.id);
        self.enter(job, was);
    }

    /// A job that was not there, or not like this, is live.
    fn enter(&mut self, mut job: Box<Job>, was: Status) {
        let (id, state) = (job.id, &mut *self.state);
        state.shared.adopt(&mut job);
        let mut writer = Writer::new(&mut state.changes, self.rows, self.clocks);
        waits::settle(&mut job, state.waits.of(id), &mut writer);
        let attempt = writer.attempt;
        let status = job.status();
        if status.is_final() {
            return self.retire(job, was, attempt);
        }
        state.changes.put_attempt(attempt);
        state.order.insert(&job);
        note_ready(&mut self.ready, &job, status);
        state.live.insert(id, job);
        self.announce(id, was, status);
    }

    /// A job that has ended goes from memory into its row, and whoever waits for it is to hear.
    fn retire(&mut self, job: Box<Job>, was: Status, attempt: Option<Recorded>) {
        let (state, status) = (&mut *self.state, job.status());
        state.shared.release(&job);
        state.forget_row(job.id);
        state.counters.count_end(status);
        state.totals.count(&job.shape.queue, status);
        let end = job.ended_at.time().expect("a job that has ended says when");
        state.history.add_ended(&mut state.changes, self.rows, end, job.id);
        state.waits.forget(job.id);
        state.waits.ended(&mut state.changes, job.id, status);
        if let Some(unique) = &job.more().unique {
            state.changes.put(RowKey::Unique(unique.clone(), job.id), Row::Mark);
        }
        self.effects.push(Effect::Changed { job: job.id, was, status });
        let (only, others) = if job.has_one_attempt() { (attempt, None) } else { (None, attempt) };
        state.changes.put_attempt(others);
        let ended = Ended { job, attempt: only.map(|(_, attempt)| attempt) };
        state.changes.put(RowKey::Ended(ended.job.id), ended.into());
    }

    pub fn next_job_id(&mut self) -> JobId {
        self.state.counters.last_job.0 += 1;
        self.state.counters.last_job
    }

    pub fn next_lease_id(&mut self) -> LeaseId {
        self.state.counters.last_lease.0 += 1;
        self.state.counters.last_lease
    }

    /// Claims of any queue look again: a pause ended, a ceiling rose.
    pub fn wake_all(&mut self) {
        let ready = self.state.order.queues().filter(|(_, lane)| !lane.ready().is_empty());
        self.ready.extend(ready.map(|(queue, _)| queue.clone()));
    }

    pub fn wake(&mut self, queue: &Arc<str>) {
        self.ready.insert(queue.clone());
    }

    /// Jobs of this resource group may fit now where they did not: in whatever queue they are ready. Costs the ready shapes, so
    /// it is for when a recommendation changes, which goes in large steps.
    pub fn wake_group(&mut self, group: &Arc<str>) {
        let of_group = |(_, shape): &ShapeKey| shape.resource_group.as_ref() == Some(group);
        let ready = self.state.order.queues().filter(|(_, lane)| lane.ready().keys().any(of_group));
        self.ready.extend(ready.map(|(queue, _)| queue.clone()));
    }

    /// Claims that wait for room in a limit group look again.
    pub fn wake_limit(&mut self, limit: &str) {
        self.ready.extend(self.state.order.waiting_for(limit).cloned());
    }
}

impl Changes {
    fn put_attempt(&mut self, recorded: Option<Recorded>) {
        if let Some((key, attempt)) = recorded {
            self.put(key, Row::Attempt(attempt));
        }
    }
}

/// A claim of the job's queue may find it.
fn note_ready(ready: &mut BTreeSet<Arc<str>>, job: &Job, status: Status) {
    if status == Status::Queued && !ready.contains(&job.shape.queue) {
        ready.insert(job.shape.queue.clone());
    }
}

pub fn brief(job: &Job, changed: bool) -> JobBrief {
    JobBrief { id: job.id, status: job.status(), version: job.version, changed }
}
