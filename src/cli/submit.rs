//! `raftq submit`: one job from flags, or many from a file.

mod bulk;
pub mod spec;

use std::path::PathBuf;

use serde_json::json;

use super::{
    context::Context,
    failure::{Exit, Failure, Outcome},
    wait, watch,
};
use crate::{
    api::{Spec, SubmitAnswer, SubmitRequest, SubmitResult},
    client::Method,
};

#[derive(Debug, clap::Args)]
#[command(override_help = HELP)]
pub struct SubmitArgs {
    #[command(flatten)]
    spec: spec::SpecArgs,
    /// JSON lines, one spec each; `-` is standard input
    #[arg(long, short, value_name = "FILE", conflicts_with_all = spec::flags())]
    file: Option<PathBuf>,
    /// All of the file's jobs or none
    #[arg(long, requires = "file")]
    atomic: bool,
    /// Jobs per request
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    batch: u32,
    /// Wait until it has ended, and end as it ends
    #[arg(long, short)]
    wait: bool,
    /// The same, and print its log and output
    #[arg(long, conflicts_with = "file")]
    follow: bool,
}

/// Written by hand so that it fits on the smallest terminal and the common case comes first; a test holds it against the flags.
const HELP: &str = "\
Submit a job, or many. Prints the job's id.
  raftq submit -- ./extract --day 2026-11-20      run a command in this place
  raftq submit --wait --shell 'sort a | uniq > b' wait, and exit as it exits
  raftq submit --file jobs.jsonl                  JSON, a line each; - is stdin

 what     -- COMMAND [ARG]..., or --shell LINE, or --sleep TIME,
          or --kind KIND with --args JSON or --body TEXT (@FILE reads a file)
          --cwd DIR  -e --env NAME=VALUE  --env-inherit (this shell's, below -e)
          --stdin-file FILE  --time-limit TIME  --ram-limit SIZE  --lease TIME
 many     -f --file FILE  --atomic (all or none)  --batch N (a request; 1000)
 where    -q --queue NAME  -n --name NAME  -g --group NAME
          -p --priority N|high|low  --limit NAME[:MAX]  --meta JSON
          --unique KEY (one live job has it)  --unique-command (command and cwd)
          --comment TEXT  --reason TEXT
 when     --delay TIME  --run-at TIME  -d --depends ID[:success,error,canceled]
 failing  -r --retries N  --backoff BASE[..CAP]  --no-retry-after TIME
          --on-failure bury|error  --no-rerun-on-loss  --lost-limit N
 needs    --cores N  --ram SIZE  --disk SIZE  --time TIME  --resource-group NAME
          --needs-override 0|1|2 (learned, the larger, these)
 then     -w --wait  --follow (print log and output too)  --keep-output
 common   --server HOST:PORT,...  --json  --timeout TIME  --local  -h --help
TIME: 90, 90s, 5m, 6h, 2d. SIZE: 500, 500M, 2G. Repeat -e, -g, -d, --limit.
";

pub async fn run(context: &Context, args: SubmitArgs) -> Outcome {
    if let Some(file) = &args.file {
        let plan = bulk::Plan { file, atomic: args.atomic, batch: args.batch as usize, wait: args.wait };
        return bulk::run(context, plan).await;
    }
    let spec = args.spec.into_spec()?;
    let submitted = submit_one(context, spec).await?;
    let (id, existed) = submitted;
    if existed {
        context.output.note(&format!("job {id} is there already under this unique key"));
    }
    announce(context, id, existed, args.follow)?;
    match (args.wait, args.follow) {
        (_, true) => watch::follow(context, id).await,
        (true, false) => wait::for_one(context, id).await,
        (false, false) => Ok(Exit::Ok),
    }
}

/// The id alone on its line: `id=$(raftq submit ...)`.
fn announce(context: &Context, id: u64, existed: bool, follow: bool) -> Result<(), Failure> {
    if context.output.is_json() {
        context.output.json(&json!({ "id": id, "existed": existed }))?;
    } else if follow {
        context.output.note(&format!("job {id}"));
    } else {
        context.output.line(&id.to_string())?;
    }
    Ok(())
}

async fn submit_one(context: &Context, spec: Spec) -> Result<(u64, bool), Failure> {
    let request = SubmitRequest { jobs: vec![spec], ..SubmitRequest::default() };
    let answer: SubmitAnswer = context.write(Method::POST, "/v1/jobs", &request).await?;
    accepted(answer.results.into_iter().next().unwrap_or_default())
}

/// The id, and whether it was there before; or the job's own refusal.
pub fn accepted(result: SubmitResult) -> Result<(u64, bool), Failure> {
    match (result.id, result.error) {
        (Some(id), _) => Ok((id.0, result.existed == Some(true))),
        (None, Some(error)) => Err(Failure::Refused(error)),
        (None, None) => Err(anyhow::anyhow!("a submission was answered with neither an id nor an error").into()),
    }
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Parser};

    use super::*;

    #[derive(Parser)]
    struct Alone {
        #[command(flatten)]
        args: SubmitArgs,
    }

    #[test]
    fn file_takes_no_fields_from_flags() {
        for line in ["submit --file jobs.jsonl -q etl", "submit --file jobs.jsonl -- ls", "submit -f - --retries 2"] {
            assert!(Alone::try_parse_from(line.split(' ')).is_err(), "{line}");
        }
        assert!(Alone::try_parse_from("submit --file - --wait --atomic".split(' ')).is_ok());
    }

    #[test]
    fn help_fits_on_a_screen_and_names_every_flag() {
        // 24 lines of 80 characters, and a line for the prompt.
        assert!(HELP.lines().count() < 24, "{} lines", HELP.lines().count());
        let too_long = HELP.lines().find(|line| line.chars().count() > 80);
        assert_eq!(too_long, None);
        for argument in Alone::command().get_arguments().filter_map(clap::Arg::get_long) {
            assert!(HELP.contains(&format!("--{argument}")), "--{argument}");
        }
    }
}
