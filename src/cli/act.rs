//! What is done to jobs: cancel, kick, bury, delete, priority, archive.
//!
//! Jobs named by id are asked for one by one, many at a time, so that each gets its own answer. Jobs meant by what they are
//! (`--status buried`) go through the API's bulk call, piece after piece.

use std::time::Duration;

use futures::{StreamExt, stream};
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::{
    context::Context,
    failure::{Exit, Failure, Outcome},
    select::Selection,
    units::{self, Ids},
};
use crate::{
    api::{
        ArchiveAge, ArchiveAnswer, ArchiveRequest, BulkAnswer, BulkDo, BulkRefusal, BulkRequest, BuryRequest,
        CancelRequest, ErrorBody, Priority, PriorityRequest, parse_priority,
    },
    client::{Call, Method},
};

#[derive(Debug, clap::Args)]
pub struct CancelArgs {
    #[command(flatten)]
    select: Target,
    /// Stop running commands too: TERM, then KILL after 5 s; twice for KILL at once
    #[arg(long, conflicts_with = "after_op")]
    kill: bool,
    /// Let the op that runs end, and cancel the later ones
    #[arg(long)]
    after_op: bool,
    /// Why; kept with each job
    #[arg(long, value_name = "TEXT", value_parser = units::reason)]
    reason: Option<String>,
}

#[derive(Debug, clap::Args)]
pub struct KickArgs {
    #[command(flatten)]
    select: Target,
}

#[derive(Debug, clap::Args)]
pub struct BuryArgs {
    #[command(flatten)]
    select: Target,
    /// Why; kept with each job
    #[arg(long, value_name = "TEXT", value_parser = units::reason)]
    reason: Option<String>,
}

#[derive(Debug, clap::Args)]
pub struct DeleteArgs {
    #[command(flatten)]
    select: Target,
}

#[derive(Debug, clap::Args)]
pub struct PriorityArgs {
    /// A whole number, lower first, or very-high, high, normal, low, very-low
    #[arg(value_parser = parse_priority, allow_hyphen_values = true)]
    priority: Priority,
    #[command(flatten)]
    select: Target,
}

#[derive(Debug, clap::Args)]
pub struct ArchiveArgs {
    #[command(flatten)]
    select: Target,
}

#[derive(Debug, clap::Args)]
pub struct AutoarchiveArgs {
    /// Ended longer ago than this (90, 5m, 6h, 2d), or `all`
    #[arg(value_parser = archive_age)]
    age: ArchiveAge,
}

#[derive(Debug, clap::Args)]
pub struct EditArgs {
    /// Job ids, or ranges: 17 20-29
    #[arg(required = true, value_name = "ID")]
    ids: Vec<Ids>,
    /// A field of the spec and its new value, text or JSON: `--set cwd=/srv --set retries=3 --set needs.ram_mb=500`
    #[arg(long, required = true, value_name = "FIELD=VALUE", value_parser = assignment)]
    set: Vec<(String, Value)>,
    /// Only if the job has not changed since this version of it, which `raftq show --json` tells
    #[arg(long, value_name = "N")]
    if_version: Option<u64>,
}

/// A selection that must not be empty: `raftq cancel` alone means nothing, rather than everything.
#[derive(Debug, clap::Args)]
struct Target {
    #[command(flatten)]
    selection: Selection,
    /// Only count the jobs that it would be done to
    #[arg(long)]
    dry_run: bool,
}

/// One verb, as both ways of doing it need it.
struct Verb {
    name: &'static str,
    /// As it is typed, for those jobs that it is mostly for.
    example: &'static str,
    method: Method,
    /// After `/v1/jobs/{id}`.
    path: &'static str,
    body: Value,
}

impl Verb {
    fn new(name: &'static str, example: &'static str, path: &'static str, body: &impl Serialize) -> Self {
        let body = serde_json::to_value(body).expect("requests are plain structures");
        Self { name, example, method: Method::POST, path, body }
    }
}

pub async fn cancel(context: &Context, args: CancelArgs) -> Outcome {
    let request = CancelRequest { kill: args.kill, after_op: args.after_op, reason: args.reason.map(Into::into) };
    apply(context, &args.select, Verb::new("cancel", "cancel --status queued", "/cancel", &request)).await
}

pub async fn kick(context: &Context, args: KickArgs) -> Outcome {
    apply(context, &args.select, Verb::new("kick", "kick --status buried", "/kick", &json!({}))).await
}

