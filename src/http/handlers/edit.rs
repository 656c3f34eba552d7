//! PATCH /v1/jobs/{id}: other fields for a job that nobody holds.

use std::sync::Arc;

use crate::{
    api::{JobAnswer, patched},
    http::{call::Call, failure::Failure, params::JobPath, read, reply::Reply},
    queue::{
        applied::Answer,
        command::{Command, Edit},
        refusal::Refusal,
        rows::{Row, RowKey, Rows},
    },
};

/// The body is laid over the spec as it was written: a field replaces, `null` takes away.
pub async fn edit(JobPath(id): JobPath, call: Call) -> Result<Reply, Failure> {
    call.leader_only().await?;
    let view = call.view().await?;
    let seen = read::look(&view, |_| ());
    let Some(Row::Spec(old)) = seen.rows.get(&RowKey::Spec(id)) else {
        return Err(Failure::Refused(Refusal::NotFound { id }));
    };
    let spec = patched(&old, &call.body)?;
    let edit = Box::new(Edit { spec: Some(Arc::new(spec)) });
    let committed = call.propose(Command::Edit { id, edit }).await?;
    let Answer::Jobs(mut answers) = committed.answer else { return Err(Failure::odd_answer()) };
    match answers.pop() {
        Some(Ok(brief)) => Ok(Reply::json(&JobAnswer::from(brief)).at(committed.index)),
        Some(Err(refusal)) => Err(refusal.into()),
        None => Err(Failure::odd_answer()),
    }
}
