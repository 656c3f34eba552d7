//! restore: the first entry of a new timeline, before anybody can ask for anything.
//!
//! A restore goes back in time, and the world does not go along: after the backup was taken the old cluster gave ids and
//! leases that this state knows nothing of. So both counters jump past whatever can have been given (P2, P3), and no lease
//! outlives the timeline it was granted in: it ends as if it had run out, because its holder may have finished, or been
//! replaced, in a future that is gone.

use crate::queue::{
    command::{Clocks, Entry},
    ids::{Index, JobId, LeaseId, WallMs},
    job::Office,
    ops::{expire, pause},
    rows::Rows,
    state::State,
    step::Step,
    waits,
};

/// Where the new timeline begins. It is no command: nobody can propose it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Restoration {
    pub index: Index,
    pub wall: WallMs,
    /// Nothing at or below these is given from now on.
    pub last_job: JobId,
    pub last_lease: LeaseId,
    /// No claims from any queue until an operator resumes them.
    pub paused: bool,
}

impl State {
    /// Makes of the state of a backup the first one of a new timeline; says how many leases ended with the old one.
    pub fn restore(&mut self, rows: &dyn Rows, restoration: &Restoration) -> u64 {
        let Restoration { index, wall, last_job, last_lease, paused } = *restoration;
        // The cluster clock stood still since the backup, as it does whenever nobody leads.
        let clocks = Clocks { cluster: self.position().clocks.cluster, wall };
        let entry = Entry { clocks, office: Office::default(), requests: Vec::new() };
        let mut step = Step::begin(self, rows, index, &entry);
        let counters = &mut step.state.counters;
        counters.last_job = counters.last_job.max(last_job);
        counters.last_lease = counters.last_lease.max(last_lease);
        if paused {
            pause::pause(&mut step, None, true);
        }
        let ended = end_leases(&mut step);
        waits::wake(&mut step);
        step.end();
        self.history.refresh(&self.changes, rows);
        ended
    }
}

fn end_leases(step: &mut Step) -> u64 {
    let held: Vec<JobId> = step.state.live.values().filter(|job| job.lease().is_some()).map(|job| job.id).collect();
    let ended = held.len() as u64;
    for id in held {
        expire::expire_lease(step, id);
    }
    ended
}
