//! Derived indexes: who is next, what is due, who holds what. Changed only here.
//!
//! Everything in here is a function of the live jobs, and [`super::invariants`] computes it anew to compare. A job is
//! taken out before it changes and put back afterwards, so no change can forget an index.
//!
//! Claims look at shapes, not at jobs (design 2.2): ready jobs that no claim can tell apart (same queue, kind, limits,
//! needs, resource group) stand in one set ordered by urgency, and a claim compares the heads of those sets.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::{
    ids::{ClusterMs, JobId, Priority, WallMs},
    job::{Hold, Holder, Job, Shape, Status},
    span::{ByUrgency, Ids},
};

/// Ready jobs of one kind and shape: what one claim can take, another can as well.
pub type ShapeKey = (Arc<str>, Arc<Shape>);

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Order {
    queues: BTreeMap<Arc<str>, Lane>,
    /// Lease deadlines and delays.
    due: BTreeSet<(ClusterMs, JobId)>,
    run_at: BTreeSet<(WallMs, JobId)>,
    /// Leases without a deadline: the pool's, within its own office.
    pool: BTreeSet<JobId>,
    /// Few hold many, so the holder is compared once and not along a way down through their jobs.
    held: BTreeMap<Arc<Holder>, BTreeSet<JobId>>,
    limits: Limits,
    unique: BTreeMap<Arc<str>, JobId>,
}

/// One queue's live jobs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lane {
    by_status: BTreeMap<Status, Ids>,
    ready: BTreeMap<ShapeKey, ByUrgency>,
}

/// What a limit group counts: leases, from claim to end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct LimitUse {
    running: u32,
    /// Queues with ready jobs in this group, and how many shapes of them: who is woken when room appears.
    waiting: BTreeMap<Arc<str>, u32>,
}

impl LimitUse {
    fn is_empty(&self) -> bool {
        self.running == 0 && self.waiting.is_empty()
    }
}

impl Order {
    pub fn insert(&mut self, job: &Job) {
        let status = job.status();
        let lane = entry(&mut self.queues, &job.shape.queue);
        lane.by_status.entry(status).or_default().insert(job.id);
        match status {
            Status::Queued => lane.insert_ready(job, &mut self.limits),
            Status::Reserved | Status::Running | Status::Canceling => self.insert_held(job),
            Status::Delayed | Status::Blocked | Status::Buried => {}
            Status::Success | Status::Error | Status::Canceled => panic!("job {} is final and not live", job.id),
        }
        if let Some(due) = job.due() {
            self.due.insert((due, job.id));
        }
        if let (Status::Delayed, Hold::RunAt(at)) = (status, &job.hold) {
            self.run_at.insert((*at, job.id));
        }
        if let Some(unique) = &job.more().unique {
            self.unique.insert(unique.clone(), job.id);
        }
    }

    pub fn remove(&mut self, job: &Job) {
        let status = job.status();
        let lane = self.queues.get_mut(&job.shape.queue).expect("a live job's queue has a lane");
        lane.remove(job, status);
        let lane_is_empty = lane.by_status.is_empty();
        match status {
            Status::Queued => lane.remove_ready(job, &mut self.limits),
            Status::Reserved | Status::Running | Status::Canceling => self.remove_held(job),
            Status::Delayed | Status::Blocked | Status::Buried => {}
            Status::Success | Status::Error | Status::Canceled => panic!("job {} is final and not live", job.id),
        }
        if lane_is_empty {
            self.queues.remove(&job.shape.queue);
        }
        if let Some(due) = job.due() {
            self.due.remove(&(due, job.id));
        }
        if let (Status::Delayed, Hold::RunAt(at)) = (status, &job.hold) {
            self.run_at.remove(&(*at, job.id));
        }
        if let Some(unique) = &job.more().unique {
            self.unique.remove(unique);
        }
    }

    fn insert_held(&mut self, job: &Job) {
        let lease = job.lease().expect("these statuses have a lease");
        entry(&mut self.held, &lease.holder).insert(job.id);
        if lease.deadline.is_none() {
            self.pool.insert(job.id);
        }
        for limit in job.limits() {
            entry(&mut self.limits, limit).running += 1;
        }
    }

    fn remove_held(&mut self, job: &Job) {
        let lease = job.lease().expect("these statuses have a lease");
        let held = self.held.get_mut(&lease.holder).expect("who has a lease is known to hold it");
        held.remove(&job.id);
        if held.is_empty() {
            self.held.remove(&lease.holder);
        }
        if lease.deadline.is_none() {
            self.pool.remove(&job.id);
        }
        for limit in job.limits() {
            let used = self.limits.get_mut(limit).expect("a held job is counted by its limits");
            used.running -= 1;
            if used.is_empty() {
                self.limits.remove(limit);
            }
        }
    }

