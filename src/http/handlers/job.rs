//! Looking at one job: GET /v1/jobs/{id}, its log, its output.

use serde::{Deserialize, Serialize};

use crate::{
    api::{Field, JobDoc, JobParts, LogDoc},
    http::{
        LiveOutput,
        call::Call,
        failure::Failure,
        params::{JobPath, Params},
        read::{self, Seen},
        reply::Reply,
    },
    queue::{
        ids::JobId,
        job::{Attempt, Status},
        refusal::Refusal,
    },
    raft::View,
};

/// Lines of one answer; a reader asks for more with `after`.
const LOG_LINES_MAX: usize = 1_000;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ShowParams {
    fields: Option<String>,
}

pub async fn show(JobPath(id): JobPath, Params(params): Params<ShowParams>, call: Call) -> Result<Reply, Failure> {
    match &params.fields {
        Some(names) => show_fields(id, &parse_fields(names)?, &call).await,
        None => show_whole(id, call).await,
    }
}

pub async fn show_whole(id: JobId, call: Call) -> Result<Reply, Failure> {
    show_fields(id, Field::ALL, &call).await
}

async fn show_fields(id: JobId, fields: &[Field], call: &Call) -> Result<Reply, Failure> {
    let view = call.view().await?;
    let mut seen = find(&view, id, fields)?;
    read::complete(&*seen.rows, &mut seen.value, fields);
    Ok(Reply::json(&JobDoc::new(&seen.value, fields)).at(seen.index))
}

fn find(view: &View, id: JobId, fields: &[Field]) -> Result<Seen<JobParts>, Failure> {
    let Seen { index, rows, value } = read::job(view, id, fields);
    match value {
        Some(value) => Ok(Seen { index, rows, value }),
        None => Err(Failure::Refused(Refusal::NotFound { id })),
    }
}

/// `id,status,ops`
pub fn parse_fields(names: &str) -> Result<Vec<Field>, Failure> {
    let parse = |name: &str| {
        Field::parse(name).ok_or_else(|| {
            let known: Vec<_> = Field::ALL.iter().map(|field| field.name()).collect();
            Failure::invalid("fields", &format!("`{name}` is no field of a job; there are {}", known.join(", ")))
        })
    };
    let fields: Vec<_> =
        names.split(',').map(str::trim).filter(|name| !name.is_empty()).map(parse).collect::<Result<_, _>>()?;
    match fields.is_empty() {
        true => Err(Failure::invalid("fields", "name at least one, or leave this out for the usual ones")),
        false => Ok(fields),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogParams {
    #[serde(default)]
    after: u64,
    limit: Option<usize>,
}

#[derive(Serialize)]
struct LogAnswer {
    log: Vec<LogDoc>,
    /// The newest serial; lines up to it that are not here were dropped for room.
    log_serial: u64,
    log_dropped: u64,
}

pub async fn log(JobPath(id): JobPath, Params(params): Params<LogParams>, call: Call) -> Result<Reply, Failure> {
    let view = call.view().await?;
    let seen = find(&view, id, &[])?;
    let max = params.limit.unwrap_or(LOG_LINES_MAX).min(LOG_LINES_MAX);
    let log = read::log(&*seen.rows, id, params.after, max).into_iter().map(LogDoc::from).collect();
    let more = seen.value.job.more();
    Ok(Reply::json(&LogAnswer { log, log_serial: more.log_serial, log_dropped: more.log_dropped }).at(seen.index))
}

#[derive(Serialize)]
struct OutputAnswer<'a> {
    op: u32,
    attempt: u32,
    /// False while the attempt still runs.
    complete: bool,
    stdout: Option<&'a str>,
    stderr: Option<&'a str>,
    exit_code: Option<i32>,
}

/// Of the command that runs now, which only the leader can show; else of the newest attempt that left any.
pub async fn output(JobPath(id): JobPath, call: Call) -> Result<Reply, Failure> {
    let view = call.view().await?;
    let mut seen = find(&view, id, &[])?;
    let current = seen.value.job.current() as u32;
    let live = match seen.value.job.lease().map(|lease| lease.id) {
        Some(lease) => call.front.pool.output(id, lease).await.or_else(|| call.front.tails.of(lease)),
        None => None,
    };
    if let Some(live) = live {
        let attempt = seen.value.job.current_op().runs().attempts;
        return Ok(Reply::json(&of_running(current, attempt, &live)).at(seen.index));
    }
    let runs = matches!(seen.value.job.status(), Status::Running | Status::Canceling);
    if runs && let Some(leader) = call.front.other_leader() {
        return Err(call.elsewhere(leader).await);
    }
    read::complete(&*seen.rows, &mut seen.value, &[Field::Ops]);
    let parts = &seen.value;
    let newest = parts.attempts.iter().flat_map(|(op, attempts)| attempts.iter().map(|attempt| (*op, attempt)));
    let answer = match newest.max_by_key(|(_, attempt)| attempt.lease) {
        Some((op, attempt)) => of_attempt(op, attempt),
        None => OutputAnswer { op: current, attempt: 0, complete: false, stdout: None, stderr: None, exit_code: None },
    };
    Ok(Reply::json(&answer).at(seen.index))
}

fn of_running(op: u32, attempt: u32, live: &LiveOutput) -> OutputAnswer<'_> {
    let (stdout, stderr) = (Some(&*live.stdout), Some(&*live.stderr));
    OutputAnswer { op, attempt, complete: false, stdout, stderr, exit_code: None }
}

fn of_attempt(op: u32, attempt: &Attempt) -> OutputAnswer<'_> {
    OutputAnswer {
        op,
        attempt: attempt.number,
        complete: true,
        stdout: attempt.stdout.as_deref(),
        stderr: attempt.stderr.as_deref(),
        exit_code: attempt.exit_code,
    }
}
