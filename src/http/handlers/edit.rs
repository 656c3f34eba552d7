//! PATCH /v1/jobs/{id}: other fields for a job that nobody holds.

use std::sync::Arc;

use super::verbs::one;
use crate::{
    api::Patch,
    http::{call::Call, failure::Failure, params::JobPath, read, reply::Reply},
    queue::{
        command::{Command, Edit},
        rows::{Row, RowKey, Rows},
    },
};

/// The body is laid over the spec as it was written. What was read for that may be old by the time it is applied, so the body
/// may say at which `version` its author read the job.
pub async fn edit(JobPath(id): JobPath, call: Call) -> Result<Reply, Failure> {
    let patch = call.decode_aside(|body| Ok(Patch::read(body)?)).await?;
    call.leader_only().await?;
    let view = call.view().await?;
    let seen = read::look_and_pin(&view, |_| ());
    let version = patch.version;
    let spec = match seen.rows.get(&RowKey::Spec(id)).and_then(Row::into_spec) {
        // A patch that changes nothing is no edit.
        Some((old, _)) => Some(patch.over(&old)?).filter(|new| *new != *old).map(Arc::new),
        // Refused in the log: a repeat under its key is told what it was told before the job was deleted.
        _ => None,
    };
    let edit = Command::Edit { id, edit: Box::new(Edit { spec }) };
    let command = match version {
        Some(version) => Command::IfVersion { id, version, command: Box::new(edit) },
        None => edit,
    };
    one(&call, command).await
}