pub async fn bury(context: &Context, args: BuryArgs) -> Outcome {
    let request = BuryRequest { reason: args.reason.map(Into::into) };
    apply(context, &args.select, Verb::new("bury", "bury --status queued", "/bury", &request)).await
}

pub async fn delete(context: &Context, args: DeleteArgs) -> Outcome {
    let verb = Verb { method: Method::DELETE, ..Verb::new("delete", "delete --status canceled", "", &json!({})) };
    apply(context, &args.select, verb).await
}

pub async fn priority(context: &Context, args: PriorityArgs) -> Outcome {
    let request = PriorityRequest { priority: args.priority };
    apply(context, &args.select, Verb::new("priority", "priority high --status queued", "/priority", &request)).await
}

pub async fn archive(context: &Context, args: ArchiveArgs) -> Outcome {
    apply(context, &args.select, Verb::new("archive", "archive --status success", "/archive", &json!({}))).await
}

pub async fn edit(context: &Context, args: EditArgs) -> Outcome {
    let version = args.if_version.map(|version| ("version".to_owned(), version.into()));
    let mut fields = Map::new();
    for (path, value) in args.set.into_iter().chain(version) {
        put(&mut fields, &path, value).map_err(Failure::usage)?;
    }
    let verb = Verb { method: Method::PATCH, ..Verb::new("edit", "edit", "", &fields) };
    let ids: Vec<u64> = args.ids.iter().flat_map(|ids| ids.iter()).collect();
    one_by_one(context, &ids, &verb).await
}

/// `needs.ram_mb` is a field of `needs`, beside what else is set of it.
fn put(fields: &mut Map<String, Value>, path: &str, value: Value) -> Result<(), String> {
    let Some((outer, inner)) = path.split_once('.') else {
        fields.insert(path.to_owned(), value);
        return Ok(());
    };
    match fields.entry(outer).or_insert_with(|| Value::Object(Map::new())) {
        Value::Object(object) => put(object, inner, value),
        _ => Err(format!("`{outer}` is set as a whole and in parts; say one of them")),
    }
}

/// What reads as JSON is JSON; anything else is text.
fn assignment(text: &str) -> Result<(String, Value), String> {
    let parts = text.split_once('=').filter(|(field, _)| !field.is_empty());
    let (field, value) = parts.ok_or_else(|| format!("`{text}` is no FIELD=VALUE"))?;
    Ok((field.to_owned(), serde_json::from_str(value).unwrap_or_else(|_| value.into())))
}

async fn apply(context: &Context, target: &Target, verb: Verb) -> Outcome {
    let by_property = target.selection.is_by_property() || target.dry_run;
    match (target.selection.ids().is_empty(), by_property) {
        (true, false) => Err(Failure::usage(format!(
            "which jobs? Give ids, or say what they are, as in `raftq {} --queue etl`",
            verb.example
        ))),
        (_, true) => in_bulk(context, target, &verb).await,
        (false, false) => one_by_one(context, &target.selection.ids(), &verb).await,
    }
}

/// Calls in flight at once.
const CALLS_AT_ONCE: usize = 32;

async fn one_by_one(context: &Context, ids: &[u64], verb: &Verb) -> Outcome {
    let progress = context.output.progress((ids.len() > CALLS_AT_ONCE).then_some(ids.len() as u64), verb.name);
    let mut answers =
        stream::iter(ids.iter().map(|id| async move { (*id, call(context, *id, verb).await) })).buffered(CALLS_AT_ONCE);
    let mut results = Vec::new();
    let mut failed = false;
    while let Some((id, outcome)) = answers.next().await {
        progress.inc(1);
        match outcome {
            Ok(answer) => results.push(done(context, id, verb, &answer)?),
            Err(failure) => {
                let Some(error) = failure.refusal().filter(|error| is_about_the_job(&error.code)) else {
                    return Err(failure);
                };
                failed = true;
                context.output.refused("job", id, error);
                results.push(json!({ "id": id, "ok": false, "error": error }));
            }
        }
    }
    progress.finish_and_clear();
    if context.output.is_json() {
        context.output.json(&json!({ "results": results }))?;
    }
    Ok(Exit::ok_if(!failed))
}

async fn call(context: &Context, id: u64, verb: &Verb) -> Result<Value, Failure> {
    context.write(verb.method.clone(), &format!("/v1/jobs/{id}{}", verb.path), &verb.body).await
}

