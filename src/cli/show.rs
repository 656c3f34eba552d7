//! `raftq show`: one job, or some, in full.

use std::time::Duration;

use serde_json::{Value, json};

use super::{
    context::Context,
    failure::{Exit, Failure, Outcome},
    fields::{self, Job},
    output, units,
    units::Ids,
};

#[derive(Debug, clap::Args)]
pub struct ShowArgs {
    /// Job ids, or ranges: 17 20-29
    #[arg(required = true, value_name = "ID")]
    ids: Vec<Ids>,
    /// Every field, those too that nobody set
    #[arg(long, short)]
    all: bool,
    /// Print only what the command wrote to standard output and standard error
    #[arg(long)]
    output: bool,
}

pub async fn run(context: &Context, args: ShowArgs) -> Outcome {
    let mut missing = false;
    let what = if args.output { "/output" } else { "" };
    for (index, id) in args.ids.iter().flat_map(|ids| ids.iter()).enumerate() {
        match context.read::<Value>(&format!("/v1/jobs/{id}{what}"), &[]).await {
            Ok(output) if args.output => print_output(context, id, &output)?,
            Ok(job) => print(context, &Job(job), index > 0, &args)?,
            Err(failure) if failure.refusal().is_some() && args.ids.len() > 1 => {
                context.output.refused("job", id, &failure.body());
                missing = true;
            }
            Err(failure) => return Err(failure),
        }
    }
    Ok(Exit::ok_if(!missing))
}

fn print(context: &Context, job: &Job, again: bool, args: &ShowArgs) -> Result<(), Failure> {
    if context.output.is_json() {
        return Ok(context.output.json(&job.0)?);
    }
    if again {
        context.output.line("")?;
    }
    Ok(context.output.record(&record(job, args.all))?)
}

/// Of the attempt that runs, as far as it has come, or of the last one.
fn print_output(context: &Context, id: u64, output: &Value) -> Result<(), Failure> {
    if context.output.is_json() {
        return Ok(context.output.json(output)?);
    }
    if output["attempt"] == 0 {
        context.output.note(&format!("job {id} has not run yet"));
    }
    context.output.raw(output["stdout"].as_str().unwrap_or("").as_bytes())?;
    eprint!("{}", output["stderr"].as_str().unwrap_or(""));
    Ok(())
}

/// Shown first and in this order; the rest follows as the API has it.
const FIRST: [&str; 8] = ["id", "name", "status", "queue", "priority", "groups", "blocked_by", "held_by"];

/// What says nothing unless somebody set it, and what it then is.
fn is_usual(name: &str, value: &Value) -> bool {
    let usual = match name {
        "lease_ms" => json!(60_000),
        "lost_limit" => json!(3),
        "rerun_on_loss" => json!(true),
        "backoff" => json!({ "base_ms": 30_000, "cap_ms": 1_800_000 }),
        "effective_needs" => json!({ "cores": 0, "disk_mb": 0, "ram_mb": 0, "time_s": 0 }),
        "priority" | "attempts" => return false,
        // They follow from the ops, or are for programs.
        "kind" | "on_failure" | "changed_at" | "version" | "log_serial" => return true,
        _ => return matches!(value, Value::Bool(false)) || *value == 0,
    };
    *value == usual
}

fn record(job: &Job, all: bool) -> Vec<(&str, String)> {
    let Some(fields) = job.0.as_object() else { return Vec::new() };
    let is_told = |name: &str, value: &Value| {
        !value.is_null() && *value != Value::Array(Vec::new()) && (all || !is_usual(name, value))
    };
    let first = FIRST.iter().filter_map(|name| fields.get_key_value(*name));
    let rest = fields.iter().filter(|(name, _)| !FIRST.contains(&name.as_str()) && *name != "ops");
    let told = first.chain(rest).filter(|(name, value)| is_told(name, value));
    let mut record: Vec<(&str, String)> =
        told.map(|(name, value)| (name.as_str(), output::cell(name, value))).collect();
    for (index, op) in job.ops().iter().enumerate() {
        record.push(("op", headline(index, op)));
        record.extend(outcome(op));
        record.extend(fields::attempts(op).last().into_iter().flat_map(attempt));
    }
    record
}

/// `0: exec ./extract --day 2026-11-20, success`.
fn headline(index: usize, op: &Value) -> String {
    let kind = op["kind"].as_str().unwrap_or("?");
    format!("{index}: {kind} {}, {}", work(op), op["status"].as_str().unwrap_or("?"))
}

/// What an op does, as it would be typed.
fn work(op: &Value) -> String {
    let args = &op["args"];
    if let Some(argv) = args["argv"].as_array() {
        return argv.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(" ");
    }
    if let Some(shell) = args["shell"].as_str() {
        return shell.to_owned();
    }
    match (&op["body"], args) {
        (Value::Null, Value::Null) => String::new(),
        (Value::Null, args) => args.to_string(),
        (body, _) => output::cell("body", body),
    }
}

fn outcome(op: &Value) -> impl Iterator<Item = (&str, String)> {
    ["result", "retries_left", "lost"]
        .into_iter()
        .filter(|name| !op[*name].is_null() && op[*name] != 0)
        .map(|name| (name, output::cell(name, &op[name])))
}

/// The last attempt: how it ended, what it took, what it wrote.
fn attempt(attempt: &Value) -> Vec<(&str, String)> {
    let told = |name: &'static str| (!attempt[name].is_null()).then(|| (name, output::cell(name, &attempt[name])));
    let ran =
        |name: &'static str| attempt[name].as_u64().map(|ms| (name, units::show_duration(Duration::from_millis(ms))));
    let written = |name: &'static str| {
        attempt[name]
            .as_str()
            .filter(|text| !text.is_empty())
            .map(|text| (name, text.trim_end_matches('\n').to_owned()))
    };
    let fields = [
        told("exit_code"),
        told("fail_reason"),
        told("error"),
        told("worker"),
        told("host"),
        told("pid"),
        ran("wall_ms"),
        ran("cpu_ms"),
        told("peak_ram_mb"),
        written("stdout"),
        written("stderr"),
    ];
    fields.into_iter().flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn record_begins_with_what_matters_and_ends_with_the_ops() {
        let job = Job(json!({
            "attempts": 1, "id": 17, "lease_ms": 60_000, "lost": 0, "queue": "default", "status": "buried", "name": "nightly", "groups": [], "blocked_by": null,
            "ops": [{ "index": 0, "kind": "exec", "args": { "argv": ["ls", "/x"] }, "status": "queued", "retries_left": 0,
                      "history": [{ "exit_code": 2, "wall_ms": 1234, "stderr": "no such file\n", "stdout": "" }] }]
        }));
        let record: Vec<String> =
            record(&job, false).into_iter().map(|(name, value)| format!("{name}={value}")).collect();
        assert_eq!(
            record,
            [
                "id=17",
                "name=nightly",
                "status=buried",
                "queue=default",
                "attempts=1",
                "op=0: exec ls /x, queued",
                "exit_code=2",
                "wall_ms=1.2s",
                "stderr=no such file"
            ]
        );
    }
}
