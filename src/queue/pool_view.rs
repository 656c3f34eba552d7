//! What the pool on the leader sees of the state: its settings, and the leases that it holds.

use super::{
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
}
