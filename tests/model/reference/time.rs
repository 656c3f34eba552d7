//! What time does: leases end, delays end, names are dropped. Only a tick fires them; every other entry carries the
//! clocks and fires nothing, so that what arrived before an expiry is served before it (design 2.1).

use raftq::queue::{
    applied::Answer,
    command::Clocks,
    ids::JobId,
    job::{Hold, LeaseEnd, Office},
};

use super::{
    Model,
    job::{Job, Lasting, Lease, OpStatus},
};

impl Model {
    /// What the cluster clock ends, then what it means for those who wait, then what the wall clock does.
    pub(super) fn tick(&mut self, hold_wall: bool) -> Answer {
        let ids: Vec<JobId> = self.jobs.keys().copied().collect();
        for id in &ids {
            self.expire_lease(*id);
            self.end_hold(*id, |hold, now| matches!(hold, Hold::Delayed(until) if *until <= now.cluster));
        }
        self.bury_stirred();
        self.drop_unused_names();
        self.expire_workers();
        self.bury_impossible();
        if !hold_wall {
            for id in &ids {
                self.end_hold(*id, |hold, now| matches!(hold, Hold::RunAt(at) if *at <= now.wall));
            }
            self.bury_stirred();
            self.keep_policy();
        }
        Answer::Done
    }

    fn end_hold(&mut self, id: JobId, is_due: impl Fn(&Hold, Clocks) -> bool) {
        let now = self.now;
        let job = self.jobs.get_mut(&id).expect("it was listed a moment ago");
        if is_due(&job.hold.hold, now) {
            job.hold = Lasting::exactly(Hold::None);
            self.changed(id);
            self.settle(id);
        }
    }

    /// The operator's rules for what has ended: strictly older is archived; archived and strictly older is deleted.
    fn keep_policy(&mut self) {
        let now = self.now.wall.0;
        let old = |job: &Job, age: Option<u64>| {
            age.is_some_and(|age| job.ended_at.is_some_and(|end| end.0.saturating_add(age) < now))
        };
        let (archive_after, delete_after) = (self.settings.archive_after_ms, self.settings.delete_after_ms);
        let due = |job: &&Job| !job.archived && old(job, archive_after);
        let archive: Vec<JobId> = self.jobs.values().filter(due).map(|job| job.id).collect();
        for id in archive {
            self.archive(id).expect("it has ended");
        }
        self.jobs.retain(|_, job| !(job.archived && old(job, delete_after)));
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
