//! Who runs jobs, as far as is known; and by policy, no job waits for a machine that nobody has.

use std::sync::Arc;

use raftq::queue::{
    applied::Answer,
    command::{Free, WorkerChange},
    ids::{ClusterMs, JobId, WallMs},
    job::{Hold, Json, Needs, Status},
    query::HeldBy,
    refusal::Refusal,
};

use super::{
    Model,
    job::{Job, Lasting},
};

/// A day is the longest.
const TTL_MS_MAX_AND_MORE: u64 = 86_400_001;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Worker {
    /// `None`: the machine of a member's pool, which stays known until it is removed.
    pub expires: Option<ClusterMs>,
    /// `None`: it does not say what it has.
    pub has: Option<Free>,
    pub info: Json,
    pub seen_at: WallMs,
}

impl Worker {
    fn is_pool(&self) -> bool {
        self.expires.is_none()
    }

    /// Whoever does not say what it has might hold anything.
    fn holds(&self, needs: &Needs) -> bool {
        self.has.is_none_or(|has| fits(needs, &has))
    }
}

/// What is not said is boundless.
pub fn fits(needs: &Needs, free: &Free) -> bool {
    let within = |need: u64, free: Option<u64>| free.is_none_or(|free| need <= free);
    within(needs.cores_milli.into(), free.cores_milli)
        && within(needs.ram_mb, free.ram_mb)
        && within(needs.disk_mb, free.disk_mb)
        && within(needs.time_s, free.time_s)
}

impl Model {
    pub(super) fn worker(&mut self, change: &WorkerChange) -> Answer {
        let seen_at = self.now.wall;
        match change {
            WorkerChange::Put { ttl_ms: 0 | TTL_MS_MAX_AND_MORE.., .. } => {
                return Answer::Refused(Refusal::invalid("ttl_ms", ""));
            }
            WorkerChange::Put { id, .. } if self.workers.get(id).is_some_and(Worker::is_pool) => {
                return Answer::Refused(Refusal::Conflict { message: "".into() });
            }
            WorkerChange::Put { id, ttl_ms, resources, info } => {
                let expires = Some(self.now.cluster.after(*ttl_ms));
                self.workers.insert(id.clone(), Worker { expires, has: *resources, info: info.clone(), seen_at });
            }
            WorkerChange::Pool { id, resources, info } => {
                let (has, info) = (Some(*resources), info.clone());
                self.workers.insert(id.clone(), Worker { expires: None, has, info, seen_at });
            }
            WorkerChange::Remove { id } => {
                if self.workers.remove(id).is_none() {
                    return Answer::Refused(Refusal::NoWorker { name: (&**id).into() });
                }
                self.told.settings = true;
            }
        }
        Answer::Done
    }

    pub(super) fn expire_workers(&mut self) {
        let now = self.now.cluster;
        let before = self.workers.len();
        self.workers.retain(|_, worker| worker.expires.is_none_or(|expires| expires > now));
        self.told.settings |= self.workers.len() < before;
    }

    /// A job that becomes ready is buried at once if no known worker can ever hold it. What becomes of workers, needs and
    /// settings afterwards is seen by the next tick.
    pub(super) fn bury_stirred(&mut self) {
        let stirred = std::mem::take(&mut self.stirred);
        for id in stirred {
            self.found_impossible[0] += u32::from(self.bury_if_impossible(id));
        }
        self.stirred.clear();
    }

    /// Says how many.
    pub(super) fn bury_impossible(&mut self) -> usize {
        let live: Vec<JobId> = self.live().map(|job| job.id).collect();
        let found = live.into_iter().filter(|id| self.bury_if_impossible(*id)).count();
        self.found_impossible[1] += found as u32;
        self.stirred.clear();
        found
    }

    fn bury_if_impossible(&mut self, id: JobId) -> bool {
        let job = self.jobs.get(&id).filter(|job| job.status() == Status::Queued);
        let found = self.settings.bury_impossible && job.is_some_and(|job| self.is_impossible(job));
        if found {
            let op = self.jobs[&id].current();
            self.remember_unrun(id, op, "resources_impossible", None);
            self.jobs.get_mut(&id).expect("it was found a moment ago").hold = Lasting::exactly(Hold::Buried);
            self.changed(id);
        }
        found
    }

    /// Where nobody is known who might take it, nothing is known; a pool that might, but has never led, is such a one.
    fn is_impossible(&self, job: &Job) -> bool {
        let with_pool = self.is_for_pool(job) && self.pool.size > 0;
        let mut takers = self.takers(with_pool).peekable();
        let needs = self.needs(job);
        let pool_is_known = self.workers.values().any(Worker::is_pool);
        takers.peek().is_some() && (!with_pool || pool_is_known) && !takers.any(|worker| worker.holds(&needs))
    }

    fn is_for_pool(&self, job: &Job) -> bool {
        let kind = &*job.spec.ops[job.current()].kind;
        matches!(kind, "exec" | "sleep") && self.pool.queues.contains(&job.spec.queue)
    }

    fn takers(&self, with_pool: bool) -> impl Iterator<Item = &Worker> {
        self.workers.values().filter(move |worker| with_pool || !worker.is_pool())
    }

    /// Why a live job does not run.
    pub fn held_by(&self, job: &Job) -> Vec<HeldBy> {
        if let Some((_, lease)) = job.held() {
            return vec![HeldBy::Worker(lease.worker.clone())];
        }
        match job.hold.hold {
            Hold::None => self.obstacles(job),
            Hold::Delayed(_) => vec![HeldBy::Delay],
            Hold::RunAt(_) => vec![HeldBy::RunAt],
            Hold::Blocked => {
                let open = job.depends[job.current()].iter().filter(|latch| latch.outcome.is_none());
                open.map(|latch| HeldBy::Job(latch.on)).collect()
            }
            Hold::Buried => vec![HeldBy::Buried],
        }
    }

    fn obstacles(&self, job: &Job) -> Vec<HeldBy> {
        let mut obstacles = Vec::new();
        if self.paused.contains("") {
            obstacles.push(HeldBy::AllPaused);
        } else if self.is_paused(&job.spec.queue) {
            obstacles.push(HeldBy::QueuePaused);
        }
        let mut groups: Vec<Arc<str>> = job.spec.limits.iter().map(|(name, _)| name.clone()).collect();
        groups.sort();
        groups.dedup();
        let full = groups.into_iter().filter(|name| !self.has_room(name));
        obstacles.extend(full.map(|name| HeldBy::Limit { max: self.limits[&name], name }));
        obstacles.extend(self.lacks_worker(job));
        obstacles
    }

    /// A pool that works, and whose machine is not known yet, may take anything.
    fn lacks_worker(&self, job: &Job) -> Option<HeldBy> {
        let (is_for_pool, works) = (self.is_for_pool(job), self.pool.active && self.pool.size > 0);
        let is_known = self.workers.values().any(Worker::is_pool);
        let needs = self.needs(job);
        let has_taker = self.takers(is_for_pool && works).any(|worker| worker.holds(&needs));
        match (has_taker, is_for_pool) {
            (true, _) => None,
            (false, true) if !works => Some(HeldBy::PoolInactive),
            (false, true) if !is_known => None,
            (false, _) if self.takers(is_for_pool && works).next().is_none() => Some(HeldBy::NoWorker),
            (false, _) => Some(HeldBy::NoFittingWorker),
        }
    }
}
