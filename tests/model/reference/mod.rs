//! The queue once more, naively: written from `design.md` section 2 alone, never from the core's code.
//!
//! Jobs are a plain map that every question walks from end to end; there is no index, no order kept, nothing cached. What
//! it shares with the core are the contract types that carry no rule (specs, commands, answers). Where the design leaves
//! a number to the implementation (the jitter of a back-off) the model says a range and takes the core's number.
//! A disagreement between the two is a bug in one of them, and the design says in which.

mod attempts;
mod cancel;
mod children;
mod claim;
mod dependencies;
mod job;
mod keys;
mod leases;
mod limits;
mod needs;
mod operator;
mod plan;
mod registry;
mod restore;
mod schedules;
mod settings;
mod submit;
mod time;
mod told;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use raftq::queue::{
    applied::{Answer, JobBrief},
    command::{Clocks, Command, Entry, Request},
    ids::{Index, JobId, LeaseId},
    job::{Json, Office, Status},
    refusal::Refusal,
    settings::{Drain, Pool, Settings},
};

use dependencies::WAKES_PIECE;
use limits::{allow, wrong_request};

pub use dependencies::Latch;
pub use job::{Job, Lasting, Lease, Op, OpStatus};
pub use keys::Name;
pub use registry::Worker;
pub use schedules::Schedule;
pub use told::Told;

/// The whole queue.
#[derive(Clone, Debug, Default)]
pub struct Model {
    /// Every job that exists, whatever its status.
    pub jobs: BTreeMap<JobId, Job>,
    pub last_job: JobId,
    pub last_lease: LeaseId,
    pub index: Index,
    pub now: Clocks,
    pub office: Office,
    pub drain: Drain,
    pub pool: Pool,
    pub settings: Settings,
    /// Paused queues; the empty name stands for all.
    pub paused: BTreeSet<Arc<str>>,
    pub limits: BTreeMap<Arc<str>, u32>,
    pub schedules: BTreeMap<Arc<str>, Schedule>,
    pub workers: BTreeMap<Arc<str>, Worker>,
    /// By digest.
    pub environments: BTreeMap<u128, Json>,
    /// How the jobs of each queue have ended, as often as they did; those of forgotten queues under the empty name.
    pub totals: BTreeMap<Arc<str>, BTreeMap<Status, u64>>,
    learned: BTreeMap<Arc<str>, needs::Runs>,
    pub keys: BTreeMap<(Arc<str>, Arc<str>), Name>,
    /// Jobs that the request at hand has ended; their dependents hear when it is done, those of the oldest first, as far as
    /// the entry may. The next one goes on.
    pub ended: BTreeMap<JobId, Status>,
    /// How many dependents may hear of it in the entry at hand.
    wakes_left: usize,
    /// How many jobs nobody could hold: those that became ready, and those that were.
    pub found_impossible: [u32; 2],
    /// How many idempotency names were dropped so far.
    pub names_dropped: u32,
    /// Jobs that have changed, and at which the policy has not looked.
    stirred: BTreeSet<JobId>,
    /// What the entry at hand has told so far.
    pub told: Told,
    /// Who asks just now.
    principal: Arc<str>,
}

impl Model {
    /// Everything of an entry at once.
    pub fn apply(&mut self, index: Index, entry: &Entry) -> Vec<Answer> {
        self.begin(index, entry.clocks, entry.office);
        entry.requests.iter().map(|request| self.request(request)).collect()
    }

    /// What an entry does before its first request: the clocks, and the grace of an earlier office's pool.
    pub fn begin(&mut self, index: Index, clocks: Clocks, office: Office) {
        self.begin_telling();
        self.wakes_left = WAKES_PIECE;
        self.index = index;
        self.now = clocks;
        self.enter_office(office);
    }

    pub fn request(&mut self, request: &Request) -> Answer {
        self.principal = request.principal.clone();
        match &request.key {
            None => self.command(&request.command),
            Some(key) => self.under_key(key, &request.command),
        }
    }

    fn command(&mut self, command: &Command) -> Answer {
        let answer = self.verb(command);
        self.wake_all();
        answer
    }

    fn wake_all(&mut self) {
        while self.wakes_left > 0
            && let Some((id, status)) = self.ended.first_key_value()
        {
            self.wake_dependents(*id, *status);
        }
    }

    fn verb(&mut self, command: &Command) -> Answer {
        if let Err(refusal) = allow(wrong_request(command)) {
            return Answer::Refused(refusal);
        }
        match command {
            Command::Tick { hold_wall } => self.tick(*hold_wall),
            Command::Submit { jobs, atomic } => self.submit(jobs, *atomic),
            Command::Claim(claim) => match self.claim(claim) {
                Ok(claimed) => Answer::Claimed(claimed),
                Err(refusal) => Answer::Refused(refusal),
            },
            Command::Leases { items, claim } => self.leases(items, claim.as_ref()),
            Command::Cancel { ids, how, reason } => {
                self.each(ids, |model, id| model.cancel(id, *how, reason.as_deref()))
            }
            Command::Kick { ids } => self.each(ids, Model::kick),
            Command::Bury { ids, reason } => self.each(ids, |model, id| model.bury(id, reason.as_deref())),
            Command::Priority { ids, priority } => self.each(ids, |model, id| model.reprioritize(id, *priority)),
            Command::Archive { ids } => self.each(ids, Model::archive),
            Command::Autoarchive(which) => self.autoarchive(which),
            Command::Delete { ids } => self.delete(ids),
            Command::Edit { id, edit } => self.each(&[*id], |model, id| model.edit(id, edit)),
            Command::Drain { drained, reason } => self.set_drain(*drained, reason.clone()),
            Command::Pause { queue, paused } => self.set_pause(queue.clone(), *paused),
            Command::Pool(change) => self.set_pool(change),
            Command::Limit { name, max } => self.set_limit(name.clone(), *max),
            Command::Settings(change) => self.set_settings(change),
            Command::Piece { command, ids, next } => match self.verb(command) {
                Answer::Jobs(results) => Answer::Piece { ids: ids.clone(), results, next: *next },
                other => other,
            },
            Command::IfVersion { id, version, command } => match self.job(*id).map(|job| job.version) {
                Ok(now) if now == *version => self.verb(command),
                Ok(_) => Answer::Refused(Refusal::Conflict { message: "".into() }),
                Err(refusal) => Answer::Refused(refusal),
            },
            Command::Schedule(change) => self.schedule(change),
            Command::Forget { resource_group } => self.forget(resource_group),
            Command::ForgetQueue { queue } => self.forget_queue(queue),
            Command::Worker(change) => self.worker(change),
            Command::Environment { digest, value } => {
                self.environments.entry(*digest).or_insert_with(|| value.clone());
                Answer::Done
            }
        }
    }

    fn each(&mut self, ids: &[JobId], mut verb: impl FnMut(&mut Model, JobId) -> Result<JobBrief, Refusal>) -> Answer {
        let one = |id: &JobId| {
            let brief = verb(self, *id)?;
            self.bury_stirred();
            Ok(self.jobs.get(id).map_or(brief, |job| job.brief(brief.changed)))
        };
        Answer::Jobs(ids.iter().map(one).collect())
    }

    /// A job by id; what is not there is `not_found`, whichever verb asks.
    fn job(&mut self, id: JobId) -> Result<&mut Job, Refusal> {
        self.jobs.get_mut(&id).ok_or(Refusal::NotFound { id })
    }

    pub fn live(&self) -> impl Iterator<Item = &Job> {
        self.jobs.values().filter(|job| !job.status().is_final())
    }
}
