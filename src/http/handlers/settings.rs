//! What an operator turns: /v1/drain, /v1/pool, /v1/queues

use std::{collections::BTreeMap, sync::Arc};

use crate::{
    api::{DrainRequest, DrainView, Nothing, PoolRequest, PoolView, QueueList, QueueRequest, QueueTotals, QueueView},
    http::{call::Call, failure::Failure, params::NamePath, read::look, reply::Reply},
    queue::{
        State,
        applied::Answer,
        command::{Command, PoolChange},
        job::Status,
    },
    raft::Consistency,
};

/// Stands for every queue in `PUT /v1/queues/*`.
const ALL_QUEUES: &str = "*";

pub async fn drain(call: Call) -> Result<Reply, Failure> {
    let view = call.view().await?;
    let seen = look(&view, |state| DrainView::from(state.drain()));
    Ok(Reply::json(&seen.value).at(seen.index))
}

pub async fn set_drain(call: Call) -> Result<Reply, Failure> {
    let DrainRequest { drained, reason } = call.decode().await?;
    let committed = call.propose(Command::Drain { drained, reason }).await?;
    let Answer::Drain(drain) = committed.answer else { return Err(Failure::odd_answer()) };
    Ok(Reply::json(&DrainView::from(&drain)).at(committed.index))
}

pub async fn pool(call: Call) -> Result<Reply, Failure> {
    let view = call.view().await?;
    let seen = look(&view, pool_view);
    Ok(Reply::json(&seen.value).at(seen.index))
}

pub async fn set_pool(call: Call) -> Result<Reply, Failure> {
    let PoolRequest { active, size, queues } = call.decode().await?;
    let committed = call.propose(Command::Pool(PoolChange { active, size, queues })).await?;
    let Answer::Pool(_) = committed.answer else { return Err(Failure::odd_answer()) };
    let view = call.front.view(Consistency::Local, committed.index, call.context.deadline).await?;
    let seen = look(&view, pool_view);
    Ok(Reply::json(&seen.value).at(seen.index))
}

pub fn pool_view(state: &State) -> PoolView {
    PoolView { running: state.pool_running() as u64, ..PoolView::from(state.pool()) }
}

pub async fn queues(call: Call) -> Result<Reply, Failure> {
    let view = call.view().await?;
    let seen = look(&view, queue_list);
    Ok(Reply::json(&seen.value).at(seen.index))
}

/// Queues with live jobs, those in which jobs have ended, and paused ones.
fn queue_list(state: &State) -> QueueList {
    let mut queues: BTreeMap<&Arc<str>, QueueView> = BTreeMap::new();
    for (name, counts) in state.queues() {
        entry(&mut queues, name).counts = by_status(counts);
    }
    for (name, ends) in state.totals().queues() {
        entry(&mut queues, name).totals = ends.into();
    }
    for name in state.paused() {
        entry(&mut queues, name).paused = true;
    }
    let other_totals = state.totals().others().map(Into::into);
    QueueList { paused: state.is_paused_all(), queues: queues.into_values().collect(), other_totals }
}

fn entry<'q, 's>(queues: &'q mut BTreeMap<&'s Arc<str>, QueueView>, name: &'s Arc<str>) -> &'q mut QueueView {
    let counts = || by_status([0; Status::ALL.len()]);
    queues.entry(name).or_insert_with(|| QueueView {
        name: Arc::clone(name),
        paused: false,
        counts: counts(),
        totals: QueueTotals::default(),
    })
}

/// Live jobs by status.
fn by_status(counts: [usize; Status::ALL.len()]) -> BTreeMap<Box<str>, u64> {
    let live = Status::ALL.into_iter().zip(counts).filter(|(status, _)| !status.is_final());
    live.map(|(status, count)| (status.name().into(), count as u64)).collect()
}

pub async fn set_queue(NamePath(name): NamePath, call: Call) -> Result<Reply, Failure> {
    let QueueRequest { paused } = call.decode().await?;
    let queue = (name != ALL_QUEUES).then(|| Arc::from(name.as_str()));
    let committed = call.propose(Command::Pause { queue, paused }).await?;
    Ok(Reply::json(&serde_json::json!({ "name": name, "paused": paused })).at(committed.index))
}

/// The sum of all stays; a queue that is used again is counted anew.
pub async fn forget_queue(NamePath(name): NamePath, call: Call) -> Result<Reply, Failure> {
    let Nothing {} = call.decode_or_empty().await?;
    let committed = call.propose(Command::ForgetQueue { queue: name.as_str().into() }).await?;
    Ok(Reply::json(&serde_json::json!({ "name": name, "forgotten": true })).at(committed.index))
}
