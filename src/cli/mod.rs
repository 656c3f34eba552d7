//! The command line: what a person or a script types, and what they get back.
//!
//! One file a command family. A command reads its flags, makes calls through [`crate::client`], prints through
//! [`output::Output`], and ends as an [`failure::Exit`] (0 ok, 1 the job or some ids failed, 2 usage, 3 unreachable or no
//! leader, 4 refused, 5 outcome unknown, 6 time-out) or a [`failure::Failure`], which is one sentence on standard error, or with
//! `--json` one object in the form of the API's errors.
//! This is the only room that knows clap, and the only one that prints.

mod act;
mod bench;
mod cluster;
mod context;
mod drain;
mod failure;
mod fields;
mod holds;
mod inspect;
mod list;
mod node;
mod output;
mod pool;
mod queues;
mod schedule;
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
use crate::api::ErrorBody;

#[derive(Debug, Parser)]
#[command(
    name = "raftq",
    version,
    about = "A job queue that survives the death of its own master",
    max_term_width = 110,
    disable_help_subcommand = false,
    after_help = "Exit codes: 0 ok, 1 the job or some of the ids failed, 2 usage, 3 unreachable or no leader, 4 refused (drained, \
                  full), 5 outcome unknown, 6 time-out. `submit --wait` of one command ends as it ends.\n\
                  With --json, lines on standard error are JSON too: {\"note\": text}, and at last, of a command that fails, \
                  {\"error\": {\"code\", \"message\", \"details\"}} as the API has it.\n\n\
                  A job's command sees RAFTQ_SERVER, RAFTQ_JOB_ID, RAFTQ_OP, RAFTQ_ATTEMPT, RAFTQ_LEASE; reads the results of \
                  earlier ops (RAFTQ_RESULTS_FILE) and the checkpoint of the attempt before (RAFTQ_CHECKPOINT_FILE); and may \
                  write a result (RAFTQ_RESULT_FILE), jobs to submit (RAFTQ_JOBS_FILE) and a checkpoint."
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
    /// Print JSON instead of a table, and errors as JSON on standard error
    #[arg(long, global = true)]
    json: bool,
    /// Give up after this long (90, 90s, 5m, 6h, 2d); waiting commands wait for ever unless it is given [default: 10s]
    #[arg(long, global = true, value_name = "TIME", value_parser = units::timeout, hide_default_value = true)]
    timeout: Option<Duration>,
    /// Read what the asked node knows, without asking the leader
    #[arg(long, global = true)]
    local: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a node of the cluster
    #[command(after_help = "Examples:\n  raftq node --config cluster-config/node1.toml --init-if-new")]
    Node(node::NodeArgs),
    /// Submit a job, or many
    Submit(Box<submit::SubmitArgs>),
    /// List jobs
    #[command(
        after_help = "Examples:\n  raftq list --running\n  raftq list --group nightly --status error,buried -o +worker\n  raftq list --filter 'priority < 0 and name =~ \"night\"'"
    )]
    List(list::ListArgs),
    /// Show jobs in full
    #[command(after_help = "Examples:\n  raftq show 17\n  raftq show 17 --output\n  raftq show 17-19 --json")]
    Show(show::ShowArgs),
    /// Wait until jobs have ended
    #[command(after_help = "Examples:\n  raftq wait 17 && echo done\n  raftq wait 17-99 --timeout 10m")]
    Wait(wait::WaitArgs),
    /// Follow a job's log and output until it has ended
    #[command(after_help = "Examples:\n  raftq watch 17")]
    Watch(watch::WatchArgs),
    /// Cancel jobs
    #[command(
        after_help = "Examples:\n  raftq cancel 17\n  raftq cancel 17 --kill\n  raftq cancel --status queued --queue etl --reason 'wrong day'"
    )]
    Cancel(act::CancelArgs),
    /// Queue buried, delayed, failed or canceled jobs again
    #[command(after_help = "Examples:\n  raftq kick 17\n  raftq kick --status buried --group nightly")]
    Kick(act::KickArgs),
    /// Put jobs aside until they are kicked
    #[command(after_help = "Examples:\n  raftq bury 17 --reason 'not before Monday'")]
    Bury(act::BuryArgs),
    /// Change fields of jobs that do not run
    #[command(
        after_help = "Examples:\n  raftq edit 17 --set cwd=/srv/etl --set retries=3\n  raftq edit 17 --if-version 4711 --set queue=slow"
    )]
    Edit(act::EditArgs),
    /// Delete jobs for good
    #[command(after_help = "Examples:\n  raftq delete 17\n  raftq delete --status canceled --queue etl --dry-run")]
    Delete(act::DeleteArgs),
    /// Change the priority of jobs
    #[command(after_help = "Examples:\n  raftq priority high 17 20-29\n  raftq priority -5 --group nightly")]
    Priority(act::PriorityArgs),
    /// Take ended jobs out of the default listing
    #[command(after_help = "Examples:\n  raftq archive 17-99")]
    Archive(act::ArchiveArgs),
    /// Archive all jobs that ended longer ago than an age
    #[command(after_help = "Examples:\n  raftq autoarchive 6h\n  raftq autoarchive all")]
    Autoarchive(act::AutoarchiveArgs),
    /// Close or open the queue for submissions
    #[command(
        after_help = "Examples:\n  raftq drain on --reason 'maintenance until noon'\n  raftq drain on --wait --timeout 1h\n  raftq drain off"
    )]
    Drain(drain::DrainArgs),
    /// Queues, with their live jobs by status, and how many have ended how
    #[command(after_help = "Examples:\n  raftq queues\n  raftq queues --forget etl")]
    Queues(queues::QueuesArgs),
    /// Stop claims from a queue, or from all
    #[command(after_help = "Examples:\n  raftq pause etl --wait\n  raftq pause --all")]
    Pause(queues::PauseArgs),
    /// Let a queue's jobs be claimed again
    #[command(after_help = "Examples:\n  raftq resume etl")]
    Resume(queues::ResumeArgs),
    /// How many jobs of a limit group may run at once
    #[command(after_help = "Examples:\n  raftq limit db 2\n  raftq limit db --remove\n  raftq limit")]
    Limit(queues::LimitArgs),
    /// Show or change the limits and ages that the cluster keeps to
    #[command(after_help = "Examples:\n  raftq policy\n  raftq policy --archive-after 2d --delete-after never")]
    Policy(queues::PolicyArgs),
    /// The worker pool of the leader
    #[command(after_help = "Examples:\n  raftq pool status\n  raftq pool resize 8")]
    Pool(pool::PoolArgs),
    /// Jobs that the queue submits by itself, by cron or each so often
    #[command(
        after_help = "Examples:\n  raftq schedule add nightly --cron '30 2 * * *' --time-zone Europe/Berlin -- ./extract\n  raftq schedule add poll --every 5m --overlap skip -- ./poll\n  raftq schedule list\n  raftq schedule show nightly\n  raftq schedule pause nightly\n  raftq schedule resume nightly\n  raftq schedule run nightly\n  raftq schedule remove nightly"
    )]
    Schedule(schedule::ScheduleArgs),
    /// Form, inspect and change the cluster
    #[command(
        after_help = "Examples:\n  raftq cluster status\n  raftq cluster transfer 2\n  raftq cluster replace 3 4 --api 10.0.0.4:7401 --peer 10.0.0.4:7501\n  raftq cluster backup --out queue.raftq\n  raftq cluster verify queue.raftq\n  raftq cluster restore queue.raftq"
    )]
    Cluster(cluster::ClusterArgs),
    /// Why a job is not running
    #[command(after_help = "Examples:\n  raftq why 17")]
    Why(inspect::WhyArgs),
    /// Totals, rates, estimates, learned needs
    #[command(after_help = "Examples:\n  raftq stats\n  raftq stats --forget assembly")]
    Stats(inspect::StatsArgs),
    /// Who works
    #[command(after_help = "Examples:\n  raftq workers\n  raftq workers --forget builder-7")]
    Workers(inspect::WorkersArgs),
    /// Follow what happens to jobs
    #[command(after_help = "Examples:\n  raftq events\n  raftq events --kind finished --json")]
    Events(inspect::EventsArgs),
    /// Run jobs on this machine
    #[command(
        after_help = "Examples:\n  raftq worker --queue etl --slots 4 --ram 8G\n  raftq worker -q etl --max-time 2h --exit-when-idle"
    )]
    Worker(worker::WorkerArgs),
    /// Disturb the master under load, and count what was lost
    #[command(
        after_help = "Examples:\n  raftq drill --rounds 5\n  raftq drill --do 'scripts/cluster kill-master' --restore 'scripts/cluster up'"
    )]
    Drill(bench::drill::DrillArgs),
    /// Measure the cluster, and whether it keeps what it acknowledges
    #[command(
        after_help = "Examples:\n  raftq bench submit --in-flight 1,16,64,256\n  raftq bench life --take-next --batch 100 --in-flight 8\n  raftq bench submit --total 1000000 --batch 1000 --keep\n  raftq bench submit --waiting-claims 10000 --connections 1000\n  raftq bench exec --jobs 2000"
    )]
    Bench(bench::BenchArgs),
    /// Print completions for a shell
    #[command(after_help = "Examples:\n  raftq completions bash > /etc/bash_completion.d/raftq")]
    Completions(CompletionsArgs),
}

