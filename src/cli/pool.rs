//! `raftq pool`: the built-in workers, which run on whichever node leads.

use clap::Subcommand;
use serde::Deserialize;
use serde_json::json;

use super::{
    context::Context,
    failure::{Exit, Failure, Outcome},
    holds::Holds,
    wait,
};
use crate::{
    api::{PoolRequest, PoolView},
    client::Method,
};

#[derive(Debug, clap::Args)]
pub struct PoolArgs {
    #[command(subcommand)]
    what: PoolCommand,
}

#[derive(Debug, Subcommand)]
enum PoolCommand {
    /// Show size, queues, and how many jobs run
    Status,
    /// Run up to N jobs at once; when shrinking, running ones end in peace
    Resize {
        /// Jobs at once; 0 for none
        #[arg(value_name = "N")]
        size: u32,
    },
    /// Take jobs
    Activate,
    /// Take no more jobs; running ones end in peace
    Deactivate,
    /// Wait until all jobs now in the pool's queues are done, those too that only workers run; says what keeps them
    Quiesce,
}

pub async fn run(context: &Context, args: PoolArgs) -> Outcome {
    let request = match args.what {
        PoolCommand::Status => return print(context, &context.read("/v1/pool", &[]).await?),
        PoolCommand::Quiesce => return quiesce(context).await,
        PoolCommand::Resize { size } => PoolRequest { size: Some(size), ..PoolRequest::default() },
        PoolCommand::Activate => PoolRequest { active: Some(true), ..PoolRequest::default() },
        PoolCommand::Deactivate => PoolRequest { active: Some(false), ..PoolRequest::default() },
    };
    print(context, &context.write(Method::PUT, "/v1/pool", &request).await?)
}

fn print(context: &Context, pool: &PoolView) -> Outcome {
    if context.output.is_json() {
        context.output.json(&json!(pool))?;
        return Ok(Exit::Ok);
    }
    context.output.record(&[
        ("active", pool.active.to_string()),
        ("size", pool.size.to_string()),
        ("running", pool.running.to_string()),
        ("queues", pool.queues.join(",")),
    ])?;
    Ok(Exit::Ok)
}

/// Waits for the jobs that are there now; later ones do not count.
async fn quiesce(context: &Context) -> Outcome {
    let pool: PoolView = context.read("/v1/pool", &[]).await?;
    if !pool.active || pool.size == 0 {
        return Err(Failure::usage(
            "the pool runs nothing, so its jobs would never be done: `raftq pool activate`, and `raftq pool resize N`",
        ));
    }
    let mut ids = Vec::new();
    for queue in &pool.queues {
        ids.extend(live_jobs(context, queue).await?);
    }
    tokio::select! {
        outcome = wait::for_all(context, &ids) => outcome,
        failure = Holds::default().keep_telling(context, &pool.queues) => Err(failure),
    }
}

#[derive(Deserialize)]
struct Page {
    jobs: Vec<Row>,
    #[serde(default)]
    next: Option<String>,
}

#[derive(Deserialize)]
struct Row {
    id: u64,
}

async fn live_jobs(context: &Context, queue: &str) -> Result<Vec<u64>, Failure> {
    let mut ids = Vec::new();
    let mut after: Option<String> = None;
    loop {
        let mut query = vec![
            ("queue", queue.to_owned()),
            ("status", "queued,delayed,blocked,reserved,running,canceling".to_owned()),
            ("fields", "id".to_owned()),
            ("limit", "1000".to_owned()),
        ];
        query.extend(after.map(|after| ("after", after)));
        let page: Page = context.read("/v1/jobs", &query).await?;
        ids.extend(page.jobs.iter().map(|row| row.id));
        match page.next {
            Some(next) => after = Some(next),
            None => return Ok(ids),
        }
    }
}
