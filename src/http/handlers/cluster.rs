//! The cluster itself: GET /v1/cluster, POST /v1/cluster/init, members, transfer, snapshot; DELETE /v1/cluster/members/{id}

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use super::settings::pool_view;
use crate::{
    api::{AddMember, ErrorBody, Nothing, Transfer},
    http::{call::Call, failure::Failure, params::NumberPath, read::look, reply::Reply},
    raft::{Consistency, LeaderInfo, MemberStatus, MembershipError, Role, Status},
};

/// How long a planned handover waits for running jobs (design 2.3).
const JOBS_PATIENCE: Duration = Duration::from_secs(10);
/// Of the request's time this much is kept for the handover itself and for jobs that must be stopped.
const TRANSFER_TIME: Duration = Duration::from_secs(4);
const SETTINGS_POLL: Duration = Duration::from_millis(10);

/// What this node knows, linearizable or not: a cluster in trouble must still be able to say so.
pub async fn status(call: Call) -> Result<Reply, Failure> {
    let view = call.front.view(Consistency::Local, 0, call.context.deadline).await?;
    let pool = look(&view, pool_view);
    let status = call.front.node.status();
    let members: Vec<Value> = status.members.iter().map(member).collect();
    let hash = |(index, hash): (u64, u128)| json!({ "index": index, "value": format!("{hash:032x}") });
    Ok(Reply::json(&json!({
        "cluster": status.cluster.map(|cluster| cluster.to_string()),
        "id": status.id,
        "role": role(&status),
        "term": status.term,
        "leader": status.leader.as_ref().map(|leader| json!({ "id": leader.id, "api": leader.api })),
        "problem": status.problem,
        "applied": status.applied,
        "committed": status.committed,
        "hash": hash(status.hash),
        "mark": status.mark.map(hash),
        "feature_level": status.feature_level,
        "feature_level_known": status.knows,
        "members": members,
        "pool": pool.value,
        "version": env!("CARGO_PKG_VERSION"),
    }))
    .at(status.applied))
}

fn role(status: &Status) -> &'static str {
    match status.role {
        Role::Leader => "leader",
        Role::Follower => "follower",
        Role::Candidate => "candidate",
        Role::Learner => "learner",
        Role::Pristine => "pristine",
        Role::Stopped => "stopped",
    }
}

fn member(member: &MemberStatus) -> Value {
    json!({
        "id": member.id,
        "api": member.api,
        "peer": member.peer,
        "role": if member.voter { "voter" } else { "learner" },
        "reachable": member.reachable,
        "applied": member.applied,
        "lag": member.lag,
    })
}

/// Forms the cluster. It is answered once the first settings stand, so that a change of the pool may follow at once; without a
/// leader they do not come, but the cluster is formed all the same, and `/readyz` says how far it is.
pub async fn init(call: Call) -> Result<Reply, Failure> {
    let Nothing {} = call.decode_or_empty().await?;
    let cluster = done(&call, call.front.node.init().await).await?;
    let until = call.context.deadline;
    while !call.front.has_settings() && Instant::now() + SETTINGS_POLL < until {
        tokio::time::sleep(SETTINGS_POLL).await;
    }
    Ok(Reply::json(&json!({ "cluster": cluster.to_string() })))
}

/// Adds the pristine node at `peer`; promotes it, or lets it take another's place, if asked.
pub async fn add(call: Call) -> Result<Reply, Failure> {
    let request: AddMember = call.decode().await?;
    request.check()?;
    let (node, deadline) = (&call.front.node, call.context.deadline);
    let id = match request.replaces {
        Some(old) => done(&call, node.replace(old, request.id, &request.peer, deadline).await).await?,
        None => done(&call, node.add(request.id, &request.peer).await).await?,
    };
    if request.promote && request.replaces.is_none() {
        done(&call, node.promote(id, deadline).await).await?;
    }
    Ok(Reply::json(&json!({ "id": id })))
}

pub async fn promote(NumberPath(id): NumberPath, call: Call) -> Result<Reply, Failure> {
    let Nothing {} = call.decode_or_empty().await?;
    done(&call, call.front.node.promote(id, call.context.deadline).await).await?;
    Ok(Reply::json(&json!({ "id": id, "role": "voter" })))
}

pub async fn remove(NumberPath(id): NumberPath, call: Call) -> Result<Reply, Failure> {
    let Nothing {} = call.decode_or_empty().await?;
    done(&call, call.front.node.remove(id, call.context.deadline).await).await?;
    Ok(Reply::json(&json!({ "id": id, "removed": true })))
}

/// Running jobs may end for a while first, in what is left of the request's time.
pub async fn transfer(call: Call) -> Result<Reply, Failure> {
    let request: Transfer = call.decode_or_empty().await?;
    let (node, pool) = (&call.front.node, &call.front.pool);
    let interrupted = match node.office() {
        Some(_) => pool.leave(jobs_patience(&call, request.now)).await,
        None => Vec::new(),
    };
    let transferred = node.transfer(request.to, call.context.deadline).await;
    pool.stay();
    let leader = done(&call, transferred).await?;
    Ok(Reply::json(&json!({ "leader": leader, "interrupted": interrupted })))
}

fn jobs_patience(call: &Call, now: bool) -> Duration {
    let left = call.context.deadline.saturating_duration_since(Instant::now());
    if now { Duration::ZERO } else { JOBS_PATIENCE.min(left.saturating_sub(TRANSFER_TIME)) }
}

/// Of the node that is asked: each keeps its own.
pub async fn snapshot(call: Call) -> Result<Reply, Failure> {
    let Nothing {} = call.decode_or_empty().await?;
    let index = done(&call, call.front.node.snapshot_now(call.context.deadline).await).await?;
    Ok(Reply::json(&json!({ "index": index })))
}

async fn done<T>(call: &Call, outcome: Result<T, MembershipError>) -> Result<T, Failure> {
    match outcome {
        Ok(value) => Ok(value),
        Err(MembershipError::NotLeader { leader: Some(leader) }) => {
            Err(call.elsewhere(LeaderInfo { id: leader.id, api: leader.member.api }).await)
        }
        Err(error) => Err(membership_failure(&error)),
    }
}

pub fn membership_failure(error: &MembershipError) -> Failure {
    let message = error.to_string();
    match error {
        MembershipError::NotLeader { .. } => Failure::no_leader(),
        MembershipError::Busy => Failure::new("busy", message),
        MembershipError::Unknown { .. } => Failure::new("not_found", message),
        MembershipError::Deadline(_) | MembershipError::Behind { .. } => Failure::new("timeout", message),
        MembershipError::Unreachable { peer, .. } => {
            Failure::Error(ErrorBody::new("unavailable", message).with("peer", peer.as_str()))
        }
        MembershipError::OtherNode { .. }
        | MembershipError::NotPristine { .. }
        | MembershipError::AlreadyFormed
        | MembershipError::FormingBegun
        | MembershipError::RestoreBegun
        | MembershipError::NotFounder
        | MembershipError::IdSpent { .. }
        | MembershipError::LastVoter { .. } => Failure::new("conflict", message),
        MembershipError::Failed(_) => {
            tracing::warn!(%message, "a change of the members failed");
            Failure::internal()
        }
    }
}
