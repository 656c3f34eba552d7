//! PATCH /v1/jobs/{id}: other fields for a job that nobody holds.

use std::sync::Arc;

use crate::{
    api::{JobAnswer, Patch},
    http::{call::Call, failure::Failure, params::JobPath, read, reply::Reply},
    queue::{
        applied::Answer,
        command::{Command, Edit},
        rows::{Row, RowKey, Rows},
    },
};

/// The body is laid over the spec as it was written. What was read for that may be old by the time it is applied, so the body
/// may say at which `version` its author read the job.
pub async fn edit(JobPath(id): JobPath, call: Call) -> Result<Reply, Failure> {
    let patch = Patch::read(&call.body)?;
    call.leader_only().await?;
    let view = call.view().await?;
    let seen = read::look(&view, |_| ());
    let version = patch.version;
    let spec = match seen.rows.get(&RowKey::Spec(id)) {
        Some(Row::Spec(old)) => Some(Arc::new(patch.over(&old)?)),
        // Refused in the log: a repeat under its key is told what it was told before the job was deleted.
        _ => None,
    };
    let edit = Command::Edit { id, edit: Box::new(Edit { spec }) };
    let command = match version {
        Some(version) => Command::IfVersion { id, version, command: Box::new(edit) },
        None => edit,
    };
    let committed = call.propose(command).await?;
    let Answer::Jobs(mut answers) = committed.answer else { return Err(Failure::odd_answer()) };
    match answers.pop() {
        Some(Ok(brief)) => Ok(Reply::json(&JobAnswer::from(brief)).at(committed.index)),
        Some(Err(refusal)) => Err(refusal.into()),
        None => Err(Failure::odd_answer()),
    }
}
