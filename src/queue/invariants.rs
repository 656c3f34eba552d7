//! What must hold after every entry. Run after each step in tests and simulation, and when a snapshot is installed.
//!
//! Derived indexes are computed anew from the live jobs and compared whole, so an index that a change forgot is found at
//! the step that forgot it.

use super::{
    intern::Interner,
    job::{Hold, Job, OpStatus, Status},
    order::Order,
    state::State,
};

/// # Panics
/// Where the state contradicts itself. The state is replicated, so this is a bug and never an input.
pub fn check(state: &State) {
    let mut order = Order::default();
    for (id, job) in &state.live {
        assert_eq!(*id, job.id, "a live job stands under its id");
        check_job(state, job);
        order.insert(job);
    }
    assert_eq!(order, state.order, "the order is that of the live jobs");
    check_shared(state);
    state.waits.check(&state.live);
    for (name, max) in &state.limits {
        let running = state.order.running(name);
        // A ceiling may be lowered below what runs; those run on, so this is no equality.
        assert!(running as usize <= state.live.len(), "limit {name} ({max}) counts more leases than jobs");
    }
}

fn check_job(state: &State, job: &Job) {
    let (id, status, counters) = (job.id, job.status(), &state.counters);
    assert!(!status.is_final(), "job {id} is {} and still live", status.name());
    assert!(job.ended_at.time().is_none(), "job {id} is live and has an end");
    assert!(!job.archived, "job {id} is live and archived");
    assert!((1..=counters.last_job.0).contains(&id.0), "job {id} has an id that was never given");
    assert!(job.version <= counters.position.index, "job {id} changed in an entry that is yet to come");
    let held: Vec<&OpStatus> = job.ops.iter().map(|op| &op.status).filter(|op| op.lease().is_some()).collect();
    assert!(held.len() <= 1, "job {id} has {} leases", held.len());
    for lease in held.iter().filter_map(|op| op.lease()) {
        assert!(lease.id <= counters.last_lease, "job {id} has a lease that was never granted");
        assert!(lease.deadline.is_some() || lease.holder.office.is_some(), "job {id} is held for ever");
        assert_eq!(job.hold, Hold::None, "job {id} is held, and on hold");
    }
    let current = job.current();
    let successes_first = job.ops[..current].iter().all(|op| op.status == OpStatus::Success);
    let rest_waits = job.ops[current + 1..].iter().all(|op| op.status == OpStatus::Queued);
    assert!(successes_first && rest_waits, "the ops of job {id} do not run in order");
}

fn check_shared(state: &State) {
    let mut fresh = super::state::Shared::default();
    for job in state.live.values() {
        fresh.adopt(&mut Job::clone(job));
    }
    let same = fresh.shapes == state.shared.shapes && fresh.policies == state.shared.policies;
    assert!(same && fresh.words == state.shared.words, "shared values are counted as they are used");
}

impl super::waits::Waits {
    fn check(&self, live: &std::collections::BTreeMap<super::ids::JobId, Box<Job>>) {
        let mut fresh = Self::default();
        for id in live.keys().filter(|id| !self.of(**id).is_empty()) {
            fresh.add(*id, self.of(*id).into());
            let job = &live[id];
            assert!(job.more().waits, "job {id} has dependencies and does not say so");
            let open = self.of(*id).iter().any(|dep| dep.op as usize == job.current() && dep.is_open());
            assert!(!open || job.status() != Status::Queued, "job {id} is ready while it waits");
        }
        assert!(self.same_index(&fresh), "dependents are those of the live jobs");
    }
}

impl<T: ?Sized + Ord> PartialEq for Interner<T> {
    fn eq(&self, other: &Self) -> bool {
        self.uses().eq(other.uses())
    }
}

impl State {
    /// Whether two replicas are the same: everything but what is on its way to disk. Shared values are checked by [`check`].
    pub fn is_same(&self, other: &State) -> bool {
        // Named one by one, so that no field is forgotten.
        let State {
            counters,
            live,
            order,
            shared: _,
            keys,
            history,
            drain,
            pool,
            settings,
            paused,
            limits,
            workers,
            looks_again,
            environments,
            schedules,
            totals,
            waits,
            learned,
            fresh,
            granted,
            touched: _,
            changes: _,
        } = self;
        (counters, live, order, keys) == (&other.counters, &other.live, &other.order, &other.keys)
            && (fresh, granted) == (&other.fresh, &other.granted)
            && (history, totals, waits) == (&other.history, &other.totals, &other.waits)
            && (drain, pool, settings) == (&other.drain, &other.pool, &other.settings)
            && (paused, limits, learned) == (&other.paused, &other.limits, &other.learned)
            && (workers, looks_again) == (&other.workers, &other.looks_again)
            && (environments, schedules) == (&other.environments, &other.schedules)
    }
}
