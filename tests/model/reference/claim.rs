//! Claim: the most urgent op that the claimer asked for and may have, or exactly the jobs it named.

use std::sync::Arc;

use raftq::queue::{
    applied::Claimed,
    command::{Claim, Wanted},
    ids::{JobId, LeaseId},
    job::Status,
    refusal::Refusal,
};

use super::{
    Model,
    job::{Job, Lease, OpStatus},
    limits::{allow, wrong_claim},
};

impl Model {
    pub(super) fn claim(&mut self, claim: &Claim) -> Result<Vec<Result<Claimed, Refusal>>, Refusal> {
        allow(wrong_claim(claim))?;
        let claim = &mut claim.clone();
        match &claim.wanted.clone() {
            Wanted::Ids(ids) => Ok(ids.iter().map(|id| self.claim_by_id(claim, *id)).collect()),
            Wanted::Queues(queues) => {
                let mut claimed = Vec::new();
                while claimed.len() < claim.max as usize {
                    let Some(id) = self.most_urgent(claim, queues) else { break };
                    claimed.push(Ok(self.grant(claim, id)));
                }
                Ok(claimed)
            }
        }
    }

    /// By priority, then by first submission.
    fn most_urgent(&self, claim: &Claim, queues: &[Arc<str>]) -> Option<JobId> {
        self.live()
            .filter(|job| job.status() == Status::Queued)
            .filter(|job| queues.contains(&job.spec.queue))
            .filter(|job| !self.is_paused(&job.spec.queue))
            .filter(|job| self.limits_have_room(job))
            .filter(|job| is_asked_for(claim, job))
            .filter(|job| self.fits(claim, job))
            .min_by_key(|job| (job.priority(), job.id))
            .map(|job| job.id)
    }

    fn claim_by_id(&mut self, claim: &mut Claim, id: JobId) -> Result<Claimed, Refusal> {
        let job = self.jobs.get(&id).ok_or(Refusal::NotFound { id })?;
        let status = job.status();
        if let Some((_, lease)) = job.held() {
            return Err(Refusal::Claimed { owner: lease.worker.clone() });
        }
        if status.is_final() {
            return Err(Refusal::Finished { status });
        }
        let free = status == Status::Queued && !self.is_paused(&job.spec.queue) && self.limits_have_room(job);
        if !free || !is_asked_for(claim, job) || !self.fits(claim, job) {
            return Err(Refusal::NotClaimable { status, why: "".into() });
        }
        Ok(self.grant(claim, id))
    }

    fn grant(&mut self, claim: &mut Claim, id: JobId) -> Claimed {
        self.use_up(claim, id);
        self.last_lease = LeaseId(self.last_lease.0 + 1);
        let office = claim.pool.then_some(self.office);
        let (now, wall) = (self.now.cluster, self.now.wall);
        let id_of_lease = self.last_lease;
        let job = self.jobs.get_mut(&id).expect("it was found a moment ago");
        let number = job.current();
        let length_ms = claim.lease_ms.unwrap_or(job.spec.policy.lease_ms);
        let lease = Lease {
            id: id_of_lease,
            worker: claim.worker.clone(),
            host: claim.host.clone(),
            pid: claim.pid,
            office,
            length_ms,
            deadline: (!claim.pool).then(|| now.after(length_ms)),
            log_next: 0,
            cancel_after: false,
        };
        let op = &mut job.ops[number];
        (op.reserved_at, op.exec_at, op.lease_ended_at) = (Some(wall), None, None);
        job.ops[number].status = if claim.start { OpStatus::Running(lease) } else { OpStatus::Reserved(lease) };
        if claim.start {
            job.count_start(number, wall);
        }
        let attempts = job.ops[number].attempts;
        self.changed(id);
        Claimed { job: id, op: number as u32, lease: id_of_lease, lease_ms: length_ms, attempts }
    }

    pub(super) fn is_paused(&self, queue: &str) -> bool {
        self.paused.contains("") || self.paused.contains(queue)
    }

    pub(super) fn limits_have_room(&self, job: &Job) -> bool {
        job.spec.limits.iter().all(|(name, _)| self.has_room(name))
    }

    /// Counted from claim to end of lease, over all jobs, each time it is asked.
    pub(super) fn has_room(&self, group: &str) -> bool {
        let Some(max) = self.limits.get(group) else { return true };
        let holds = |job: &&Job| job.held().is_some() && job.spec.limits.iter().any(|(of, _)| &**of == group);
        self.jobs.values().filter(holds).count() < *max as usize
    }
}

fn is_asked_for(claim: &Claim, job: &Job) -> bool {
    let kind = &job.spec.ops[job.current()].kind;
    let group = job.spec.policy.resource_group.as_ref();
    claim.kinds.as_ref().is_none_or(|kinds| kinds.contains(kind))
        && claim.resource_groups.as_ref().is_none_or(|groups| group.is_some_and(|group| groups.contains(group)))
}
