//! Real commands through the pool, and the same commands in a bare loop of start and wait on the same cores.

use std::{
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant as WallInstant},
};

use clap::Args;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::{
    signal::unix::{SignalKind, signal},
    time::Instant,
};

use super::super::{
    context::Context,
    failure::{Exit, Failure, Outcome},
    units, wait,
};
use crate::{
    api::{PoolRequest, PoolView, SubmitAnswer},
    client::Method,
};

#[derive(Clone, Debug, Args)]
pub struct ExecArgs {
    /// How many commands
    #[arg(long, value_name = "N", default_value_t = 2000)]
    jobs: u64,
    /// Give up if they have not all ended by then
    #[arg(long, value_name = "TIME", default_value = "5m", value_parser = units::duration)]
    patience: Duration,
    /// Give the pool this many slots for as long as it takes
    #[arg(long, value_name = "N")]
    pool_size: Option<u32>,
    /// The command
    #[arg(last = true, default_value = "/bin/true")]
    command: Vec<String>,
}

const PIECE: u64 = 1000;
const POLL: Duration = Duration::from_millis(20);
const BARE_LOOP: Duration = Duration::from_secs(2);

#[derive(Deserialize)]
struct Page {
    jobs: Vec<Value>,
}

pub async fn run(context: &Context, args: ExecArgs) -> Outcome {
    let pool: PoolView = context.read("/v1/pool", &[]).await?;
    let Some(size) = args.pool_size else { return measure(context, &args, &pool).await };
    // From here on a signal ends the measuring, after the bare loop, and not what puts the size back.
    let (mut term, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let measured = async { measure(context, &args, &resize(context, size).await?).await };
    let outcome = tokio::select! {
        outcome = measured => outcome,
        _ = term.recv() => Ok(ended_by(SignalKind::terminate())),
        _ = interrupt.recv() => Ok(ended_by(SignalKind::interrupt())),
    };
    resize(context, pool.size).await?;
    outcome
}

/// As a shell has it.
fn ended_by(signal: SignalKind) -> Exit {
    Exit::Command(128 + signal.as_raw_value() as u8)
}

async fn resize(context: &Context, size: u32) -> Result<PoolView, Failure> {
    let request = PoolRequest { size: Some(size), ..PoolRequest::default() };
    context.write(Method::PUT, "/v1/pool", &request).await
}

async fn measure(context: &Context, args: &ExecArgs, pool: &PoolView) -> Outcome {
    let Some(queue) = pool.queues.first().filter(|_| pool.active && pool.size > 0) else {
        return Err(Failure::usage("the pool is not active: `raftq pool activate` and `raftq pool resize N`"));
    };
    let bare = bare_rate(&args.command, pool.size as usize)?;
    let group = format!("bench-{:08x}", rand::random::<u32>());
    let began = Instant::now();
    let last = submit(context, args, queue, &group).await?;
    let ended = until_ended(context, last, &group, began + args.patience).await?;
    let seconds = (ended - began).as_secs_f64();
    let successes = count(context, &group, "success", args.jobs).await?;
    print(context, args, pool.size, args.jobs as f64 / seconds, bare, args.jobs - successes)?;
    Ok(Exit::ok_if(successes == args.jobs))
}

/// Gives the last job's id.
async fn submit(context: &Context, args: &ExecArgs, queue: &str, group: &str) -> Result<Option<u64>, Failure> {
    let spec = json!({ "queue": queue, "groups": [group], "argv": args.command, "cwd": "/" });
    let mut left = args.jobs;
    let mut last = None;
    while left > 0 {
        let piece = left.min(PIECE);
        let request = json!({ "jobs": vec![&spec; piece as usize] });
        let answer: SubmitAnswer = context.write(Method::POST, "/v1/jobs", &request).await?;
        last = answer.results.last().and_then(|result| result.id).map(|id| id.0);
        if let Some(error) = answer.results.into_iter().find_map(|result| result.error) {
            return Err(Failure::Refused(error));
        }
        left -= piece;
    }
    Ok(last)
}

/// Waits for the last one, which starts last, and only then looks whether others are left: looking again and again through
/// thousands of ended jobs would take time from what is measured.
async fn until_ended(context: &Context, last: Option<u64>, group: &str, patience: Instant) -> Result<Instant, Failure> {
    const LIVE: &str = "queued,delayed,blocked,reserved,running,canceling";
    if let Some(id) = last
        && let Ok(settled) = tokio::time::timeout_at(patience, wait::settle(context, id)).await
    {
        settled?;
    }
    loop {
        let now = Instant::now();
        if count(context, group, LIVE, 1).await? == 0 {
            return Ok(now);
        }
        if now >= patience {
            return Err(Failure::TimedOut("the commands have not all ended; see `raftq list`".into()));
        }
        tokio::time::sleep(POLL).await;
    }
}

/// How many of the group have one of these statuses, up to `most`.
async fn count(context: &Context, group: &str, status: &str, most: u64) -> Result<u64, Failure> {
    let mut found = 0;
    let mut after: Option<String> = None;
    while found < most {
        let mut query = vec![
            ("group", group.to_owned()),
            ("status", status.to_owned()),
            ("fields", "id".to_owned()),
            ("limit", (most - found).min(PIECE).to_string()),
        ];
        query.extend(after.take().map(|after| ("after", after)));
        let page: Value = context.read("/v1/jobs", &query).await?;
        after = page["next"].as_str().map(str::to_owned);
        found += Page::deserialize(page).map_err(|error| Failure::Other(error.into()))?.jobs.len() as u64;
        if after.is_none() {
            break;
        }
    }
    Ok(found)
}

/// Commands per second of `threads` loops that do nothing but start and wait.
fn bare_rate(command: &[String], threads: usize) -> Result<f64, Failure> {
    let began = WallInstant::now();
    let loops: Vec<_> = (0..threads)
        .map(|_| {
            let command = command.to_vec();
            thread::spawn(move || bare_loop(&command, began + BARE_LOOP))
        })
        .collect();
    let mut runs = 0;
    for ended in loops {
        runs += ended.join().map_err(|_| Failure::usage("the bare loop broke"))??;
    }
    Ok(runs as f64 / began.elapsed().as_secs_f64())
}

fn bare_loop(command: &[String], end: WallInstant) -> Result<u64, Failure> {
    let mut runs = 0;
    while WallInstant::now() < end {
        let mut child = Command::new(&command[0]);
        child.args(&command[1..]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        child.status().map_err(|error| Failure::usage(format!("`{}` cannot be started: {error}", command[0])))?;
        runs += 1;
    }
    Ok(runs)
}

fn print(context: &Context, args: &ExecArgs, size: u32, rate: f64, bare: f64, failed: u64) -> Result<(), Failure> {
    let share = rate / bare;
    if context.output.is_json() {
        let report = json!({
            "mode": "exec", "command": args.command, "jobs": args.jobs, "pool_size": size, "commands_per_s": rate.round(),
            "bare_loop_per_s": bare.round(), "share": (share * 100.0).round() / 100.0, "failed": failed,
        });
        return Ok(context.output.json(&report)?);
    }
    Ok(context.output.record(&[
        ("command", args.command.join(" ")),
        ("jobs", args.jobs.to_string()),
        ("pool size", size.to_string()),
        ("commands/s", format!("{rate:.0}")),
        ("bare loop/s", format!("{bare:.0}")),
        ("share", format!("{:.0} %", share * 100.0)),
        ("failed", failed.to_string()),
    ])?)
}
