//! The registry of workers: GET /v1/workers, PUT and DELETE /v1/workers/{id}

use serde_json::{Map, Value, json};

use crate::{
    api::{Cores, Nothing, WorkerRequest},
    http::{call::Call, failure::Failure, params::NamePath, read::look, reply::Reply},
    queue::{
        State,
        command::{Command, WorkerChange},
        ids::ClusterMs,
        rows::Worker,
    },
};

pub async fn workers(call: Call) -> Result<Reply, Failure> {
    let view = call.view().await?;
    let seen = look(&view, |state| {
        let now = state.position().clocks.cluster;
        state.workers().iter().map(|(id, worker)| describe(state, id, worker, now)).collect::<Vec<_>>()
    });
    Ok(Reply::json(&json!({ "workers": seen.value })).at(seen.index))
}

/// What it says of itself, and what the queue knows of it. A pool has as many slots as the cluster's settings say.
fn describe(state: &State, id: &str, worker: &Worker, now: ClusterMs) -> Value {
    let mut fields: Map<String, Value> = serde_json::from_str(&worker.info.0).unwrap_or_default();
    let resources = worker.resources.map(|free| {
        let cores = free.cores_milli.map(|milli| Cores { milli });
        json!({ "cores": cores, "ram_mb": free.ram_mb, "disk_mb": free.disk_mb, "time_s": free.time_s })
    });
    fields.insert("id".to_owned(), id.into());
    fields.insert("resources".to_owned(), resources.into());
    fields.insert("last_seen_at".to_owned(), worker.seen_at.0.into());
    let expires_in_ms = (!worker.is_pool()).then(|| worker.expires.0.saturating_sub(now.0));
    fields.insert("expires_in_ms".to_owned(), expires_in_ms.into());
    if worker.is_pool() {
        fields.insert("slots".to_owned(), state.pool().size.into());
    }
    fields.insert("held".to_owned(), state.held(id).count().into());
    fields.into()
}

pub async fn put(NamePath(id): NamePath, call: Call) -> Result<Reply, Failure> {
    let request: WorkerRequest = call.decode().await?;
    let committed = call.propose(Command::Worker(request.into_queue(id.as_str().into())?)).await?;
    Ok(Reply::json(&json!({ "id": id })).at(committed.index))
}

/// One that lives enters itself again: a remote worker with its next heartbeat, a pool within
/// a second while its node leads, or when it next does.
pub async fn remove(NamePath(id): NamePath, call: Call) -> Result<Reply, Failure> {
    let Nothing {} = call.decode_or_empty().await?;
    let committed = call.propose(Command::Worker(WorkerChange::Remove { id: id.as_str().into() })).await?;
    Ok(Reply::json(&json!({ "id": id, "removed": true })).at(committed.index))
}