#[derive(Debug, clap::Args)]
struct CompletionsArgs {
    /// Which shell
    shell: clap_complete::Shell,
}

/// Reads the command line, does it, and says how it ended.
pub fn run() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return misread(&error),
    };
    let output = Output::choose(cli.common.json);
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
            output.error(failure.body());
            failure.exit().into()
        }
    }
}

/// The command line could not be read; or help or the version was asked for, which clap prints.
fn misread(error: &clap::Error) -> ExitCode {
    let words = std::env::args_os().skip(1).take_while(|word| word != "--");
    if !error.use_stderr() || !words.into_iter().any(|word| word == "--json") {
        error.exit();
    }
    Output::choose(true).error(ErrorBody::new(failure::USAGE, what_is_wrong(&error.to_string())));
    Exit::Usage.into()
}

/// Without the way of asking that clap adds, in one line.
fn what_is_wrong(told: &str) -> String {
    let told = told.strip_prefix("error: ").unwrap_or(told);
    let first = told.split("\n\n").next().unwrap_or(told);
    first.split_whitespace().collect::<Vec<_>>().join(" ")
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
        Command::Queues(args) => queues::queues(&context, args).await,
        Command::Pause(args) => queues::pause(&context, args).await,
        Command::Resume(args) => queues::resume(&context, args).await,
        Command::Limit(args) => queues::limit(&context, args).await,
        Command::Policy(args) => queues::policy(&context, args).await,
        Command::Why(args) => inspect::why(&context, args).await,
        Command::Stats(args) => inspect::stats(&context, args).await,
        Command::Workers(args) => inspect::workers(&context, args).await,
        Command::Events(args) => inspect::events(&context, args).await,
        Command::Delete(args) => act::delete(&context, args).await,
        Command::Priority(args) => act::priority(&context, args).await,
        Command::Archive(args) => act::archive(&context, args).await,
        Command::Autoarchive(args) => act::autoarchive(&context, args).await,
        Command::Drain(args) => drain::run(&context, args).await,
        Command::Pool(args) => pool::run(&context, args).await,
        Command::Schedule(args) => schedule::run(&context, args).await,
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
    fn every_command_has_an_example_that_parses() {
        let tree = Cli::command();
        for command in tree.get_subcommands().filter(|command| !matches!(command.get_name(), "submit" | "help")) {
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            let examples: Vec<&str> = help.lines().filter_map(|line| line.strip_prefix("  ")).collect();
            assert!(!examples.is_empty(), "{} has no example", command.get_name());
            for example in examples {
                let line = example.split(['&', '>']).next().unwrap_or(example);
                let words = words(line.trim());
                Cli::try_parse_from(&words).unwrap_or_else(|error| panic!("{example}: {error}"));
            }
        }
    }

    #[test]
    fn every_argument_says_what_it_is() {
        let mut silent = Vec::new();
        let mut commands = vec![Cli::command()];
        while let Some(command) = commands.pop() {
            commands.extend(command.get_subcommands().cloned());
            // These have a help of their own.
            if !matches!(command.get_name(), "submit" | "add") {
                let unsaid = command.get_arguments().filter(|argument| argument.get_help().is_none());
                silent.extend(unsaid.map(|argument| format!("{} {}", command.get_name(), argument.get_id())));
            }
        }
        assert!(silent.is_empty(), "{silent:?}");
    }

    #[test]
    fn misread_lines_are_told_in_one_sentence() {
        for (line, sentence) in [
            ("raftq wait", "the following required arguments were not provided: <ID>..."),
            ("raftq frobnicate", "unrecognized subcommand 'frobnicate'"),
            (
                "raftq list --timeout soon",
                "invalid value 'soon' for '--timeout <TIME>': `soon` is no duration; write 90, 90s, 5m, 6h or 2d",
            ),
        ] {
            let error = Cli::try_parse_from(line.split(' ')).expect_err(line);
            assert_eq!(what_is_wrong(&error.to_string()), sentence);
        }
    }

    /// As a shell splits it, single quotes and all.
    fn words(line: &str) -> Vec<String> {
        let quoted = line.split('\'').enumerate().map(|(index, part)| (index % 2 == 1, part));
        let mut words = Vec::new();
        for (is_quoted, part) in quoted {
            match is_quoted {
                true => words.push(part.to_owned()),
                false => words.extend(part.split_whitespace().map(str::to_owned)),
            }
        }
        words
    }

    #[test]
    fn unknown_words_are_usage_errors() {
        for line in [
            "raftq frobnicate",
            "raftq list --timeout 0",
            "raftq limit ",
            "raftq schedule show ",
            "raftq workers --forget ",
            "raftq edit 1 --set =5",
            "raftq list --timeout 0.4ms",
            "raftq list --frobnicate",
            "raftq show seventeen",
            "raftq wait --timeout soon 1",
        ] {
            let error = Cli::try_parse_from(line.split(' ')).expect_err(line);
            assert_eq!(error.exit_code(), 2, "{line}");
        }
    }
}
