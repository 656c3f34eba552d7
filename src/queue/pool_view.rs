//! What the pool on the leader sees of the state: its settings, and the leases that it holds.

use super::{
    ids::{JobId, LeaseId},
    job::{Job, Lease},
    settings::Pool,
    state::State,
};

impl State {
    pub fn pool(&self) -> &Pool {
        &self.pool
    }

    /// Jobs held by the pool of the present office: leases without a deadline (design 2.3).
    pub fn pool_leases(&self) -> impl Iterator<Item = (&Job, &Lease)> {
        self.order.pool().iter().map(|id| {
            let job = self.live.get(id).expect("what is in the order lives");
            (job.as_ref(), job.lease().expect("the pool holds it"))
        })
    }

    /// Leases that this pool was granted, in whatever office; those of one that has ended have a deadline.
    pub fn granted_to_pool<'a>(&'a self, worker: &'a str) -> impl Iterator<Item = (JobId, LeaseId)> + 'a {
        let leases = self.order.held_by(worker).filter_map(|id| Some((id, self.live.get(&id)?.lease()?)));
        leases.filter(|(_, lease)| lease.holder.office.is_some()).map(|(id, lease)| (id, lease.id))
    }
}
