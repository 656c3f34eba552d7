//! `raftq wait`: until jobs have ended, or nothing more happens to it by itself.
//!
//! Each look is one long poll by version, repeated; the node answers at once if the job is final. A buried job ends the wait,
//! and a job that waits for a buried one, or that nobody runs, is named: it would be waited for in silence.

use std::{cell::RefCell, collections::BTreeSet, time::Duration};

use futures::{StreamExt, stream};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{
    context::Context,
    failure::{Exit, Failure, Outcome},
    fields::Job,
    units::Ids,
};
use crate::client::{Call, path_with_query};

#[derive(Debug, clap::Args)]
pub struct WaitArgs {
    /// Job ids, or ranges: 17 20-29
    #[arg(required = true, value_name = "ID")]
    ids: Vec<Ids>,
}

/// One long poll. Short enough that a blocker which was buried meanwhile is noticed, and a frozen node left.
pub const POLL: Duration = Duration::from_secs(5);
/// Polls at the same time: enough that a batch of ended jobs is seen quickly, few enough to be no load.
const POLLS_AT_ONCE: usize = 64;
/// A wait outlives nodes: without an end of its own it goes on looking for one for a minute.
const LOOKING: Duration = Duration::from_secs(60);
/// What is known by the end may still be on its way.
const LAST_ANSWER: Duration = Duration::from_millis(500);

/// What one look gave.
#[derive(Deserialize)]
pub struct Look {
    /// If it has changed.
    pub job: Option<Value>,
    #[serde(default)]
    pub log: Vec<Value>,
}

/// What a caller knows already, and how long it waits for news.
#[derive(Clone, Copy, Debug, Default)]
pub struct Known {
    pub version: Option<u64>,
    pub log_serial: Option<u64>,
}

pub async fn run(context: &Context, args: WaitArgs) -> Outcome {
    let ids: Vec<u64> = args.ids.iter().flat_map(|ids| ids.iter()).collect();
    if let [id] = ids[..] {
        let job = settle(context, id).await?;
        report(context, &job)?;
        return Ok(Exit::ok_if(job.succeeded()));
    }
    for_all(context, &ids).await
}

/// Waits for a job just submitted; ends as its command ended.
pub async fn for_one(context: &Context, id: u64) -> Outcome {
    let job = settle(context, id).await?;
    if context.output.is_json() {
        context.output.json(&job.0)?;
    } else if !job.succeeded() {
        context.output.note(&ending(&job));
    }
    Ok(command_exit(&job))
}

/// Waits for many, with a bar; prints each as it ends.
pub async fn for_all(context: &Context, ids: &[u64]) -> Outcome {
    let progress = context.output.progress(Some(ids.len() as u64), "ended");
    let told = Told::default();
    let settled = |id: u64| {
        let told = &told;
        async move { (id, settle_among(context, id, told).await) }
    };
    let mut ended = stream::iter(ids.iter().copied().map(settled)).buffer_unordered(POLLS_AT_ONCE);
    let mut failed: u64 = 0;
    while let Some((id, settled)) = ended.next().await {
        match settled {
            Ok(job) => {
                failed += u64::from(!job.succeeded());
                if !context.output.is_terminal() || !job.succeeded() {
                    progress.suspend(|| report(context, &job))?;
                }
            }
            Err(failure) => {
                let Some(error) = failure.refusal() else { return Err(failure) };
                failed += 1;
                progress.suspend(|| context.output.refused("job", id, error));
            }
        }
        progress.inc(1);
    }
    progress.finish_and_clear();
    if context.output.is_terminal() {
        context.output.line(&format!("{} ended, {failed} of them without success", ids.len()))?;
    }
    Ok(Exit::ok_if(failed == 0))
}

/// Waits until the job is final or buried.
pub async fn settle(context: &Context, id: u64) -> Result<Job, Failure> {
    settle_among(context, id, &Told::default()).await
}

/// The same beside others, and what was said of one of them is not said of the next.
async fn settle_among(context: &Context, id: u64, told: &Told) -> Result<Job, Failure> {
    let mut known = Known::default();
    let mut obstacles = Obstacles::new(told);
    loop {
        let look = look(context, id, known, POLL).await?;
        let job = look.job.map(Job);
        known.version = job.as_ref().map(Job::version).or(known.version);
        match job {
            Some(job) if job.is_settled() => return Ok(job),
            job => obstacles.warn(context, id, job.as_ref()).await?,
        }
    }
}

/// What was said of why jobs wait. Jobs that are waited for together share it.
#[derive(Default)]
pub struct Told(RefCell<BTreeSet<String>>);

impl Told {
    fn is_news(&self, what: &str) -> bool {
        self.0.borrow_mut().insert(what.to_owned())
    }
}

/// What keeps a job waiting.
pub struct Obstacles<'a> {
    told: &'a Told,
    status: String,
}

impl<'a> Obstacles<'a> {
    pub fn new(told: &'a Told) -> Self {
        Self { told, status: String::new() }
    }

    /// Says once what the job waits for, if that may take for ever. `seen`: the job, if it has changed.
    pub async fn warn(&mut self, context: &Context, id: u64, seen: Option<&Job>) -> Result<(), Failure> {
        self.status = seen.map_or_else(|| std::mem::take(&mut self.status), |job| job.status().to_owned());
        match (&*self.status, seen) {
            ("blocked", _) => self.warn_of_buried(context, id).await,
            // Most run soon; of one that has not changed for a whole poll it is said why.
            ("queued", None) => self.warn_of_holds(context, id).await,
            _ => Ok(()),
        }
    }

