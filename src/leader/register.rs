//! Members' pools in the registry of workers, from which the queue tells which jobs fit nowhere.
//!
//! This node's own is put there when it first leads: what its machine has. Proposed once in an office, and only if it is news:
//! a pool says no more than that it leads, and does not expire. One that is forgotten while it leads enters itself again. One whose node has left the cluster would be counted on for
//! good; whoever leads removes it. Which those are follows from members and registry, so a new leader needs to be told nothing.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use tokio::{
    sync::watch,
    time::{MissedTickBehavior, interval},
};

use super::{
    door::{Proposed, Queue},
    office::Term,
    pool::{self, Options},
};
use crate::queue::{
    State,
    applied::Answer,
    command::{Command, WorkerChange},
    job::{Json, Office},
    refusal::Refusal,
};

const RETRY_AFTER: Duration = Duration::from_millis(100);
/// How soon a pool goes after its node. The members are looked at so often, the registry only when they have changed.
const LOOK_EVERY: Duration = Duration::from_secs(1);

pub async fn run<Q: Queue>(queue: Q, pool: Options, office: watch::Receiver<Option<Office>>) {
    while let Some(mut term) = Term::next(&office).await {
        tokio::select! {
            () = keep(&queue, &pool) => {}
            () = term.ended() => {}
        }
    }
}

/// Does not end.
async fn keep<Q: Queue>(queue: &Q, pool: &Options) {
    enter(queue, pool).await;
    let mut looks = interval(LOOK_EVERY);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut known = BTreeSet::new();
    let mut entered = is_entered(queue, pool);
    loop {
        looks.tick().await;
        // What the registry refused, because it is full, is not asked for again and again.
        if entered && !is_entered(queue, pool) {
            enter(queue, pool).await;
        }
        entered = is_entered(queue, pool);
        let members = queue.members();
        if members != known {
            remove_left(queue).await;
            known = members;
        }
    }
}

/// Until the registry says what this pool has.
async fn enter<Q: Queue>(queue: &Q, pool: &Options) {
    if !is_entered(queue, pool) {
        let (id, info, resources) = (Arc::clone(&pool.worker), info(pool), pool.machine.free(None));
        settle(queue, WorkerChange::Pool { id, info, resources }).await;
    }
}

fn is_entered<Q: Queue>(queue: &Q, pool: &Options) -> bool {
    let (info, resources) = (info(pool), Some(pool.machine.free(None)));
    queue.look(|state, _| {
        let known = state.workers().get(&pool.worker);
        known.is_some_and(|known| known.is_pool() && known.resources == resources && known.info == info)
    })
}

/// Removes the pools of nodes that are no members.
async fn remove_left<Q: Queue>(queue: &Q) {
    // The members are looked at after the pools: a node is one before its pool is known, and never again once it has left.
    let pools = queue.look(|state, _| pools(state));
    let members: BTreeSet<Arc<str>> = queue.members().into_iter().map(pool::name).collect();
    for id in pools.difference(&members) {
        tracing::info!(pool = %id, "its node has left the cluster: removed from the registry of workers");
        settle(queue, WorkerChange::Remove { id: Arc::clone(id) }).await;
    }
}

fn pools(state: &State) -> BTreeSet<Arc<str>> {
    let pools = state.workers().iter().filter(|(_, worker)| worker.is_pool());
    pools.map(|(id, _)| Arc::clone(id)).collect()
}

/// Until it is in the log, or refused. Twice is as good as once.
async fn settle<Q: Queue>(queue: &Q, change: WorkerChange) {
    let command = Command::Worker(change);
    loop {
        match queue.propose(command.clone()).await {
            // It has gone already.
            Proposed::Answered { answer: Answer::Refused(Refusal::NoWorker { .. }), .. } => return,
            Proposed::Answered { answer: Answer::Refused(refusal), .. } => {
                return tracing::warn!(%refusal, "the registry of workers does not take this node's pool");
            }
            Proposed::Answered { .. } => return,
            Proposed::Never | Proposed::Unknown => tokio::time::sleep(RETRY_AFTER).await,
        }
    }
}

fn info(pool: &Options) -> Json {
    let info = serde_json::json!({ "kind": "pool", "host": &*pool.host, "version": env!("CARGO_PKG_VERSION") });
    Json(info.to_string().into())
}
