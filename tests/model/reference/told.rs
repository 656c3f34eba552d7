//! What an entry tells those who wait, beside its answers: the effects, as far as the contract fixes them. In which order
//! verbs within one request tell it, and how often, is left to the implementation.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use raftq::queue::{
    applied::ScheduleNews,
    ids::{JobId, LeaseId},
    job::{CancelSignal, Needs, Status},
};

use super::Model;

/// What somebody who asks for nothing in particular could claim, and who has how much to give.
pub type Claimable = BTreeMap<JobId, Needs>;

#[derive(Clone, Debug, Default)]
pub struct Told {
    /// How things stood before the entry.
    pub statuses: BTreeMap<JobId, Status>,
    pub claimable: Claimable,
    pub last_job: JobId,
    /// Jobs whose status, version, log or progress changed. That one is archived is no news to who waits: it had ended.
    pub news: BTreeSet<JobId>,
    /// Who was asked to stop, and how hard, in this order.
    pub stops: Vec<(JobId, LeaseId, CancelSignal)>,
    /// Leases that ended by other means than their holders' own calls.
    pub leases_ended: BTreeSet<(JobId, LeaseId)>,
    pub removed: BTreeSet<JobId>,
    pub schedules: Vec<(Arc<str>, ScheduleNews)>,
    /// Whoever obeys settings is to look again.
    pub settings: bool,
}

impl Model {
    /// Nothing has been told yet of the entry that begins.
    pub(super) fn begin_telling(&mut self) {
        self.told = Told {
            statuses: self.jobs.values().map(|job| (job.id, job.status())).collect(),
            claimable: self.claimable(),
            last_job: self.last_job,
            ..Told::default()
        };
    }

    pub fn claimable(&self) -> Claimable {
        let ready = self.live().filter(|job| job.status() == Status::Queued);
        let free = ready.filter(|job| !self.is_paused(&job.spec.queue) && self.limits_have_room(job));
        free.map(|job| (job.id, self.needs(job))).collect()
    }
}
