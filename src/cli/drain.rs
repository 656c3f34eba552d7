//! `raftq drain`: closes the queue for submissions, and waits until what was taken in is done.

use std::{collections::BTreeMap, time::Duration};

use clap::Subcommand;
use serde::Deserialize;
use serde_json::json;
use tokio::time::Instant;

use super::{
    context::Context,
    failure::{Exit, Failure, Outcome},
    holds::Holds,
    units,
};
use crate::{
    api::{DrainRequest, DrainView},
    client::Method,
};

#[derive(Debug, clap::Args)]
pub struct DrainArgs {
    #[command(subcommand)]
    what: DrainCommand,
}

#[derive(Debug, Subcommand)]
enum DrainCommand {
    /// Refuse submissions on every node from now on
    #[command(
        after_help = "Examples:\n  raftq drain on --reason 'maintenance until noon'\n  raftq drain on --wait --timeout 1h"
    )]
    On {
        /// Shown to whoever is refused
        #[arg(long, value_name = "TEXT", value_parser = units::reason)]
        reason: Option<String>,
        /// Wait until no job waits or runs any more, and say how long that may take and what keeps jobs; buried ones are left
        #[arg(long, short)]
        wait: bool,
    },
    /// Accept submissions again
    Off,
    /// Is it drained, by whom, why, since when?
    Status,
}

const LOOK_AGAIN: Duration = Duration::from_millis(500);
const TELL_AGAIN: Duration = Duration::from_secs(10);

pub async fn run(context: &Context, args: DrainArgs) -> Outcome {
    let (view, waits) = match args.what {
        DrainCommand::Status => (context.read("/v1/drain", &[]).await?, false),
        DrainCommand::On { reason, wait } => (set(context, true, reason).await?, wait),
        DrainCommand::Off => (set(context, false, None).await?, false),
    };
    print(context, &view)?;
    if waits { until_done(context).await } else { Ok(Exit::Ok) }
}

async fn set(context: &Context, drained: bool, reason: Option<String>) -> Result<DrainView, Failure> {
    let request = DrainRequest { drained, reason: reason.map(Into::into) };
    context.write(Method::PUT, "/v1/drain", &request).await
}

fn print(context: &Context, view: &DrainView) -> Result<(), Failure> {
    if context.output.is_json() {
        return Ok(context.output.json(&json!(view))?);
    }
    let mut record = vec![("drained", view.drained.to_string())];
    record.extend(view.by.as_ref().map(|by| ("by", by.to_string())));
    record.extend(view.reason.as_ref().map(|reason| ("reason", reason.to_string())));
    record.extend(view.since.map(|since| ("since", units::show_time(since.0))));
    Ok(context.output.record(&record)?)
}

/// Of GET /v1/stats.
#[derive(Deserialize)]
struct Stats {
    /// By status.
    live: BTreeMap<String, u64>,
    /// Until all have ended, at the rate of the last minute.
    etc_ms: Option<u64>,
}

async fn until_done(context: &Context) -> Outcome {
    let (mut told, mut tell_at, mut holds) = (None, Instant::now(), Holds::default());
    loop {
        let stats: Stats = context.read("/v1/stats", &[]).await?;
        let left = stats.left();
        if left == 0 {
            return Ok(Exit::Ok);
        }
        if Instant::now() >= tell_at {
            if told != Some(left) {
                context.output.note(&stats.sentence());
            }
            holds.tell(context, None).await?;
            (told, tell_at) = (Some(left), Instant::now() + TELL_AGAIN);
        }
        if !context.may_look_again(LOOK_AGAIN).await {
            return Err(Failure::TimedOut(format!("{left} jobs are not done; the queue stays drained")));
        }
    }
}

impl Stats {
    /// Jobs that wait or run. A buried one does neither.
    fn left(&self) -> u64 {
        self.live.iter().filter(|(status, _)| *status != "buried").map(|(_, count)| count).sum()
    }

    /// Buried ones are told as well: blocked jobs may wait for them.
    fn sentence(&self) -> String {
        let counts = self.live.iter().filter(|(_, count)| **count > 0);
        let counts: Vec<String> = counts.map(|(status, count)| format!("{count} {status}")).collect();
        let etc =
            self.etc_ms.map(|ms| format!("; about {} at this rate", units::show_duration(Duration::from_millis(ms))));
        format!("{}{}", counts.join(", "), etc.unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jobs_that_are_left_are_told_with_an_estimate() {
        let live = [("buried", 2), ("queued", 40), ("reserved", 0), ("running", 3)];
        let live: BTreeMap<String, u64> = live.map(|(status, count)| (status.to_owned(), count)).into();
        let stats = Stats { live, etc_ms: Some(250_000) };
        assert_eq!(stats.left(), 43);
        assert_eq!(stats.sentence(), "2 buried, 40 queued, 3 running; about 4m10s at this rate");
    }
}