    /// What its blockers have become is no change of its own.
    async fn warn_of_buried(&self, context: &Context, id: u64) -> Result<(), Failure> {
        for blocker in field(context, id, "blocked_by").await?.blocked_by_buried() {
            let text = format!("job {id} waits for job {blocker}, which is buried; kick or cancel that one");
            if self.told.is_news(&text) {
                context.output.note(&text);
            }
        }
        Ok(())
    }

    async fn warn_of_holds(&self, context: &Context, id: u64) -> Result<(), Failure> {
        let job = field(context, id, "held_by").await?;
        let reasons = job.held_by().join("; ");
        if !reasons.is_empty() && self.told.is_news(&reasons) {
            context.output.note(&format!("job {id} waits: {reasons}"));
        }
        Ok(())
    }
}

async fn field(context: &Context, id: u64, name: &str) -> Result<Job, Failure> {
    Ok(Job(context.read(&format!("/v1/jobs/{id}"), &[("fields", name.to_owned())]).await?))
}

/// One look: at once if the job is newer than `known` or final, else when it changes or `poll` is over.
pub async fn look(context: &Context, id: u64, known: Known, poll: Duration) -> Result<Look, Failure> {
    let now = Instant::now();
    let end = context.end_of_wait();
    if end.is_some_and(|end| end <= now) {
        return Err(Failure::TimedOut(format!("job {id} has not ended yet; it goes on")));
    }
    let poll = end.map_or(poll, |end| poll.min(end - now));
    let mut query = vec![("timeout_ms", poll.as_millis().to_string())];
    query.extend(known.version.map(|version| ("since", version.to_string())));
    query.extend(known.log_serial.map(|serial| ("log_serial", serial.to_string())));
    let path = path_with_query(&format!("/v1/jobs/{id}/wait"), &query);
    let deadline = end.map_or(now + poll + LOOKING, |end| end + LAST_ANSWER);
    let call = context.call(Call::read(path, deadline).waiting(poll));
    Ok(context.client.call(call).await?.json()?)
}

/// One ended job as a row.
fn report(context: &Context, job: &Job) -> Result<(), Failure> {
    if context.output.is_json() {
        return Ok(context
            .output
            .json(&json!({ "id": job.id(), "status": job.status(), "exit_code": job.exit_code() }))?);
    }
    if context.output.is_terminal() {
        return Ok(context.output.line(&ending(job))?);
    }
    let code = job.exit_code().map_or_else(|| "-".to_owned(), |code| code.to_string());
    Ok(context.output.rows(&[], &[vec![job.id().to_string(), job.status().to_owned(), code]])?)
}

/// How it ended, in words.
pub fn ending(job: &Job) -> String {
    let code = job.exit_code().filter(|code| *code != 0).map(|code| format!(", exit code {code}")).unwrap_or_default();
    let reason = job.fail_reason().filter(|_| !job.succeeded()).map(|reason| format!(" ({reason}{code})"));
    let reason = reason.unwrap_or_default();
    match job.status() {
        "buried" => format!("job {} is buried{reason}: see `raftq show {0}`, then kick or cancel it", job.id()),
        status => format!("job {}: {status}{reason}", job.id()),
    }
}

/// The exit code of a job of one command is the command's own.
pub fn command_exit(job: &Job) -> Exit {
    if job.succeeded() {
        return Exit::Ok;
    }
    match (job.ops().len(), job.exit_code().and_then(|code| u8::try_from(code).ok())) {
        (1, Some(code)) if code > 0 => Exit::Command(code),
        _ => Exit::Failed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(status: &str, attempts: Value) -> Job {
        Job(json!({ "id": 17, "status": status, "ops": [{ "kind": "exec", "history": attempts }] }))
    }

    #[test]
    fn exit_is_that_of_the_command() {
        for (job, code) in [
            (job("success", json!([{ "exit_code": 0 }])), 0),
            (job("buried", json!([{ "exit_code": 1 }, { "exit_code": 77 }])), 77),
            (job("error", json!([{ "exit_code": null, "fail_reason": "signal" }])), 1),
            (job("canceled", json!([])), 1),
        ] {
            assert_eq!(command_exit(&job).code(), code, "{job:?}");
        }
    }

    #[test]
    fn failure_of_an_op_is_the_jobs_and_not_that_of_those_behind_it() {
        let ops = json!([
            { "history": [{ "exit_code": 0 }] },
            { "history": [{ "exit_code": 3, "fail_reason": "exit_nonzero" }] },
            { "history": [{ "exit_code": null, "fail_reason": "preceding_op" }] },
        ]);
        let job = Job(json!({ "id": 17, "status": "error", "ops": ops }));
        assert_eq!(ending(&job), "job 17: error (exit_nonzero, exit code 3)");
    }

    #[test]
    fn endings_say_what_to_do() {
        let buried = job("buried", json!([{ "exit_code": 3, "fail_reason": "exit_nonzero" }]));
        assert_eq!(
            ending(&buried),
            "job 17 is buried (exit_nonzero, exit code 3): see `raftq show 17`, then kick or cancel it"
        );
        assert_eq!(ending(&job("success", json!([{ "exit_code": 0 }]))), "job 17: success");
    }
}
