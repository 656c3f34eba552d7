//! The doors of single queues: pause for claims, limits for what may run at once, policy for the rest; and what went through.

use std::time::Duration;

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{
    context::Context,
    failure::{Exit, Failure, Outcome},
    units,
};
use crate::{
    api::{QueueList, QueueRequest, QueueTotals, QueueView},
    client::{Method, path_segment},
};

#[derive(Debug, clap::Args)]
pub struct PauseArgs {
    #[command(flatten)]
    which: Which,
    /// Wait until nothing of it runs any more
    #[arg(long, short)]
    wait: bool,
}

#[derive(Debug, clap::Args)]
pub struct ResumeArgs {
    #[command(flatten)]
    which: Which,
}

#[derive(Debug, clap::Args)]
struct Which {
    /// The queue
    #[arg(required_unless_present = "all", value_parser = units::name)]
    queue: Option<String>,
    /// All queues
    #[arg(long, conflicts_with = "queue")]
    all: bool,
}

impl Which {
    /// As the API has it.
    fn name(&self) -> &str {
        self.queue.as_deref().unwrap_or("*")
    }

    fn is(&self, queue: &QueueView) -> bool {
        self.queue.as_deref().is_none_or(|name| name == &*queue.name)
    }
}

/// Live statuses in the order of a job's life; what `raftq queues` shows.
const COLUMNS: [&str; 7] = ["queued", "delayed", "blocked", "buried", "reserved", "running", "canceling"];
/// Jobs that have ended.
const TOTALS: [&str; 3] = ["success", "error", "canceled"];
const UNDER_WAY: [&str; 3] = ["reserved", "running", "canceling"];
const LOOK_AGAIN: Duration = Duration::from_millis(500);

#[derive(Debug, clap::Args)]
pub struct QueuesArgs {
    /// Count how this queue's jobs have ended among those of further queues: 10 000 are counted each
    #[arg(long, value_name = "QUEUE", value_parser = units::name)]
    forget: Option<String>,
}

pub async fn queues(context: &Context, args: QueuesArgs) -> Outcome {
    let Some(queue) = &args.forget else { return list(context).await };
    let path = format!("/v1/queues/{}", path_segment(queue));
    let answer: Value = context.write(Method::DELETE, &path, &json!({})).await?;
    context.output.document(&answer)?;
    Ok(Exit::Ok)
}

async fn list(context: &Context) -> Outcome {
    let list: QueueList = context.read("/v1/queues", &[]).await?;
    if context.output.is_json() {
        context.output.json(&json!(list))?;
        return Ok(Exit::Ok);
    }
    let headings: Vec<&str> = ["queue", "paused"].into_iter().chain(COLUMNS).chain(TOTALS).collect();
    let row = |queue: &QueueView| {
        let named = [queue.name.to_string(), (queue.paused || list.paused).to_string()];
        let live = COLUMNS.iter().map(|status| count(queue, status));
        let totals = [queue.totals.success, queue.totals.error, queue.totals.canceled];
        named.into_iter().chain(live.chain(totals).map(|count| count.to_string())).collect()
    };
    let rows: Vec<Vec<String>> = list.queues.iter().map(row).collect();
    context.output.rows(&headings, &rows)?;
    if let Some(QueueTotals { success, error, canceled }) = list.other_totals {
        context.output.note(&format!("in further queues: {success} success, {error} error, {canceled} canceled"));
    }
    Ok(Exit::Ok)
}

fn count(queue: &QueueView, status: &str) -> u64 {
    queue.counts.get(status).copied().unwrap_or(0)
}

pub async fn pause(context: &Context, args: PauseArgs) -> Outcome {
    set_paused(context, &args.which, true).await?;
    if args.wait { until_still(context, &args.which).await } else { Ok(Exit::Ok) }
}

pub async fn resume(context: &Context, args: ResumeArgs) -> Outcome {
    set_paused(context, &args.which, false).await?;
    Ok(Exit::Ok)
}

async fn set_paused(context: &Context, which: &Which, paused: bool) -> Result<(), Failure> {
    let path = format!("/v1/queues/{}", path_segment(which.name()));
    let answer: Value = context.write(Method::PUT, &path, &QueueRequest { paused }).await?;
    Ok(context.output.document(&answer)?)
}

