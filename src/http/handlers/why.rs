//! GET /v1/jobs/{id}/why: why it is not running.

use serde_json::json;

use crate::{
    api::{Field, StatusName},
    http::{call::Call, failure::Failure, params::JobPath, read, reply::Reply},
    queue::{job::Status, refusal::Refusal},
};

pub async fn why(JobPath(id): JobPath, call: Call) -> Result<Reply, Failure> {
    let view = call.view().await?;
    let seen = read::job(&view, id, &[Field::HeldBy]);
    let Some(parts) = seen.value else { return Err(Failure::Refused(Refusal::NotFound { id })) };
    let status = parts.job.status();
    let mut why = parts.held_by;
    if why.is_empty() {
        why.push(in_general(status).to_owned());
    }
    let answer = json!({
        "id": id,
        "status": StatusName(status),
        "why": why,
        "ready_at": parts.ready_at,
        "blocked_by": parts.blocked_by,
        "version": parts.job.version,
    });
    Ok(Reply::json(&answer).at(seen.index))
}

/// When nothing in particular holds it.
fn in_general(status: Status) -> &'static str {
    match status {
        Status::Queued => "nothing holds it: it is its turn as soon as a worker asks for its queue and kind",
        Status::Success => "it has ended",
        Status::Error | Status::Canceled => "it has ended; kick it to run it again",
        Status::Delayed | Status::Blocked | Status::Buried => "it waits",
        Status::Reserved | Status::Running | Status::Canceling => "it is under way",
    }
}
