//! What time does: leases end, delays end, names are dropped. Only a tick fires them; every other entry carries the
//! clocks and fires nothing, so that what arrived before an expiry is served before it (design 2.1).

use raftq::queue::{
    applied::Answer,
    command::Report,
    ids::{ClusterMs, JobId, WallMs},
    job::{Hold, LeaseEnd, Office},
};

use super::{
    Model,
    job::{Job, Lasting, Lease, OpStatus},
};

/// Leases, delays, times to run, archivings: no tick does more of them, and the next one goes on.
const PIECE: usize = 2_048;

fn cluster_deadline(job: &Job) -> Option<ClusterMs> {
    match (job.held(), &job.hold.hold) {
        (Some((_, lease)), _) => lease.deadline,
        (None, Hold::Delayed(until)) => Some(*until),
        (None, _) => None,
    }
}

fn time_to_run(job: &Job) -> Option<WallMs> {
    match job.hold.hold {
        Hold::RunAt(at) => Some(at),
        _ => None,
    }
}

impl Model {
    /// What the cluster clock ends, then what it means for those who wait, then what the wall clock does.
    pub(super) fn tick(&mut self, hold_wall: bool) -> Answer {
        let mut left = PIECE;
        for id in self.first_due(&mut left, cluster_deadline, self.now.cluster) {
            self.expire_lease(id);
            self.end_hold(id);
        }
        self.bury_stirred();
        self.drop_unused_names();
        self.expire_workers();
        left -= self.bury_impossible();
        if !hold_wall {
            for id in self.first_due(&mut left, time_to_run, self.now.wall) {
                self.end_hold(id);
            }
            self.bury_stirred();
            self.keep_policy(left);
        }
        Answer::Done
    }

    /// The earliest of the jobs that are due by now, at most as many as are left of the piece.
    fn first_due<T: Ord>(&self, left: &mut usize, deadline: fn(&Job) -> Option<T>, now: T) -> Vec<JobId> {
        let mut due: Vec<(T, JobId)> = self.jobs.values().filter_map(|job| Some((deadline(job)?, job.id))).collect();
        due.retain(|(at, _)| *at <= now);
        due.sort();
        due.truncate(*left);
        *left -= due.len();
        due.into_iter().map(|(_, id)| id).collect()
    }

    fn end_hold(&mut self, id: JobId) {
        let job = self.jobs.get_mut(&id).expect("it was listed a moment ago");
        if let Hold::Delayed(_) | Hold::RunAt(_) = job.hold.hold {
            job.hold = Lasting::exactly(Hold::None);
            self.changed(id);
            self.settle(id);
        }
    }

    /// The operator's rules for what has ended: strictly older is archived; archived and strictly older is deleted.
    fn keep_policy(&mut self, piece: usize) {
        let now = self.now.wall.0;
        let old = |job: &Job, age: Option<u64>| {
            let end = job.ended_at.filter(|end| age.is_some_and(|age| end.0.saturating_add(age) < now))?;
            Some((end, job.id))
        };
        let first = |due: Vec<(WallMs, JobId)>| {
            let mut due = due;
            due.sort();
            due.into_iter().take(piece).map(|(_, id)| id)
        };
        let (archive_after, delete_after) = (self.settings.archive_after_ms, self.settings.delete_after_ms);
        let fresh = self.jobs.values().filter(|job| !job.archived);
        for id in first(fresh.filter_map(|job| old(job, archive_after)).collect()) {
            self.archive(id).expect("it has ended");
        }
        let archived = self.jobs.values().filter(|job| job.archived);
        first(archived.filter_map(|job| old(job, delete_after)).collect()).for_each(|id| self.remove(id));
    }

    fn expire_lease(&mut self, id: JobId) {
        let now = self.now.cluster;
        let held = self.jobs[&id].held().map(|(op, lease)| (op, lease.clone()));
        match held {
            Some((op, lease)) if lease.deadline.is_some_and(|deadline| deadline <= now) => self.lose(id, op, &lease),
            _ => {}
        }
    }

    /// Only reserved: queued again, nothing counted. Started: lost, and run again or failed as the spec says.
    pub(super) fn lose(&mut self, id: JobId, op: usize, lease: &Lease) {
        self.remember_started(id, op, "lost_contact", &Report::default());
        self.told.leases_ended.insert((id, lease.id));
        if self.ends_canceled(id, op, lease, LeaseEnd::Expired) {
            return;
        }
        let job = self.end_lease(id, op, lease, LeaseEnd::Expired);
        let started = matches!(job.ops[op].status, OpStatus::Running(_));
        if lease.cancel_after {
            return self.end_all(id, &OpStatus::Canceled);
        }
        if started {
            return self.lose_once(id, op);
        }
        job.ops[op].status = OpStatus::Queued;
        self.changed(id);
    }

    /// Run again as often as the spec allows, and else by `on_failure`.
    pub(super) fn lose_once(&mut self, id: JobId, op: usize) {
        let job = self.jobs.get_mut(&id).expect("its lease was found");
        job.ops[op].lost += 1;
        if !job.spec.policy.rerun_on_loss || job.ops[op].lost > job.spec.policy.lost_limit {
            return self.fail_for_good(id, op);
        }
        job.ops[op].status = OpStatus::Queued;
        self.changed(id);
    }

    /// The first entry of a later term by another node, or another life of the same one, gives the leases of the earlier
    /// pool a deadline (design 2.3).
    pub(super) fn enter_office(&mut self, office: Office) {
        self.office = office;
        let deadline = self.now.cluster.after(self.pool.timeout_ms);
        for lease in self.jobs.values_mut().flat_map(|job| &mut job.ops).filter_map(super::job::Op::lease_mut) {
            let granted_by_other = (lease.office).is_some_and(|by| {
                by.term < office.term && (by.node, by.incarnation) != (office.node, office.incarnation)
            });
            if granted_by_other && lease.deadline.is_none() {
                lease.deadline = Some(deadline);
            }
        }
    }
}
