//! This node's pool in the registry of workers: what its machine has is known from when it first leads, so that the queue can
//! say which jobs fit nowhere. Proposed once in an office, and only if it is news: a pool says no more than that it leads.

use std::{sync::Arc, time::Duration};

use tokio::sync::watch;

use super::{
    door::{Proposed, Queue},
    office::Term,
    pool::Options,
};
use crate::queue::{
    applied::Answer,
    command::{Command, WorkerChange},
    job::{Json, Office},
};

const RETRY_AFTER: Duration = Duration::from_millis(100);

pub async fn run<Q: Queue>(queue: Q, pool: Options, office: watch::Receiver<Option<Office>>) {
    while let Some(mut term) = Term::next(&office).await {
        tokio::select! {
            () = enter(&queue, &pool) => {}
            () = term.ended() => continue,
        }
        term.ended().await;
    }
}

/// Until the registry says what this pool has.
async fn enter<Q: Queue>(queue: &Q, pool: &Options) {
    let (id, info, resources) = (Arc::from(&*pool.worker), info(pool), pool.machine.free(None));
    let is_known = queue.look(|state, _| {
        let known = state.workers().get(&id);
        known.is_some_and(|known| known.is_pool() && known.resources == Some(resources) && known.info == info)
    });
    if is_known {
        return;
    }
    let command = Command::Worker(WorkerChange::Pool { id, info, resources });
    loop {
        match queue.propose(command.clone()).await {
            Proposed::Answered { answer: Answer::Refused(refusal), .. } => {
                return tracing::warn!(%refusal, "this node's pool is not in the registry of workers");
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
