//! The read side: what can be asked of the state without changing it.
//!
//! Counts are lengths of indexes, lists are walks along them in bounded pieces. A job that has ended is a row, and whoever
//! asks for it reads that ([`super::rows::Rows`]).

use std::{collections::BTreeMap, fmt, sync::Arc};

use super::{
    ids::{JobId, Priority, WallMs},
    job::{Dep, Hold, Job, Status},
    needs::Learned,
    ops::{impossible, worker::Offer},
    order::Lane,
    rows::{Counters, Worker},
    schedule::Schedules,
    settings::{Drain, Settings},
    state::State,
    totals::Totals,
};

/// What keeps a live job waiting, beyond its status (design 2: `held_by`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HeldBy {
    Worker(Box<str>),
    /// [`State::ready_at`] says until when.
    Delay,
    RunAt,
    Job(JobId),
    Buried,
    QueuePaused,
    AllPaused,
    Limit {
        name: Arc<str>,
        max: u32,
    },
    PoolInactive,
    /// The pool does not take such jobs, and others need not say that they are there.
    NoWorker,
    NoFittingWorker,
}

impl fmt::Display for HeldBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HeldBy::Worker(worker) => write!(f, "held by worker {worker}"),
            HeldBy::Delay => f.write_str("its delay or back-off is not over"),
            HeldBy::RunAt => f.write_str("its time has not come"),
            HeldBy::Job(id) => write!(f, "waits for job {id}"),
            HeldBy::Buried => f.write_str("buried; kick it to run it again"),
            HeldBy::QueuePaused => f.write_str("its queue is paused"),
            HeldBy::AllPaused => f.write_str("all queues are paused"),
            HeldBy::Limit { name, max } => write!(f, "limit group {name} is full ({max})"),
            HeldBy::PoolInactive => f.write_str("the pool is inactive or of size 0"),
            HeldBy::NoWorker => {
                f.write_str("the pool takes no jobs of its queue and kind, and no worker is known that may")
            }
            HeldBy::NoFittingWorker => f.write_str("no known worker has what it needs"),
        }
    }
}

/// Which live jobs to list.
#[derive(Clone, Copy, Debug, Default)]
pub struct Listing<'a> {
    pub queue: Option<&'a str>,
    pub status: Option<Status>,
}

impl State {
    /// A live job.
    pub fn job(&self, id: JobId) -> Option<&Job> {
        self.live.get(&id).map(|job| &**job)
    }

    pub fn live_count(&self) -> usize {
        self.live.len()
    }

    /// Live jobs in the order of their ids, those after `after`.
    pub fn jobs_after(&self, after: JobId) -> impl Iterator<Item = &Job> {
        self.live.range(JobId(after.0.saturating_add(1))..).map(|(_, job)| &**job)
    }

    /// At most `limit` ids after `after`, in order. Costs the queues and statuses that are merged, and the page.
    pub fn ids(&self, wanted: Listing, after: JobId, limit: usize) -> Vec<JobId> {
        if let Listing { queue: None, status: None } = wanted {
            return self.jobs_after(after).take(limit).map(|job| job.id).collect();
        }
        let from = JobId(after.0.saturating_add(1));
        let lanes: Vec<&Lane> = match wanted.queue {
            Some(queue) => self.order.lane(queue).into_iter().collect(),
            None => self.order.queues().map(|(_, lane)| lane).collect(),
        };
        let statuses = Status::ALL.into_iter().filter(|status| wanted.status.is_none_or(|wanted| wanted == *status));
        let mut ids: Vec<JobId> = Vec::new();
        for status in statuses {
            ids.extend(lanes.iter().flat_map(|lane| lane.ids(status, from).take(limit)));
        }
        ids.sort_unstable();
        ids.truncate(limit);
        ids
    }

    /// At most `limit` ready jobs of a queue after `after`, the most urgent first.
    pub fn ready_after(&self, queue: &str, after: Option<(Priority, JobId)>, limit: usize) -> Vec<(Priority, JobId)> {
        let mut ready: Vec<(Priority, JobId)> = Vec::new();
        for (_, jobs) in self.order.ready(queue) {
            match after {
                Some((priority, id)) => {
                    ready.extend(jobs.since(priority, JobId(id.0.saturating_add(1))).take(limit));
                }
                None => ready.extend(jobs.iter().take(limit)),
            }
        }
        ready.sort_unstable();
        ready.truncate(limit);
        ready
    }

    /// Queues with live jobs, with their counts in the order of [`Status::ALL`].
    pub fn queues(&self) -> impl Iterator<Item = (&Arc<str>, [usize; Status::ALL.len()])> {
        self.order.queues().map(|(name, lane)| (name, Status::ALL.map(|status| lane.count(status))))
    }

    /// How many jobs of a queue a claim could look at.
    pub fn ready_count(&self, queue: &str) -> usize {
        self.order.lane(queue).map_or(0, |lane| lane.count(Status::Queued))
    }

    /// Live jobs of each status, over all queues.
    pub fn counts(&self) -> [usize; Status::ALL.len()] {
        let mut counts = [0; Status::ALL.len()];
        for (_, of_queue) in self.queues() {
            counts.iter_mut().zip(of_queue).for_each(|(count, more)| *count += more);
        }
        counts
    }

