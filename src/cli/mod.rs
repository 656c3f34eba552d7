//! The command line: what a person or a script types, and what they get back.
//!
//! One file a command family. A command reads its flags, makes calls through [`crate::client`], prints through
//! [`output::Output`], and ends as an [`failure::Exit`] (0 ok, 1 the job or some ids failed, 2 usage, 3 unreachable or no
//! leader, 4 refused, 5 outcome unknown, 6 time-out) or a [`failure::Failure`], which is one sentence on standard error.
//! This is the only room that knows clap, and the only one that prints.

mod act;
mod bench;
mod cluster;
mod context;
mod failure;
mod fields;
mod inspect;
mod list;
mod node;
mod output;
mod pool;
mod queues;
mod select;
mod show;
mod submit;
mod units;
mod wait;
mod watch;
mod worker;

use std::{process::ExitCode, time::Duration};

use clap::{CommandFactory, Parser, Subcommand};

use self::{
    context::Context,
    failure::{Exit, Failure, Outcome},
    output::Output,
};

#[derive(Debug, Parser)]
#[command(
    name = "raftq",
    version,
    about = "A job queue that survives the death of its own master",
    max_term_width = 110,
    disable_help_subcommand = false,
    after_help = "Exit codes: 0 ok, 1 the job or some of the ids failed, 2 usage, 3 unreachable or no leader,\n\
                  4 refused (drained, full), 5 outcome unknown, 6 time-out. `submit --wait` of one command ends as it ends."
)]
struct Cli {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    command: Command,
}

/// What every command understands.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Every command")]
struct Common {
    /// Nodes to ask, with commas; any one will do
    #[arg(
        long,
        global = true,
        env = "RAFTQ_SERVER",
        value_name = "HOST:PORT,...",
        default_value = "127.0.0.1:7401,127.0.0.1:7402,127.0.0.1:7403",
        value_delimiter = ','
    )]
    server: Vec<String>,
    /// Print JSON instead of a table
    #[arg(long, global = true)]
    json: bool,
    /// Give up after this long (90, 90s, 5m, 6h, 2d); waiting commands wait for ever unless it is given [default: 10s]
    #[arg(long, global = true, value_name = "TIME", value_parser = units::duration, hide_default_value = true)]
    timeout: Option<Duration>,
    /// Read what the asked node knows, without asking the leader
    #[arg(long, global = true)]
    local: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a node of the cluster
    Node(node::NodeArgs),
    /// Submit a job, or many
    Submit(Box<submit::SubmitArgs>),
    /// List jobs
    List(list::ListArgs),
    /// Show jobs in full
    Show(show::ShowArgs),
    /// Wait until jobs have ended
    Wait(wait::WaitArgs),
    /// Follow a job's log and output until it has ended
    Watch(watch::WatchArgs),
    /// Cancel jobs
    Cancel(act::CancelArgs),
    /// Queue buried, delayed, failed or canceled jobs again
    Kick(act::KickArgs),
    /// Put jobs aside until they are kicked
    Bury(act::BuryArgs),
    /// Change fields of jobs that do not run
    Edit(act::EditArgs),
    /// Delete jobs for good
    Delete(act::DeleteArgs),
    /// Change the priority of jobs
    Priority(act::PriorityArgs),
    /// Take ended jobs out of the default listing
    Archive(act::ArchiveArgs),
    /// Archive all jobs that ended longer ago than an age
    Autoarchive(act::AutoarchiveArgs),
    /// Close or open the queue for submissions
    Drain(queues::DrainArgs),
    /// Queues, with their live jobs by status
    Queues,
    /// Stop claims from a queue, or from all
    Pause(queues::PauseArgs),
    /// Let a queue's jobs be claimed again
    Resume(queues::ResumeArgs),
    /// How many jobs of a limit group may run at once
    Limit(queues::LimitArgs),
    /// Show or change the limits and ages that the cluster keeps to
    Policy(queues::PolicyArgs),
    /// The worker pool of the leader
    Pool(pool::PoolArgs),
    /// Form, inspect and change the cluster
    Cluster(cluster::ClusterArgs),
    /// Why a job is not running
    Why(inspect::WhyArgs),
    /// Totals, rates, estimates, learned needs
    Stats,
    /// Who works
    Workers,
    /// Follow what happens to jobs
    Events(inspect::EventsArgs),
    /// Run jobs on this machine
    Worker(worker::WorkerArgs),
    /// Disturb the master under load, and count what was lost
    Drill(bench::drill::DrillArgs),
    /// Measure the cluster, and whether it keeps what it acknowledges
    Bench(bench::BenchArgs),
    /// Print completions for a shell
    Completions(CompletionsArgs),
}