/// Prints one job's new status, and gives its result for `--json`.
fn done(context: &Context, id: u64, verb: &Verb, answer: &Value) -> Result<Value, Failure> {
    let changed = answer["changed"].as_bool().unwrap_or(true);
    if !context.output.is_json() {
        let status = answer["job"]["status"].as_str().filter(|_| verb.name != "delete").unwrap_or("deleted");
        let remark = if changed { status.to_owned() } else { format!("{status} (unchanged)") };
        context.output.rows(&[], &[vec![id.to_string(), remark]])?;
    }
    let mut result = Map::new();
    result.insert("id".into(), id.into());
    result.insert("ok".into(), true.into());
    result.insert("changed".into(), changed.into());
    result.extend(answer.get("job").map(|job| ("job".to_owned(), job.clone())));
    Ok(result.into())
}

/// Refusals of one job leave the others; a drained or full queue, or a fault of ours, concerns them all.
fn is_about_the_job(code: &str) -> bool {
    super::failure::exit_of_code(code) == Exit::Failed
}

fn body(refusal: &BulkRefusal) -> ErrorBody {
    let (code, message) = (refusal.code.clone().into(), refusal.message.clone());
    ErrorBody { code, message, details: Map::new() }
}

/// Piece after piece; what is refused is named, as far as the answer names it.
async fn in_bulk(context: &Context, target: &Target, verb: &Verb) -> Outcome {
    let progress = context.output.progress(None, verb.name);
    let mut total = BulkAnswer::default();
    let mut after = None;
    loop {
        let piece: BulkAnswer =
            context.write(Method::POST, "/v1/jobs/bulk", &bulk_request(target, verb, after)).await?;
        progress.inc(piece.matched);
        for refusal in &piece.refusals {
            progress.suspend(|| context.output.refused("job", refusal.id.0, &body(refusal)));
        }
        after = piece.next.clone();
        add(&mut total, piece);
        if after.is_none() {
            break;
        }
    }
    progress.finish_and_clear();
    print_counts(context, &total)?;
    Ok(Exit::ok_if(total.refused == 0))
}

fn bulk_request(target: &Target, verb: &Verb, after: Option<String>) -> BulkRequest {
    let mut act = verb.body.as_object().cloned().unwrap_or_default();
    act.insert("verb".to_owned(), verb.name.into());
    let select = target.selection.query().into_iter().map(|(name, value)| (name.to_owned(), value.into())).collect();
    BulkRequest { act: BulkDo::With(act), select, limit: None, after, dry_run: target.dry_run }
}

fn add(total: &mut BulkAnswer, piece: BulkAnswer) {
    total.matched += piece.matched;
    total.changed += piece.changed;
    total.unchanged += piece.unchanged;
    total.refused += piece.refused;
    total.refusals.extend(piece.refusals);
}

fn print_counts(context: &Context, total: &BulkAnswer) -> Result<(), Failure> {
    if context.output.is_json() {
        return Ok(context.output.json(&json!(total))?);
    }
    let counts = [
        ("matched", total.matched),
        ("changed", total.changed),
        ("unchanged", total.unchanged),
        ("refused", total.refused),
    ];
    Ok(context.output.record(&counts.map(|(name, count)| (name, count.to_string())))?)
}

pub async fn autoarchive(context: &Context, args: AutoarchiveArgs) -> Outcome {
    let progress = context.output.progress(None, "archived");
    let mut archived = 0;
    let mut after = None;
    let left = loop {
        let request = ArchiveRequest { age_s: Some(args.age), after, ..ArchiveRequest::default() };
        let call = Call::write(Method::POST, "/v1/archive", &request, context.deadline())?;
        let piece: ArchiveAnswer = context.client.call(call).await?.json()?;
        archived += piece.archived;
        progress.inc(piece.archived);
        if piece.left == 0 || piece.next.is_none() {
            break piece.left;
        }
        after = piece.next;
    };
    progress.finish_and_clear();
    match context.output.is_json() {
        true => context.output.json(&json!({ "archived": archived, "left": left }))?,
        false => context.output.record(&[("archived", archived.to_string()), ("left", left.to_string())])?,
    }
    Ok(Exit::Ok)
}

fn archive_age(text: &str) -> Result<ArchiveAge, String> {
    match text {
        "all" => Ok(ArchiveAge::All),
        text => units::duration(text).map(|age: Duration| ArchiveAge::Seconds(age.as_secs())),
    }
}
