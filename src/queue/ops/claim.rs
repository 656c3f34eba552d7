//! claim: queued → reserved, for whoever has room (design 2.2).
//!
//! The most urgent op is found by comparing the heads of the shapes that the claim can take, so the cost is the number of
//! shapes in the queues asked for, never the number of jobs. Limits and room only shrink while one claim is served, so a
//! shape that does not fit once is not looked at again.

use std::{
    cmp::Reverse,
    collections::{BTreeSet, BinaryHeap},
    sync::Arc,
};

use crate::queue::{
    applied::{Answer, Claimed},
    command::{Claim, Free, Wanted},
    ids::{JobId, Priority},
    job::{Holder, Job, Lease, Needs, Shape, Status},
    order::ShapeKey,
    refusal::Refusal,
    step::{Found, Step},
};

pub fn claim(step: &mut Step, claim: &Claim) -> Answer {
    match take(step, claim) {
        Ok(claimed) => Answer::Claimed(claimed),
        Err(refusal) => Answer::Refused(refusal),
    }
}

pub fn take(step: &mut Step, claim: &Claim) -> Result<Vec<Result<Claimed, Refusal>>, Refusal> {
    claim.check()?;
    let mut taker = Taker::new(step, claim);
    Ok(match &claim.wanted {
        Wanted::Queues(queues) => take_most_urgent(step, &mut taker, queues).into_iter().map(Ok).collect(),
        Wanted::Ids(ids) => ids.iter().map(|id| take_one(step, &mut taker, *id)).collect(),
    })
}

/// A claim being served.
struct Taker<'a> {
    claim: &'a Claim,
    holder: Arc<Holder>,
    free: Free,
}

/// Shapes to compare, by the urgency of their heads.
type Heads = BinaryHeap<Reverse<(Priority, JobId, usize)>>;

fn take_most_urgent(step: &mut Step, taker: &mut Taker, queues: &[Arc<str>]) -> Vec<Claimed> {
    let shapes = taker.shapes(step, queues);
    let mut heads: Heads = (0..shapes.len()).filter_map(|at| head(step, &shapes, at)).collect();
    let mut claimed = Vec::new();
    while claimed.len() < taker.claim.max as usize {
        let Some(Reverse((_, id, at))) = heads.pop() else { break };
        if full_limit(step, &shapes[at].1).is_some() || !taker.free.fits(&step.state.needs(&shapes[at].1)) {
            continue;
        }
        claimed.push(taker.grant(step, id));
        heads.extend(head(step, &shapes, at));
    }
    claimed
}

fn head(step: &Step, shapes: &[ShapeKey], at: usize) -> Option<Reverse<(Priority, JobId, usize)>> {
    let (priority, id) = step.state.order.head(&shapes[at])?;
    Some(Reverse((priority, id, at)))
}

/// The first limit group of a shape that has no room.
pub fn full_limit<'a>(step: &Step, shape: &'a Shape) -> Option<&'a Arc<str>> {
    let full = |limit: &&Arc<str>| {
        let max = step.state.limits.get(*limit);
        max.is_some_and(|max| step.state.order.running(limit) >= *max)
    };
    shape.limits.iter().find(full)
}

impl<'a> Taker<'a> {
    fn new(step: &Step, claim: &'a Claim) -> Self {
        let office = claim.pool.then_some(step.office);
        let holder = Holder { worker: claim.worker.clone(), host: claim.host.clone(), pid: claim.pid, office };
        Self { claim, holder: Arc::new(holder), free: claim.free.unwrap_or_default() }
    }

    /// The shapes in these queues that the claim takes.
    fn shapes(&self, step: &Step, queues: &[Arc<str>]) -> Vec<ShapeKey> {
        let queues: BTreeSet<&Arc<str>> = queues.iter().filter(|queue| !step.state.is_paused(queue)).collect();
        let ready = queues.into_iter().flat_map(|queue| step.state.order.ready(queue));
        ready.map(|(key, _)| key).filter(|(kind, shape)| self.asks_for(step, kind, shape)).cloned().collect()
    }

    fn asks_for(&self, step: &Step, kind: &Arc<str>, shape: &Shape) -> bool {
        let kind_fits = self.claim.kinds.as_ref().is_none_or(|kinds| kinds.contains(kind));
        let group_fits = self
            .claim
            .resource_groups
            .as_ref()
            .is_none_or(|groups| shape.resource_group.as_ref().is_some_and(|group| groups.contains(group)));
        kind_fits && group_fits && self.free.fits(&step.state.needs(shape))
    }

    fn grant(&mut self, step: &mut Step, id: JobId) -> Claimed {
        let (lease_id, now) = (step.next_lease_id(), step.now());
        let (claim, holder) = (self.claim, self.holder.clone());
        // What counts, learned and raised: else one claim would pack more than fits.
        self.free.take(&step.state.needs(&step.live(id).expect("it was found free").shape));
        step.grant(id, |job, writer| {
            let length_ms = claim.lease_ms.unwrap_or(job.policy.lease_ms);
            let deadline = (!claim.pool).then(|| now.after(length_ms));
            let lease = Lease { id: lease_id, holder, length_ms, deadline, log_next: 0, cancel_after: false };
            job.grant(lease, claim.start, writer.clocks.wall);
            let attempts = job.current_op().runs().attempts;
            Claimed { job: id, op: job.current() as u32, lease: lease_id, lease_ms: length_ms, attempts }
        })
    }
}

/// One of exactly the jobs asked for.
fn take_one(step: &mut Step, taker: &mut Taker, id: JobId) -> Result<Claimed, Refusal> {
    let job = match step.find(id)? {
        Found::Live(job) => job,
        Found::Ended(job) => return Err(Refusal::Finished { status: job.status() }),
    };
    if let Some(lease) = job.lease() {
        return Err(Refusal::Claimed { owner: lease.holder.worker.clone() });
    }
    let status = job.status();
    match obstacle(step, taker, job) {
        Some(why) => Err(Refusal::NotClaimable { status, why: why.into() }),
        None => Ok(taker.grant(step, id)),
    }
}

fn obstacle(step: &Step, taker: &Taker, job: &Job) -> Option<String> {
    if job.status() != Status::Queued {
        return step.state.held_by(job.id).first().map(ToString::to_string);
    }
    if step.state.is_paused(&job.shape.queue) {
        return Some(format!("claims from queue {} are paused", job.shape.queue));
    }
    if !taker.asks_for(step, &job.current_op().kind, &job.shape) {
        return Some("its kind, resource group or needs do not fit this claim".to_owned());
    }
    full_limit(step, &job.shape).map(|limit| format!("limit group {limit} is full"))
}

impl Free {
    pub fn fits(&self, needs: &Needs) -> bool {
        let fits = |free: Option<u64>, need: u64| free.is_none_or(|free| need <= free);
        fits(self.cores_milli, u64::from(needs.cores_milli))
            && fits(self.ram_mb, needs.ram_mb)
            && fits(self.disk_mb, needs.disk_mb)
            && fits(self.time_s, needs.time_s)
    }

    /// What is left beside a job with these needs. Time is no stock: jobs run side by side.
    fn take(&mut self, needs: &Needs) {
        let less = |free: &mut Option<u64>, need: u64| *free = free.map(|free| free.saturating_sub(need));
        less(&mut self.cores_milli, u64::from(needs.cores_milli));
        less(&mut self.ram_mb, needs.ram_mb);
        less(&mut self.disk_mb, needs.disk_mb);
    }
}
