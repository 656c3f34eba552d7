//! GET /v1/jobs/{id}/wait: until a job is newer than the caller knows, on any node, through any change of leader.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::job::parse_fields;
use crate::{
    api::{Field, JobDoc, JobParts, LogDoc},
    http::{
        call::Call,
        failure::Failure,
        params::{JobPath, Params},
        read,
        reply::Reply,
    },
    queue::{ids::JobId, job::Job, refusal::Refusal, rows::Rows},
    raft::{Consistency, View},
};

/// As long as a claim may wait, and for the same reason: proxies and clients give up on silence.
const TIMEOUT_MS_MAX: u64 = 60_000;
const TIMEOUT_MS_DEFAULT: u64 = 30_000;
/// Lines of one answer; the next call brings the rest.
const LOG_LINES_MAX: usize = 1_000;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WaitParams {
    /// The version known; absent: look once.
    since: Option<u64>,
    /// The newest log serial known.
    log_serial: Option<u64>,
    fields: Option<String>,
    timeout_ms: Option<u64>,
}

#[derive(Serialize)]
struct WaitAnswer<'a> {
    job: JobDoc<'a>,
    log: Vec<LogDoc>,
}

#[derive(Serialize)]
struct Unchanged {
    unchanged: bool,
}

pub async fn wait(JobPath(id): JobPath, Params(params): Params<WaitParams>, mut call: Call) -> Result<Reply, Failure> {
    let timeout_ms = params.timeout_ms.unwrap_or(TIMEOUT_MS_DEFAULT);
    if timeout_ms > TIMEOUT_MS_MAX {
        return Err(Failure::invalid("timeout_ms", "wait at most 60000 ms, then ask again"));
    }
    let until = Instant::now() + Duration::from_millis(timeout_ms);
    let fields = params.fields.as_deref().map(parse_fields).transpose()?;
    let fields = fields.unwrap_or_else(|| Field::ALL.to_vec());
    call.let_go_of_buffer();
    let waiting = call.front.hub.jobs.register(id);
    // The first look is as fresh as the request asks for; later ones follow this node's own entries.
    // Looks are boxed: what they take would otherwise be held by each request for as long as it waits.
    let mut index = Box::pin(call.view()).await?.at_least();
    loop {
        let mut changed = Box::pin(waiting.changed().notified());
        // Listen first, look then, so that what changes in between is heard.
        changed.as_mut().enable();
        let look = call.front.view(Consistency::Local, index, call.context.deadline.max(until));
        index = match params.look(&Box::pin(look).await?, id, &fields)? {
            Seen::News(reply) => return Ok(reply),
            Seen::Nothing { index } => index,
        };
        let timed_out = tokio::time::timeout_at(until, changed).await.is_err();
        if timed_out || call.front.hub.has_ended() {
            return Ok(Reply::json(&Unchanged { unchanged: true }).at(index));
        }
    }
}

/// What one look gave. It keeps nothing of what it looked at: pinned rows would keep old data on disk for as long as it waits.
enum Seen {
    News(Reply),
    Nothing { index: u64 },
}

impl WaitParams {
    fn look(&self, view: &View, id: JobId, fields: &[Field]) -> Result<Seen, Failure> {
        let seen = read::job(view, id, fields);
        let parts = seen.value.ok_or(Failure::Refused(Refusal::NotFound { id }))?;
        Ok(match self.is_news(&parts.job) {
            true => Seen::News(self.answer(seen.index, &*seen.rows, parts, fields)),
            false => Seen::Nothing { index: seen.index },
        })
    }

    fn is_news(&self, job: &Job) -> bool {
        let newer = self.since.is_none_or(|since| job.version.0 > since);
        let logged = self.log_serial.is_some_and(|serial| job.more().log_serial > serial);
        newer || logged || job.status().is_final()
    }

    fn answer(&self, index: u64, rows: &dyn Rows, mut parts: JobParts, fields: &[Field]) -> Reply {
        read::complete(rows, &mut parts, fields);
        let log = match self.log_serial {
            Some(after) => read::log(rows, parts.job.id, after, LOG_LINES_MAX),
            None => Vec::new(),
        };
        let log = log.into_iter().map(LogDoc::from).collect();
        Reply::json(&WaitAnswer { job: JobDoc::new(&parts, fields), log }).at(index)
    }
}