/// Waits until no job of the queue is under way; says how many are, and until when as far as their needs tell.
async fn until_still(context: &Context, which: &Which) -> Outcome {
    let mut told = None;
    loop {
        let list: QueueList = context.read("/v1/queues", &[]).await?;
        let queues = list.queues.iter().filter(|queue| which.is(queue));
        let running: u64 = queues.map(|queue| UNDER_WAY.iter().map(|status| count(queue, status)).sum::<u64>()).sum();
        if running == 0 {
            return Ok(Exit::Ok);
        }
        if told != Some(running) {
            told = Some(running);
            let end = estimated_end(context, which).await?.map(units::show_time);
            let end = end.map(|end| format!(", about until {end}")).unwrap_or_default();
            context.output.note(&format!("{running} still running{end}"));
        }
        if !context.may_look_again(LOOK_AGAIN).await {
            return Err(Failure::TimedOut(format!("{running} jobs still run; the queue stays paused")));
        }
    }
}

#[derive(Deserialize)]
struct Page {
    jobs: Vec<Value>,
}

/// When the last of the running jobs has used the time that it needs, where they say or have learned one.
async fn estimated_end(context: &Context, which: &Which) -> Result<Option<u64>, Failure> {
    let mut query = vec![
        ("status", UNDER_WAY.join(",")),
        ("fields", "id,started_at,effective_needs".to_owned()),
        ("limit", "1000".to_owned()),
    ];
    query.extend(which.queue.iter().map(|queue| ("queue", queue.clone())));
    let page: Page = context.read("/v1/jobs", &query).await?;
    let end = |job: &Value| {
        let time_s = job["effective_needs"]["time_s"].as_u64().filter(|time| *time > 0)?;
        Some(job["started_at"].as_u64()? + time_s * 1000)
    };
    Ok(page.jobs.iter().filter_map(end).max())
}

#[derive(Debug, clap::Args)]
pub struct LimitArgs {
    /// The limit group; without it: list all
    #[arg(value_parser = units::name)]
    name: Option<String>,
    /// Jobs of it that may run at once; 0 for none. Without it: show
    #[arg(value_name = "MAX")]
    max: Option<u32>,
    /// No limit any more
    #[arg(long, conflicts_with = "max", requires = "name")]
    remove: bool,
}

pub async fn limit(context: &Context, args: LimitArgs) -> Outcome {
    let Some(name) = &args.name else { return list_limits(context).await };
    let path = format!("/v1/limits/{}", path_segment(name));
    let answer: Value = if args.max.is_none() && !args.remove {
        context.read(&path, &[]).await?
    } else {
        context.write(Method::PUT, &path, &json!({ "max": args.max })).await?
    };
    context.output.document(&answer)?;
    Ok(Exit::Ok)
}

async fn list_limits(context: &Context) -> Outcome {
    let answer: Value = context.read("/v1/limits", &[]).await?;
    context.output.listing(&["name", "max", "running"], &answer, "limits")?;
    Ok(Exit::Ok)
}

#[derive(Debug, clap::Args)]
pub struct PolicyArgs {
    /// Submissions are refused beyond this many live jobs
    #[arg(long, value_name = "N")]
    live_jobs_max: Option<u64>,
    /// Archive jobs that ended longer ago than this, or `never`
    #[arg(long, value_name = "TIME", value_parser = time_or_never)]
    archive_after: Option<Limit>,
    /// Delete archived jobs that ended longer ago than this, or `never`
    #[arg(long, value_name = "TIME", value_parser = time_or_never)]
    delete_after: Option<Limit>,
    /// Bury jobs that no known worker can ever hold
    #[arg(long, value_name = "true|false")]
    bury_impossible: Option<bool>,
}

/// A time, or none.
#[derive(Clone, Copy, Debug)]
struct Limit(Option<Duration>);

fn time_or_never(text: &str) -> Result<Limit, String> {
    if text == "never" { Ok(Limit(None)) } else { units::duration(text).map(|time| Limit(Some(time))) }
}

pub async fn policy(context: &Context, args: PolicyArgs) -> Outcome {
    let mut change = Map::new();
    let milliseconds = |limit: Limit| limit.0.map_or(Value::Null, |time| json!(time.as_millis() as u64));
    change.extend(args.live_jobs_max.map(|max| ("live_jobs_max".to_owned(), max.into())));
    change.extend(args.archive_after.map(|limit| ("archive_after_ms".to_owned(), milliseconds(limit))));
    change.extend(args.delete_after.map(|limit| ("delete_after_ms".to_owned(), milliseconds(limit))));
    change.extend(args.bury_impossible.map(|bury| ("bury_impossible".to_owned(), bury.into())));
    let answer: Value = if change.is_empty() {
        context.read("/v1/policy", &[]).await?
    } else {
        context.write(Method::PUT, "/v1/policy", &change).await?
    };
    context.output.document(&answer)?;
    Ok(Exit::Ok)
}
