//! `raftq bench`: how fast the cluster is, seen from outside, and whether it kept what it acknowledged.
//!
//! Closed loops: each of the `--in-flight` loops has one connection and one request on it, and sends the next when that was
//! answered. Every write carries an idempotency key and is repeated under it, as any client's should; `--without-keys` shows
//! what that costs. After each run everything acknowledged is read back, and the run fails if a job is missing.
//!
//! `--connections`, `--waiting-claims` and `--waiting-jobs` show what many clients cost beside the load; `--total` with
//! `--keep` fills a cluster.
//!
//! The generator is one thread with a lean connection ([`crate::client::Lane`]): it usually shares the machine with the
//! nodes. Its own CPU time is printed beside the figures.

mod crowd;
pub mod drill;
mod driver;
mod exec;
mod modes;
mod report;
mod samples;
mod stage;

use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use tokio::time::Instant;

use self::{
    crowd::{Crowd, CrowdArgs},
    driver::{ATTEMPT_LOADED, Target},
    modes::{Mode, Run},
    report::{Conditions, Report},
    samples::{Pulse, Window},
    stage::Stage,
};
use super::{
    context::Context,
    failure::{Exit, Failure, Outcome},
    units,
};

#[derive(Debug, Args)]
pub struct BenchArgs {
    #[command(subcommand)]
    what: BenchCommand,
}

#[derive(Debug, Subcommand)]
enum BenchCommand {
    /// Submissions: acknowledged jobs per second
    Submit(LoadArgs),
    /// Whole lives: submit, claim and start, finish
    Life(LifeArgs),
    /// Linearizable reads of jobs, at every node
    Read(ReadArgs),
    /// Real commands through the pool, beside a bare loop that starts and waits for them
    Exec(exec::ExecArgs),
}

/// The load.
#[derive(Clone, Debug, Args)]
struct LoadArgs {
    /// Requests in flight; several with commas for a run each
    #[arg(long, value_name = "N,...", default_value = "64", value_delimiter = ',')]
    in_flight: Vec<usize>,
    /// Jobs per request
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    batch: u32,
    /// Bytes in a job's body
    #[arg(long, value_name = "BYTES", default_value_t = 200)]
    payload: usize,
    /// How long to measure, after a warm-up
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = units::duration)]
    duration: Duration,
    /// How long before that is not counted
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = units::duration)]
    warm_up: Duration,
    /// End after so many submitted jobs, in place of a time
    #[arg(long, value_name = "N", conflicts_with = "duration", value_parser = clap::value_parser!(u64).range(1..))]
    total: Option<u64>,
    /// Spread the requests over so many connections, in place of one for each that is in flight. Fewer are shared: requests go
    /// out without waiting for the answers before them
    #[arg(long, value_name = "N")]
    connections: Option<usize>,
    #[command(flatten)]
    crowd: CrowdArgs,
    /// Jobs that are live beside the measured ones, in another queue
    #[arg(long, value_name = "N", default_value_t = 0)]
    live: u64,
    /// Send no idempotency keys
    #[arg(long)]
    without_keys: bool,
    /// Leave the jobs in the queue
    #[arg(long)]
    keep: bool,
}

impl LoadArgs {
    /// For the drill: one job a request, as a worker would that has one slot.
    fn lives() -> Self {
        Self {
            in_flight: Vec::new(),
            batch: 1,
            payload: 200,
            duration: Duration::ZERO,
            warm_up: Duration::ZERO,
            total: None,
            connections: None,
            crowd: CrowdArgs::default(),
            live: 0,
            without_keys: false,
            keep: false,
        }
    }
}

#[derive(Clone, Debug, Args)]
struct LifeArgs {
    #[command(flatten)]
    load: LoadArgs,
    /// Finish and take the next in one request: two requests a life instead of three
    #[arg(long)]
    take_next: bool,
}

#[derive(Clone, Debug, Args)]
struct ReadArgs {
    #[command(flatten)]
    load: LoadArgs,
    /// What one request reads: `--batch` jobs by id, a page of 100 of the listing, or the statistics
    #[arg(long, value_name = "WHAT", default_value = "job")]
    what: What,
    /// Jobs to read among
    #[arg(long, value_name = "N", default_value_t = 1000)]
    jobs: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum What {
    Job,
    Page,
    Stats,
}

impl ReadArgs {
    fn mode(&self) -> Mode {
        match self.what {
            What::Job => Mode::Read { jobs: self.jobs },
            What::Page => Mode::Page,
            What::Stats => Mode::Stats,
        }
    }
}

/// A run of a given total ends by itself, or its requests run out of patience.
const DAY: Duration = Duration::from_secs(86_400);

pub async fn run(context: &Context, args: BenchArgs) -> Outcome {
    let (mode, load) = match args.what {
        BenchCommand::Exec(args) => return exec::run(context, args).await,
        BenchCommand::Submit(load) => (Mode::Submit, load),
        BenchCommand::Life(life) => (Mode::Life { take_next: life.take_next }, life.load),
        BenchCommand::Read(read) => (read.mode(), read.load),
    };
    if load.in_flight.contains(&0) {
        return Err(Failure::usage("--in-flight is at least 1"));
    }
    if load.connections == Some(0) {
        return Err(Failure::usage("--connections is at least 1"));
    }
    if load.total.is_some() && !matches!(mode, Mode::Submit | Mode::Life { .. }) {
        return Err(Failure::usage("--total counts submissions; a read has none"));
    }
    let target = Target::find(context).await?;
    let conditions = Conditions::new(&mode, &load, &target);
    let mut reports = Vec::new();
    for in_flight in &load.in_flight {
        reports.push(measure(context, &target, mode, &load, *in_flight).await?);
    }
    report::print(context, &conditions, &reports)?;
    Ok(Exit::ok_if(reports.iter().all(|report| report.missing == 0)))
}

async fn measure(
    context: &Context,
    target: &Target,
    mode: Mode,
    load: &LoadArgs,
    in_flight: usize,
) -> Result<Report, Failure> {
    let stage = Stage::set(context, load, mode).await?;
    let mut crowd = Crowd::gather(context, target, &load.crowd, &stage).await?;
    let from = Instant::now() + load.warm_up;
    let window = Window { from, to: from + load.total.map_or(load.duration, |_| DAY) };
    let pulse = Pulse::of_total(load.total);
    let run = Run { target, stage: &stage, pulse: &pulse, window, mode, load, attempt: ATTEMPT_LOADED };
    let samples = run.go(in_flight).await?;
    crowd.check()?;
    drop(crowd);
    let missing = stage.missing(context, &samples).await?;
    if !load.keep {
        stage.clear(context).await;
    }
    Ok(Report::new(in_flight, load, samples, missing))
}
