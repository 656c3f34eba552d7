//! A restore: what was held is lost, and no number is given twice.

use raftq::queue::{Restoration, command::Clocks, ids::JobId, job::Office};

use super::Model;

impl Model {
    /// The state of a backup becomes the first one of a new timeline, in which nobody holds anything.
    pub fn restore(&mut self, restoration: &Restoration) {
        let clocks = Clocks { cluster: self.now.cluster, wall: restoration.wall };
        self.begin(restoration.index, clocks, Office::default());
        self.last_job = self.last_job.max(restoration.last_job);
        self.last_lease = self.last_lease.max(restoration.last_lease);
        if restoration.paused {
            self.paused.insert("".into());
        }
        let ids: Vec<JobId> = self.jobs.keys().copied().collect();
        for id in ids {
            if let Some((op, lease)) = self.jobs[&id].held().map(|(op, lease)| (op, lease.clone())) {
                self.lose(id, op, &lease);
            }
        }
        self.bury_stirred();
        self.wake_all();
    }
}
