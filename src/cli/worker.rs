//! `raftq worker`: runs jobs on any machine that reaches any node.
//!
//! ```text
//!            claim (long poll) ─────────► tasks ──► Runner ──► supervisor, commands
//!   cluster                                            │
//!            ◄── starts, touches, finishes ── what they say, how they ended
//! ```
//!
//! Several jobs per claim, all touches and finishes in one request, and where a slot becomes free the next claim rides on the
//! finish. Leases are counted from when the call that granted or renewed them was *sent*, on a clock that includes suspend;
//! the supervisor kills what runs past its lease, whatever happens to this process. A change of leader costs nothing but
//! time: the calls are repeated, the leases are the cluster's.
//!
//! Told to end (SIGTERM, Ctrl-C), it stops what runs and gives it back; told so twice, it kills that at once. Where nobody listens it does not wait for long: what the
//! cluster did not hear of comes out when the leases lapse.

mod directory;
mod outcome;
mod registry;
mod runs;
mod station;

use std::{
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use directory::OwnDirectory;

use super::{
    Common,
    context::Context,
    failure::{Failure, Outcome},
    output::Output,
    units,
};
use crate::{
    api::Cores,
    worker::{Options, Supervisor},
};

#[derive(Debug, clap::Args)]
pub struct WorkerArgs {
    /// Queues to take jobs from
    #[arg(long, short, default_value = "default", value_delimiter = ',')]
    queue: Vec<String>,
    /// Jobs at once [default: the number of cores]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    slots: Option<u32>,
    /// Cores to give away [default: all]
    #[arg(long, value_name = "N", value_parser = units::cores)]
    cores: Option<Cores>,
    /// Memory to give away [default: all]
    #[arg(long, value_name = "SIZE", value_parser = units::megabytes)]
    ram: Option<u64>,
    /// Disk to give away [default: what is free]
    #[arg(long, value_name = "SIZE", value_parser = units::megabytes)]
    disk: Option<u64>,
    /// End after this long; jobs that need longer are not taken, what still runs is given back
    #[arg(long, value_name = "TIME", value_parser = units::duration)]
    max_time: Option<Duration>,
    /// End when there is nothing to do
    #[arg(long)]
    exit_when_idle: bool,
    /// How the worker is called [default: HOST-PID]
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Length of its leases [default: each job's own]
    #[arg(long, value_name = "TIME", value_parser = units::duration)]
    lease: Option<Duration>,
    /// Files of running commands; no other worker may use it [default: a new one]
    #[arg(long, value_name = "DIR")]
    scratch_dir: Option<PathBuf>,
}

/// To be called before any thread is started, as the supervisor must be.
pub fn run(common: &Common, args: WorkerArgs) -> Outcome {
    let (own, scratch) = match &args.scratch_dir {
        Some(scratch) => (None, scratch.clone()),
        None => {
            let own = OwnDirectory::new().map_err(|error| unusable(&std::env::temp_dir(), &error))?;
            let scratch = own.path().to_owned();
            (Some(own), scratch)
        }
    };
    let supervisor = Supervisor::start(Options::new(&scratch)).map_err(|error| unusable(&scratch, &error))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let context = Context::new(common, Output::choose(common.json))?;
    let ended = runtime.block_on(station::work(&context, &args, supervisor));
    if own.is_some_and(|own| own.remove().is_err()) {
        context.output.note(&format!("{} is left behind", scratch.display()));
    }
    ended
}

fn unusable(scratch: &Path, error: &io::Error) -> Failure {
    Failure::usage(format!("the worker cannot use {}: {error}; give another --scratch-dir", scratch.display()))
}
