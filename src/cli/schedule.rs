//! `raftq schedule`: jobs that the queue submits by itself.

use std::time::Duration;

use clap::{Subcommand, ValueEnum};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    context::Context,
    failure::{Exit, Failure, Outcome},
    submit::spec::SpecArgs,
    units,
};
use crate::{
    api::{Missed, Overlap, RunAnswer, ScheduleRequest, ScheduleView, TakenView},
    client::{Method, path_segment},
};

#[derive(Debug, clap::Args)]
pub struct ScheduleArgs {
    #[command(subcommand)]
    what: ScheduleCommand,
}

#[derive(Debug, Subcommand)]
enum ScheduleCommand {
    /// Define a schedule
    Add(Box<AddArgs>),
    /// All schedules: when they are due, and what came of the last slot
    List,
    /// One schedule, with its next slots and what its jobs are
    Show {
        /// Of the schedule
        #[arg(value_parser = units::name)]
        name: String,
    },
    /// Forget a schedule; its jobs stay
    Remove {
        /// Of the schedule
        #[arg(value_parser = units::name)]
        name: String,
    },
    /// Take no slots until it is resumed
    Pause {
        /// Of the schedule
        #[arg(value_parser = units::name)]
        name: String,
    },
    /// Take slots again, from now on
    Resume {
        /// Of the schedule
        #[arg(value_parser = units::name)]
        name: String,
    },
    /// Submit a job of it now, whatever its slots say; prints the job's id
    Run {
        /// Of the schedule
        #[arg(value_parser = units::name)]
        name: String,
    },
}

#[derive(Debug, clap::Args)]
#[command(override_help = ADD_HELP, group = clap::ArgGroup::new("when").required(true).args(["cron", "every"]))]
struct AddArgs {
    #[arg(value_name = "NAME", value_parser = units::name)]
    schedule: String,
    #[arg(long, value_name = "EXPRESSION")]
    cron: Option<String>,
    #[arg(long, value_name = "ZONE", conflicts_with = "every")]
    time_zone: Option<String>,
    #[arg(long, value_name = "TIME", value_parser = units::duration)]
    every: Option<Duration>,
    #[arg(long, value_name = "once|skip", default_value = "once")]
    missed: MissedArg,
    #[arg(long, value_name = "allow|skip", default_value = "allow")]
    overlap: OverlapArg,
    #[arg(long)]
    paused: bool,
    #[arg(long)]
    replace: bool,
    #[command(flatten)]
    spec: SpecArgs,
}

/// Written by hand: the flags that say what its jobs are have their place in `raftq submit --help`. A test holds it against
/// the others.
const ADD_HELP: &str = "\
Define a schedule: jobs that the queue submits by itself. Each slot is taken once, whichever node leads.

  raftq schedule add nightly --cron '30 2 * * *' --time-zone Europe/Berlin -- ./extract
  raftq schedule add poll --every 5m --overlap skip -q fetch -- ./poll --all

Usage: raftq schedule add NAME (--cron EXPRESSION | --every TIME) [OPTIONS] -- COMMAND [ARG]...

  --cron EXPRESSION     minute, hour, day of the month, month, day of the week; or @hourly, @daily, @weekly...
  --time-zone ZONE      in which the expression is read [UTC]; on days on which clocks are changed no fixed
                        time is left out and none comes twice
  --every TIME          each TIME from now on (30s, 5m, 6h, 2d), at least 1s
  --missed once|skip    slots that nobody took within a minute, for want of a leader: one job for all of them
                        [once], or none
  --overlap allow|skip  skip: no job while the one before waits or runs (a buried one does neither) [allow]
  --paused              take no slots before `raftq schedule resume NAME`
  --replace             in place of the schedule of this name, whose past stays

What its jobs are: COMMAND, or --shell LINE, and the other flags of `raftq submit` but --run-at and --depends.
TIME of --delay counts from the slot. A slot while the queue is drained or full gives no job; `show` says so.
";

