//! GET /v1/cluster/backup, POST /v1/cluster/restore: the two calls whose bodies are files.

use std::sync::Arc;

use axum::{
    body::Body,
    extract::{Request, State},
    http::{HeaderMap, HeaderValue, header},
    response::{IntoResponse, Response},
};
use futures::TryStreamExt;
use serde::Deserialize;
use serde_json::{Value, json};

use super::cluster::membership_failure;
use crate::{
    http::{
        Front,
        call::{Call, check_coding},
        context::Context,
        failure::Failure,
        front::read_failure,
        params::Params,
        reply::{MadeAt, Reply},
    },
    queue::ids::JobId,
    raft::{Backup, BackupError, BackupSummary, RestoreError, RestoreOptions, Restored},
};

/// What a browser does not send to another origin without asking first.
const MEDIA_TYPE: &str = "application/octet-stream";

/// A snapshot of this node that is as fresh as a read. The request's deadline is that of the read: the rest takes its time.
pub async fn backup(call: Call) -> Result<Response, Failure> {
    let context = &call.context;
    let Backup { index, file } =
        call.front.node.backup(context.consistency, context.deadline).await.map_err(failure)?;
    let bytes = file.bytes;
    let mut response = Body::from_stream(file.pieces()).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE));
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(bytes));
    response.extensions_mut().insert(MadeAt(index));
    Ok(response)
}

fn failure(error: BackupError) -> Failure {
    match error {
        BackupError::Read(error) => read_failure(error),
        BackupError::Io(error) => {
            tracing::error!(%error, "backup not handed out");
            Failure::internal()
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RestoreParams {
    after_job: Option<u64>,
    paused: Option<bool>,
}

/// The body arrives whole before anything is said, so that whoever sends it hears the answer.
pub async fn restore(
    Params(params): Params<RestoreParams>,
    State(front): State<Arc<Front>>,
    request: Request,
) -> Result<Reply, Failure> {
    let (parts, body) = request.into_parts();
    Context::read(&parts.method, &parts.uri, &parts.headers)?;
    check_coding(&parts.headers)?;
    check_media_type(&parts.headers)?;
    let pieces = body.into_data_stream().map_err(std::io::Error::other);
    let incoming = front.node.receive_backup(pieces).await.map_err(refusal)?;
    let options = RestoreOptions { after_job: params.after_job.map(JobId), paused: params.paused.unwrap_or(true) };
    let restored = front.node.restore(incoming, options).await.map_err(refusal)?;
    Ok(Reply::json(&document(&restored)).at(restored.index))
}

fn check_media_type(headers: &HeaderMap) -> Result<(), Failure> {
    match headers.get(header::CONTENT_TYPE).is_some_and(|given| given.as_bytes() == MEDIA_TYPE.as_bytes()) {
        true => Ok(()),
        false => Err(Failure::new("unsupported_media_type", "send a backup as application/octet-stream")),
    }
}

fn refusal(error: RestoreError) -> Failure {
    let message = error.to_string();
    match error {
        RestoreError::Backup(_) | RestoreError::Receiving(_) => Failure::invalid("backup", &message),
        RestoreError::AfterJob { .. } | RestoreError::NumbersSpent => Failure::invalid("after_job", &message),
        RestoreError::NoSpace { .. } => Failure::new("no_space", message),
        RestoreError::Members(error) => membership_failure(&error),
        RestoreError::Failed(_) => {
            tracing::error!(%message, "not restored");
            Failure::internal()
        }
    }
}

fn document(restored: &Restored) -> Value {
    json!({
        "cluster": restored.cluster.to_string(),
        "index": restored.index,
        "last_job": restored.last_job,
        "last_lease": restored.last_lease,
        "leases_ended": restored.leases_ended,
        "paused": restored.paused,
        "led": restored.led,
        "backup": summary(&restored.backup),
    })
}

fn summary(backup: &BackupSummary) -> Value {
    json!({
        "cluster": backup.cluster.to_string(),
        "index": backup.index,
        "taken_at": backup.taken,
        "live_jobs": backup.live_jobs,
        "ended_jobs": backup.ended_jobs,
        "archived_jobs": backup.archived_jobs,
        "last_job": backup.last_job,
        "drained": backup.drained,
        "bytes": backup.bytes,
    })
}
