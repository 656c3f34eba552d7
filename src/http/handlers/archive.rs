//! POST /v1/archive: final jobs by age, a bounded piece for each call.

use crate::{
    api::{ArchiveAnswer, ArchiveRequest},
    http::{call::Call, failure::Failure, reply::Reply},
    queue::{applied::Answer, command::Command},
};

pub async fn autoarchive(call: Call) -> Result<Reply, Failure> {
    let request: ArchiveRequest = call.decode().await?;
    let committed = call.propose(Command::Autoarchive(request.into_queue()?)).await?;
    let Answer::Archived { archived, left, next } = committed.answer else { return Err(Failure::odd_answer()) };
    Ok(Reply::json(&ArchiveAnswer::new(archived, left, next)).at(committed.index))
}