#[derive(Clone, Copy, Debug, ValueEnum)]
enum MissedArg {
    Once,
    Skip,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum OverlapArg {
    Allow,
    Skip,
}

impl AddArgs {
    fn into_request(self) -> Result<ScheduleRequest, Failure> {
        Ok(ScheduleRequest {
            cron: self.cron.map(Into::into),
            time_zone: self.time_zone.map(Into::into),
            every_ms: self.every.map(|every| u64::try_from(every.as_millis()).unwrap_or(u64::MAX)),
            missed: match self.missed {
                MissedArg::Once => Missed::Once,
                MissedArg::Skip => Missed::Skip,
            },
            overlap: match self.overlap {
                OverlapArg::Allow => Overlap::Allow,
                OverlapArg::Skip => Overlap::Skip,
            },
            paused: self.paused.then_some(true),
            if_absent: !self.replace,
            spec: Some(Box::new(self.spec.into_spec()?)),
        })
    }
}

pub async fn run(context: &Context, args: ScheduleArgs) -> Outcome {
    match args.what {
        ScheduleCommand::Add(add) => {
            let path = path(&add.schedule, "");
            show(context, &context.write(Method::PUT, &path, &add.into_request()?).await?)
        }
        ScheduleCommand::List => list(context).await,
        ScheduleCommand::Show { name } => show(context, &context.read(&path(&name, ""), &[]).await?),
        ScheduleCommand::Remove { name } => {
            let answer: Value = context.write(Method::DELETE, &path(&name, ""), &json!({})).await?;
            context.output.document(&answer)?;
            Ok(Exit::Ok)
        }
        ScheduleCommand::Pause { name } => post(context, &name, "/pause").await,
        ScheduleCommand::Resume { name } => post(context, &name, "/resume").await,
        ScheduleCommand::Run { name } => submit_now(context, &name).await,
    }
}

fn path(name: &str, verb: &str) -> String {
    format!("/v1/schedules/{}{verb}", path_segment(name))
}

async fn post(context: &Context, name: &str, verb: &str) -> Outcome {
    show(context, &context.write(Method::POST, &path(name, verb), &json!({})).await?)
}

async fn submit_now(context: &Context, name: &str) -> Outcome {
    let answer: RunAnswer = context.write(Method::POST, &path(name, "/run"), &json!({})).await?;
    if context.output.is_json() {
        context.output.json(&json!(answer))?;
        return Ok(Exit::Ok);
    }
    if answer.existed {
        context.output.note(&format!("job {} is there already under its unique key", answer.id));
    }
    context.output.line(&answer.id.to_string())?;
    Ok(Exit::Ok)
}

#[derive(Deserialize)]
struct Schedules {
    schedules: Vec<ScheduleView>,
}

const HEADINGS: [&str; 6] = ["name", "when", "paused", "next", "last", "outcome"];

async fn list(context: &Context) -> Outcome {
    let answer: Value = context.read("/v1/schedules", &[]).await?;
    if context.output.is_json() {
        context.output.json(&answer)?;
        return Ok(Exit::Ok);
    }
    let list: Schedules = serde_json::from_value(answer).map_err(anyhow::Error::from)?;
    let row = |schedule: &ScheduleView| {
        let last = schedule.last.as_ref();
        vec![
            schedule.name.to_string(),
            when(schedule),
            schedule.paused.to_string(),
            schedule.next_at.map_or("-".into(), units::show_time),
            last.map_or("-".into(), |last| units::show_time(last.slot_at)),
            last.map_or("-".into(), outcome),
        ]
    };
    context.output.rows(&HEADINGS, &list.schedules.iter().map(row).collect::<Vec<_>>())?;
    Ok(Exit::Ok)
}

fn show(context: &Context, schedule: &ScheduleView) -> Outcome {
    if context.output.is_json() {
        context.output.json(&json!(schedule))?;
        return Ok(Exit::Ok);
    }
    let next: Vec<String> = schedule.next.iter().flatten().copied().map(units::show_time).collect();
    let mut record = vec![
        ("name", schedule.name.to_string()),
        ("when", when(schedule)),
        ("paused", schedule.paused.to_string()),
        ("next", next.join(", ")),
        ("missed", word(&schedule.missed)),
        ("overlap", word(&schedule.overlap)),
        ("submitted", schedule.submitted.to_string()),
        ("skipped", schedule.skipped.to_string()),
    ];
    if let Some(last) = &schedule.last {
        record.extend([("last slot", units::show_time(last.slot_at)), ("last outcome", outcome(last))]);
    }
    record.extend(schedule.last_job.map(|job| ("last job", job.to_string())));
    let created = format!("{} by {}", units::show_time(schedule.created_at), schedule.created_by);
    record.extend([("created", created), ("spec", json!(schedule.spec).to_string())]);
    context.output.record(&record)?;
    Ok(Exit::Ok)
}

/// `30 2 * * * Europe/Berlin`, `every 5m00s`
fn when(schedule: &ScheduleView) -> String {
    match (&schedule.cron, &schedule.time_zone, schedule.every_ms) {
        (Some(cron), Some(zone), _) => format!("{cron} {zone}"),
        (_, _, Some(ms)) => format!("every {}", units::show_duration(Duration::from_millis(ms))),
        _ => "-".into(),
    }
}

/// `submitted (job 17)`, `refused (drained: ...)`
fn outcome(last: &TakenView) -> String {
    match (&last.job, &last.error) {
        (Some(job), _) => format!("{} (job {job})", last.outcome),
        (None, Some(error)) => format!("{} ({error})", last.outcome),
        (None, None) => last.outcome.to_string(),
    }
}

/// A word of the API.
fn word(value: &impl serde::Serialize) -> String {
    json!(value).as_str().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Parser};

