//! `raftq list`: jobs, by whatever the API can select.

use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{
    context::Context,
    failure::{Exit, Failure, Outcome},
    fields, output,
    select::Selection,
};
use crate::client::{Call, path_with_query};

#[derive(Debug, clap::Args)]
pub struct ListArgs {
    #[command(flatten)]
    select: Selection,
    /// Fields to show: `-o id,status,exit_code,fail_reason`, or `-o +unique` to add to the usual ones
    #[arg(long = "output", short = 'o', value_name = "FIELDS", allow_hyphen_values = true)]
    fields: Option<String>,
    /// Archived jobs too
    #[arg(long)]
    archived: bool,
    /// Only jobs that wait to run
    #[arg(long, conflicts_with_all = ["running", "error", "finished"])]
    pending: bool,
    /// Only jobs that run
    #[arg(long, conflicts_with_all = ["error", "finished"])]
    running: bool,
    /// Only jobs that failed
    #[arg(long, conflicts_with = "finished")]
    error: bool,
    /// Only jobs that have ended
    #[arg(long)]
    finished: bool,
    /// Only jobs that nobody holds
    #[arg(long)]
    unclaimed: bool,
    /// Wait until there is one, as long as `--timeout` says
    #[arg(long)]
    wait: bool,
    /// In the order in which they will run, not by id
    #[arg(long)]
    by_priority: bool,
    /// Group alike ones (status, exit code, reason) and show this many of each
    #[arg(long, value_name = "N")]
    similar: Option<u32>,
    /// At most this many
    #[arg(long, value_name = "N", default_value_t = 1000)]
    limit: u64,
    /// Go on after this cursor of an earlier listing
    #[arg(long, value_name = "CURSOR")]
    after: Option<String>,
}

const FIELDS: [&str; 8] = ["id", "status", "priority", "queue", "name", "attempts", "received_at", "ended_at"];
/// With `--similar`: by what they are alike, first.
const SIMILAR_FIELDS: [&str; 7] = ["id", "status", "exit_code", "fail_reason", "queue", "name", "ended_at"];
/// One long poll.
const WAIT: Duration = Duration::from_secs(5);
/// What one request may ask for (design 3).
const PAGE_MAX: u64 = 1000;

#[derive(Deserialize)]
struct Page {
    jobs: Vec<Value>,
    #[serde(default)]
    next: Option<Value>,
}

pub async fn run(context: &Context, args: ListArgs) -> Outcome {
    let usual: &[&str] = if args.similar.is_some() { &SIMILAR_FIELDS } else { &FIELDS };
    let mut fields = chosen_fields(usual, args.fields.as_deref());
    let mut query = args.query();
    if args.wait {
        query.push(("wait_ms", WAIT.as_millis().to_string()));
    }
    query.push(("fields", asked_for(&fields).join(",")));
    // How many are like it. It comes by itself, and is no field to ask for.
    fields.extend(args.similar.map(|_| "similar".to_owned()));
    let mut left = args.limit;
    let mut after = args.after.clone();
    let mut jobs = Vec::new();
    while left > 0 {
        let page = page(context, &query, left.min(PAGE_MAX), after.as_deref()).await?;
        if args.wait && page.jobs.is_empty() && jobs.is_empty() {
            if context.end_of_wait().is_some_and(|end| Instant::now() >= end) {
                return Err(Failure::TimedOut("no such job came".into()));
            }
            continue;
        }
        left = left.saturating_sub(page.jobs.len() as u64);
        jobs.extend(page.jobs);
        after = page.next.and_then(|next| cursor(&next));
        if after.is_none() {
            break;
        }
    }
    print(context, &fields, jobs, after)
}

