//! Who waits for what, and the one task that wakes them.
//!
//! Every node applies every entry, so each wakes its own waiters, and a wait for a job works on any node and through a change
//! of leader. Waiting claims stand only where they can be served, on the leader, and are sent on when it no longer leads.
//!
//! Waking is a hint: whoever wakes looks at the state again. So when batches were missed, everybody is woken.

mod claims;
mod events;
mod jobs;

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use tokio::{sync::broadcast::error::RecvError, time::Instant};
use tokio_util::sync::CancellationToken;

pub use claims::{ClaimLine, InLine, Wake};
pub use events::{About, Event, Events, Position, TooOld};
pub use jobs::JobWaits;

use super::Front;
use crate::{
    queue::{applied::Effect, job::Status},
    raft::{AppliedBatch, Consistency},
};

#[derive(Default)]
pub struct Hub {
    pub jobs: JobWaits,
    pub claims: ClaimLine,
    pub events: Events,
    ended: AtomicBool,
}

impl Hub {
    /// The node stops: nobody waits any longer.
    pub fn end(&self) {
        self.ended.store(true, Ordering::Release);
        self.claims.send_away();
        self.jobs.wake_all();
    }

    pub fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }
}

/// Wakes waiters from applied entries until told to stop.
pub async fn run(front: Arc<Front>, stop: CancellationToken) {
    let mut batches = front.node.applied_batches();
    front.hub.events.begin(front.applied());
    let mut leadership = front.leadership();
    let mut led = front.leads();
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            batch = batches.recv() => match batch {
                Ok(batch) => woken_by(&front, &batch).await,
                Err(RecvError::Lagged(_)) => {
                    front.hub.events.tear();
                    wake_everybody(&front).await;
                }
                Err(RecvError::Closed) => return,
            },
            changed = leadership.changed() => {
                if changed.is_err() {
                    return;
                }
                let leads = front.leads();
                if led && !leads {
                    front.hub.claims.send_away();
                    front.tails.clear();
                }
                led = leads;
            }
        }
    }
}

async fn woken_by(front: &Front, batch: &AppliedBatch) {
    front.hub.events.add(batch);
    if batch.skipped {
        return wake_everybody(front).await;
    }
    let mut ready = BTreeSet::new();
    let mut all_ready = false;
    for effect in batch.entries.iter().flat_map(|entry| &entry.effects) {
        match effect {
            Effect::Changed { job, was, status } => {
                if was != status && matches!(was, Status::Running | Status::Canceling) {
                    front.tails.forget(*job);
                }
                front.hub.jobs.wake(*job);
            }
            Effect::Removed { job } => front.hub.jobs.wake(*job),
            Effect::Ready { queue } => drop(ready.insert(Arc::clone(queue))),
            Effect::SettingsChanged => all_ready = true,
            Effect::Posted { .. } | Effect::Stop { .. } | Effect::LeaseEnded { .. } | Effect::Schedule { .. } => {}
        }
    }
    if all_ready {
        ready = front.hub.claims.queues();
    }
    offer(front, &ready).await;
}

async fn wake_everybody(front: &Front) {
    front.hub.jobs.wake_all();
    offer(front, &front.hub.claims.queues()).await;
}

/// Tells waiting claims how many jobs are ready in these queues.
async fn offer(front: &Front, queues: &BTreeSet<Arc<str>>) {
    let waited_for: Vec<_> = queues.iter().filter(|queue| front.hub.claims.is_waited_for(queue)).collect();
    if waited_for.is_empty() {
        return;
    }
    let Ok(view) = front.view(Consistency::Local, 0, Instant::now()).await else { return };
    let counts: Vec<usize> =
        view.look(|reading| waited_for.iter().map(|queue| reading.state().ready_count(queue)).collect());
    for (queue, count) in waited_for.into_iter().zip(counts) {
        front.hub.claims.offer(queue, count);
    }
}
