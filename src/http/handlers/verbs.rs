//! Verbs on one job: POST /v1/jobs/{id}/cancel, kick, archive, priority, bury; DELETE /v1/jobs/{id}

use crate::{
    api::{BuryRequest, CancelRequest, JobAnswer, Nothing, PriorityRequest},
    http::{call::Call, failure::Failure, params::JobPath, reply::Reply},
    queue::{applied::Answer, command::Command},
};

pub async fn cancel(JobPath(id): JobPath, call: Call) -> Result<Reply, Failure> {
    let request: CancelRequest = call.decode_or_empty().await?;
    let how = request.how()?;
    one(&call, Command::Cancel { ids: vec![id], how, reason: request.reason }).await
}

pub async fn kick(JobPath(id): JobPath, call: Call) -> Result<Reply, Failure> {
    let Nothing {} = call.decode_or_empty().await?;
    one(&call, Command::Kick { ids: vec![id] }).await
}

pub async fn archive(JobPath(id): JobPath, call: Call) -> Result<Reply, Failure> {
    let Nothing {} = call.decode_or_empty().await?;
    one(&call, Command::Archive { ids: vec![id] }).await
}

pub async fn priority(JobPath(id): JobPath, call: Call) -> Result<Reply, Failure> {
    let request: PriorityRequest = call.decode().await?;
    one(&call, Command::Priority { ids: vec![id], priority: request.priority.into() }).await
}

pub async fn bury(JobPath(id): JobPath, call: Call) -> Result<Reply, Failure> {
    let request: BuryRequest = call.decode_or_empty().await?;
    one(&call, Command::Bury { ids: vec![id], reason: request.reason }).await
}

pub async fn delete(JobPath(id): JobPath, call: Call) -> Result<Reply, Failure> {
    let Nothing {} = call.decode_or_empty().await?;
    one(&call, Command::Delete { ids: vec![id] }).await
}

/// What became of the one job that `command` is about.
pub(super) async fn one(call: &Call, command: Command) -> Result<Reply, Failure> {
    let committed = call.propose(command).await?;
    let Answer::Jobs(mut answers) = committed.answer else { return Err(Failure::odd_answer()) };
    match answers.pop() {
        Some(Ok(brief)) => Ok(Reply::json(&JobAnswer::from(brief)).at(committed.index)),
        Some(Err(refusal)) => Err(refusal.into()),
        None => Err(Failure::odd_answer()),
    }
}