    /// The queue's ready shapes.
    pub fn ready(&self, queue: &str) -> impl Iterator<Item = (&ShapeKey, &ByUrgency)> {
        self.queues.get(queue).into_iter().flat_map(|lane| &lane.ready)
    }

    /// The most urgent ready job of a shape.
    pub fn head(&self, key: &ShapeKey) -> Option<(Priority, JobId)> {
        self.queues.get(&key.1.queue)?.ready.get(key)?.first()
    }

    pub fn running(&self, limit: &str) -> u32 {
        self.limits.get(limit).map_or(0, |used| used.running)
    }

    /// Limit groups that live jobs use.
    pub fn limits_in_use(&self) -> impl Iterator<Item = (&Arc<str>, u32)> {
        self.limits.iter().map(|(name, used)| (name, used.running))
    }

    /// Queues in which ready jobs wait for room in `limit`.
    pub fn waiting_for(&self, limit: &str) -> impl Iterator<Item = &Arc<str>> {
        self.limits.get(limit).into_iter().flat_map(|used| used.waiting.keys())
    }

    pub fn unique(&self, key: &str) -> Option<JobId> {
        self.unique.get(key).copied()
    }

    /// The earliest lease deadline or delay.
    pub fn first_due(&self) -> Option<(ClusterMs, JobId)> {
        self.due.first().copied()
    }

    pub fn first_run_at(&self) -> Option<(WallMs, JobId)> {
        self.run_at.first().copied()
    }

    /// Jobs under leases without a deadline.
    pub fn pool(&self) -> &BTreeSet<JobId> {
        &self.pool
    }

    /// Jobs that a worker holds, whatever its host and process.
    pub fn held_by(&self, worker: &str) -> impl Iterator<Item = JobId> {
        let first = Holder { worker: worker.into(), host: "".into(), pid: 0, office: None };
        let held = self.held.range(Arc::new(first)..).take_while(move |(holder, _)| *holder.worker == *worker);
        held.flat_map(|(_, ids)| ids).copied()
    }

    pub fn queues(&self) -> impl ExactSizeIterator<Item = (&Arc<str>, &Lane)> {
        self.queues.iter()
    }

    pub fn lane(&self, queue: &str) -> Option<&Lane> {
        self.queues.get(queue)
    }
}

type Limits = BTreeMap<Arc<str>, LimitUse>;

impl Lane {
    fn remove(&mut self, job: &Job, status: Status) {
        let ids = self.by_status.get_mut(&status).expect("a live job stands under its status");
        ids.remove(job.id);
        if ids.is_empty() {
            self.by_status.remove(&status);
        }
    }

    fn insert_ready(&mut self, job: &Job, limits: &mut Limits) {
        let key = (job.current_op().kind.clone(), job.shape.clone());
        if let Some(ready) = self.ready.get_mut(&key) {
            ready.insert(job.priority(), job.id);
            return;
        }
        self.ready.entry(key).or_default().insert(job.priority(), job.id);
        for limit in job.limits() {
            let used = entry(limits, limit);
            *entry(&mut used.waiting, &job.shape.queue) += 1;
        }
    }

    fn remove_ready(&mut self, job: &Job, limits: &mut Limits) {
        let key = (job.current_op().kind.clone(), job.shape.clone());
        let ready = self.ready.get_mut(&key).expect("a queued job stands in its shape's set");
        ready.remove(job.priority(), job.id);
        if !ready.is_empty() {
            return;
        }
        self.ready.remove(&key);
        for limit in job.limits() {
            let used = limits.get_mut(limit).expect("a waiting shape is known to its limits");
            let shapes = used.waiting.get_mut(&job.shape.queue).expect("a waiting shape is known to its limits");
            *shapes -= 1;
            if *shapes == 0 {
                used.waiting.remove(&job.shape.queue);
            }
            if used.is_empty() {
                limits.remove(limit);
            }
        }
    }

    pub fn count(&self, status: Status) -> usize {
        self.by_status.get(&status).map_or(0, Ids::len)
    }

    /// Jobs of this status, from `from` on, in the order of their ids.
    pub fn ids(&self, status: Status, from: JobId) -> impl Iterator<Item = JobId> {
        self.by_status.get(&status).into_iter().flat_map(move |ids| ids.since(from))
    }

    pub fn ready(&self) -> &BTreeMap<ShapeKey, ByUrgency> {
        &self.ready
    }
}

/// `map.entry(key).or_default()` that clones the key only when it is new.
fn entry<'a, K: ?Sized + Ord, V: Default>(map: &'a mut BTreeMap<Arc<K>, V>, key: &Arc<K>) -> &'a mut V {
    if !map.contains_key(key) {
        map.insert(key.clone(), V::default());
    }
    map.get_mut(key).expect("it was put there a line ago")
}