    use super::*;

    #[derive(Parser)]
    struct Alone {
        #[command(flatten)]
        args: AddArgs,
    }

    fn request(line: &str) -> Result<String, String> {
        let words = std::iter::once("add").chain(line.split(' '));
        let alone = Alone::try_parse_from(words).map_err(|error| error.to_string())?;
        let request = alone.args.into_request().map_err(|failure| failure.to_string())?;
        Ok(serde_json::to_string(&request).expect("a request encodes"))
    }

    #[test]
    fn flags_become_a_definition() {
        assert_eq!(
            request("poll --every 5m --overlap skip -q fetch --cwd /srv -- ./poll --all").as_deref(),
            Ok(
                r#"{"every_ms":300000,"missed":"once","overlap":"skip","if_absent":true,"spec":{"queue":"fetch","argv":["./poll","--all"],"cwd":"/srv"}}"#
            )
        );
        assert_eq!(
            request("nightly --cron @daily --time-zone Europe/Berlin --missed skip --replace --sleep 1").as_deref(),
            Ok(
                r#"{"cron":"@daily","time_zone":"Europe/Berlin","missed":"skip","overlap":"allow","if_absent":false,"spec":{"sleep":1}}"#
            )
        );
    }

    #[test]
    fn contradictions_are_refused() {
        for line in [
            "nightly --sleep 1",
            "nightly --cron @daily --every 5m --sleep 1",
            "nightly --every 5m --time-zone UTC --sleep 1",
            "--every 5m --sleep 1",
            "nightly --every 5m",
            "nightly --every 5m --missed twice --sleep 1",
        ] {
            assert!(request(line).is_err(), "{line}");
        }
    }

    #[test]
    fn help_names_every_flag_of_its_own() {
        let of_submit = crate::cli::submit::spec::flags();
        assert!(ADD_HELP.lines().all(|line| line.chars().count() <= 110));
        for argument in Alone::command().get_arguments().filter(|argument| !of_submit.contains(argument.get_id())) {
            if let Some(flag) = argument.get_long() {
                assert!(ADD_HELP.contains(&format!("--{flag}")), "--{flag}");
            }
        }
    }
}