async fn page(
    context: &Context,
    query: &[(&'static str, String)],
    limit: u64,
    after: Option<&str>,
) -> Result<Page, Failure> {
    let mut query = query.to_vec();
    query.push(("limit", limit.to_string()));
    query.extend(after.map(|after| ("after", after.to_owned())));
    let waits = query.iter().any(|(name, _)| *name == "wait_ms");
    let wait = if waits { WAIT } else { Duration::ZERO };
    let call = Call::read(path_with_query("/v1/jobs", &query), context.deadline() + wait).waiting(wait);
    Ok(context.client.call(context.call(call)).await?.json()?)
}

fn cursor(next: &Value) -> Option<String> {
    match next {
        Value::Null => None,
        Value::String(text) => Some(text.clone()),
        other => Some(other.to_string()),
    }
}

fn print(context: &Context, fields: &[String], jobs: Vec<Value>, next: Option<String>) -> Outcome {
    if context.output.is_json() {
        context.output.json(&json!({ "jobs": jobs, "next": next }))?;
        return Ok(Exit::Ok);
    }
    let headings: Vec<&str> = fields.iter().map(|field| heading(field)).collect();
    let row = |job: &Value| fields.iter().map(|field| column(field, job)).collect();
    let rows: Vec<Vec<String>> = jobs.iter().map(row).collect();
    context.output.rows(&headings, &rows)?;
    if let Some(next) = next {
        context.output.note(&format!("there are more: --limit N, or --after {next}"));
    }
    Ok(Exit::Ok)
}

/// Told by the last attempt, which the API gives with the ops.
const OF_LAST_ATTEMPT: &str = "error";

fn asked_for(fields: &[String]) -> Vec<&str> {
    let mut asked: Vec<&str> = Vec::new();
    for field in fields {
        let name = if field == OF_LAST_ATTEMPT { "ops" } else { field.as_str() };
        if !asked.contains(&name) {
            asked.push(name);
        }
    }
    asked
}

fn column(field: &str, job: &Value) -> String {
    if field == OF_LAST_ATTEMPT {
        let attempt = fields::last_attempt(job);
        return output::cell(field, attempt.map_or(&Value::Null, |attempt| &attempt[field]));
    }
    output::cell(field, &job[field])
}

fn heading(field: &str) -> &str {
    field.strip_suffix("_at").unwrap_or(field)
}

/// `+a,b` adds to the usual fields, `a,b` stands for itself.
fn chosen_fields(usual: &[&str], typed: Option<&str>) -> Vec<String> {
    let usual = usual.iter().map(ToString::to_string);
    let split = |text: &str| text.split(',').filter(|field| !field.is_empty()).map(str::to_owned).collect::<Vec<_>>();
    match typed {
        None => usual.collect(),
        Some(typed) => match typed.strip_prefix('+') {
            Some(more) => usual.chain(split(more)).collect(),
            None => split(typed),
        },
    }
}

impl ListArgs {
    fn query(&self) -> Vec<(&'static str, String)> {
        let mut query = self.select.query();
        let shorthand = match (self.pending, self.running, self.error, self.finished) {
            (true, ..) => Some("queued,delayed,blocked"),
            (_, true, ..) => Some("reserved,running,canceling"),
            (_, _, true, _) => Some("error,buried"),
            (.., true) => Some("success,error,canceled"),
            _ => None,
        };
        query.extend(shorthand.map(|statuses| ("status", statuses.to_owned())));
        query.extend(self.archived.then(|| ("archived", "true".to_owned())));
        query.extend(self.unclaimed.then(|| ("unclaimed", "true".to_owned())));
        query.extend(self.by_priority.then(|| ("order", "priority".to_owned())));
        query.extend(self.similar.map(|similar| ("similar", similar.to_string())));
        query
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_replaced_or_added() {
        assert_eq!(chosen_fields(&FIELDS, None), FIELDS);
        assert_eq!(chosen_fields(&FIELDS, Some("id,status")), ["id", "status"]);
        assert_eq!(chosen_fields(&FIELDS, Some("+unique"))[FIELDS.len()..], ["unique"]);
    }

    #[test]
    fn error_of_the_last_attempt_is_a_column() {
        let fields = ["id", "exit_code", "error"].map(str::to_owned);
        assert_eq!(asked_for(&fields), ["id", "exit_code", "ops"]);
        let job =
            json!({ "id": 17, "exit_code": 3, "ops": [{ "history": [{ "error": "first" }, { "error": "last" }] }] });
        assert_eq!(fields.each_ref().map(|field| column(field, &job)), ["17", "3", "last"]);
    }
}