    /// Jobs that this one waits for now.
    pub fn blocked_by(&self, id: JobId) -> Vec<JobId> {
        let Some(job) = self.job(id).filter(|job| job.status() == Status::Blocked) else { return Vec::new() };
        let current = job.current();
        let open = self.waits.of(id).iter().filter(|dep| dep.op as usize == current && dep.is_open());
        open.map(|dep| dep.on).collect()
    }

    /// Every dependency of a live job, with the outcomes known so far.
    pub fn dependencies(&self, id: JobId) -> &[Dep] {
        self.waits.of(id)
    }

    /// Why a live job is not running.
    pub fn held_by(&self, id: JobId) -> Vec<HeldBy> {
        let Some(job) = self.job(id) else { return Vec::new() };
        if let Some(lease) = job.lease() {
            return vec![HeldBy::Worker(lease.holder.worker.clone())];
        }
        match job.hold {
            Hold::None => self.obstacles(job),
            Hold::Delayed(_) => vec![HeldBy::Delay],
            Hold::RunAt(_) => vec![HeldBy::RunAt],
            Hold::Blocked => self.blocked_by(id).into_iter().map(HeldBy::Job).collect(),
            Hold::Buried => vec![HeldBy::Buried],
        }
    }

    /// When a delayed job will be queued, on the wall clock of the last entry. A delay runs on the cluster's, so this moves
    /// with every moment that has no leader.
    pub fn ready_at(&self, id: JobId) -> Option<WallMs> {
        let now = self.position().clocks;
        match self.job(id)?.hold {
            Hold::Delayed(until) => Some(WallMs(now.wall.0.saturating_add(until.0.saturating_sub(now.cluster.0)))),
            Hold::RunAt(at) => Some(at),
            Hold::None | Hold::Blocked | Hold::Buried => None,
        }
    }

    fn obstacles(&self, job: &Job) -> Vec<HeldBy> {
        let mut obstacles = Vec::new();
        if self.is_paused_all() {
            obstacles.push(HeldBy::AllPaused);
        } else if self.is_paused(&job.shape.queue) {
            obstacles.push(HeldBy::QueuePaused);
        }
        for name in job.limits() {
            let max = self.limits.get(name).copied().filter(|max| self.order.running(name) >= *max);
            obstacles.extend(max.map(|max| HeldBy::Limit { name: name.clone(), max }));
        }
        obstacles.extend(self.lacks_worker(job));
        obstacles
    }

    fn lacks_worker(&self, job: &Job) -> Option<HeldBy> {
        let is_for_pool = impossible::is_for_pool(self, &job.current_op().kind, &job.shape);
        let pool_works = self.pool.active && self.pool.size > 0;
        let pool_is_known = self.workers.offers().any(|offer| offer.is_pool);
        let needs = self.needs(&job.shape);
        let fits = |offer: &Offer| offer.resources.is_none_or(|free| free.fits(&needs));
        let by_pool = is_for_pool && pool_works;
        if by_pool && !pool_is_known || impossible::offers(self, by_pool).any(fits) {
            return None;
        }
        let is_anybody_known = impossible::offers(self, by_pool).next().is_some();
        Some(match is_for_pool && !pool_works {
            true => HeldBy::PoolInactive,
            false if is_anybody_known => HeldBy::NoFittingWorker,
            false => HeldBy::NoWorker,
        })
    }

    /// Jobs that a worker holds.
    pub fn held(&self, worker: &str) -> impl Iterator<Item = JobId> {
        self.order.held_by(worker)
    }

    /// The live job with this unique key.
    pub fn unique(&self, key: &str) -> Option<JobId> {
        self.order.unique(key)
    }

    /// Leases that have no deadline: the pool's.
    pub fn pool_running(&self) -> usize {
        self.order.pool().len()
    }

    pub fn drain(&self) -> &Drain {
        &self.drain
    }

    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Jobs that have ended and are not archived.
    pub fn ended_count(&self) -> u64 {
        self.history.ended()
    }

    /// Whether all queues are paused together.
    pub fn is_paused_all(&self) -> bool {
        self.paused.contains("")
    }

    /// Queues that are paused by name.
    pub fn paused(&self) -> impl Iterator<Item = &Arc<str>> {
        self.paused.iter().filter(|name| !name.is_empty())
    }

    /// Limit groups that have a ceiling or are in use: ceiling, and how many run.
    pub fn limits(&self) -> BTreeMap<&Arc<str>, (Option<u32>, u32)> {
        let in_use = self.order.limits_in_use().map(|(name, running)| (name, (None, running)));
        let mut limits: BTreeMap<_, _> = in_use.collect();
        for (name, max) in &self.limits {
            limits.entry(name).or_default().0 = Some(*max);
        }
        limits
    }

    pub fn workers(&self) -> &BTreeMap<Arc<str>, Worker> {
        self.workers.known()
    }

    pub fn totals(&self) -> &Totals {
        &self.totals
    }

    pub fn schedules(&self) -> &Schedules {
        &self.schedules
    }

    /// What resource groups have needed; those that have not run yet are among them.
    pub fn learned(&self) -> &BTreeMap<Arc<str>, Learned> {
        &self.learned
    }

    /// Idempotency names in use.
    pub fn key_names(&self) -> usize {
        self.keys.names()
    }
}