#[derive(Debug, clap::Args)]
struct CompletionsArgs {
    shell: clap_complete::Shell,
}

/// Reads the command line, does it, and says how it ended.
pub fn run() -> ExitCode {
    let cli = Cli::parse();
    let outcome = match cli.command {
        Command::Node(args) => node::run(args),
        Command::Worker(args) => worker::run(&cli.common, args),
        Command::Completions(args) => completions(args),
        command => ask(&cli.common, command),
    };
    match outcome {
        Ok(exit) => exit.into(),
        Err(failure) if failure.is_broken_pipe() => Exit::Ok.into(),
        Err(failure) => {
            eprintln!("raftq: {failure}");
            failure.exit().into()
        }
    }
}

fn completions(args: CompletionsArgs) -> Outcome {
    clap_complete::generate(args.shell, &mut Cli::command(), "raftq", &mut std::io::stdout());
    Ok(Exit::Ok)
}

/// Commands that talk to a cluster: one thread is enough, and leaves the cores to the nodes.
fn ask(common: &Common, command: Command) -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(Failure::from)?;
    let context = Context::new(common, Output::choose(common.json))?;
    runtime.block_on(dispatch(context, command))
}

async fn dispatch(context: Context, command: Command) -> Outcome {
    match command {
        Command::Submit(args) => submit::run(&context, *args).await,
        Command::List(args) => list::run(&context, args).await,
        Command::Show(args) => show::run(&context, args).await,
        Command::Wait(args) => wait::run(&context, args).await,
        Command::Watch(args) => watch::run(&context, args).await,
        Command::Cancel(args) => act::cancel(&context, args).await,
        Command::Kick(args) => act::kick(&context, args).await,
        Command::Bury(args) => act::bury(&context, args).await,
        Command::Edit(args) => act::edit(&context, args).await,
        Command::Queues => queues::list(&context).await,
        Command::Pause(args) => queues::pause(&context, args).await,
        Command::Resume(args) => queues::resume(&context, args).await,
        Command::Limit(args) => queues::limit(&context, args).await,
        Command::Policy(args) => queues::policy(&context, args).await,
        Command::Why(args) => inspect::why(&context, args).await,
        Command::Stats => inspect::stats(&context).await,
        Command::Workers => inspect::workers(&context).await,
        Command::Events(args) => inspect::events(&context, args).await,
        Command::Delete(args) => act::delete(&context, args).await,
        Command::Priority(args) => act::priority(&context, args).await,
        Command::Archive(args) => act::archive(&context, args).await,
        Command::Autoarchive(args) => act::autoarchive(&context, args).await,
        Command::Drain(args) => queues::drain(&context, args).await,
        Command::Pool(args) => pool::run(&context, args).await,
        Command::Cluster(args) => cluster::run(&context, args).await,
        Command::Drill(args) => bench::drill::run(&context, args).await,
        Command::Bench(args) => bench::run(&context, args).await,
        Command::Node(_) | Command::Worker(_) | Command::Completions(_) => unreachable!("run() has done these"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tree_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn unknown_words_are_usage_errors() {
        for line in
            ["raftq frobnicate", "raftq list --frobnicate", "raftq show seventeen", "raftq wait --timeout soon 1"]
        {
            let error = Cli::try_parse_from(line.split(' ')).expect_err(line);
            assert_eq!(error.exit_code(), 2, "{line}");
        }
    }
}
