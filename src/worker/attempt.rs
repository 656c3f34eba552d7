//! One attempt from its task to its report: a timer, or a command that the supervisor is asked to start.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::task::spawn_blocking;

use super::boottime::Boottime;
use super::protocol::{Ended, LEASE_VARIABLE, MARKER_VARIABLE, Start, Strings, ToSupervisor};
use super::reason::Reason;
use super::report::Report;
use super::run::Run;
use super::runner::{Shared, Task};
use super::scratch::{Scratch, Written};
use super::spec::{Exec, What, Work};

/// How often a running command's checkpoint is looked at.
const CHECKPOINT_EVERY: Duration = Duration::from_secs(1);
const PATH_DEFAULT: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

pub async fn drive(shared: &Arc<Shared>, task: Task, run: &Arc<Run>, ended: oneshot::Receiver<Ended>) -> Report {
    match Work::parse(&task.kind, &task.args) {
        Err(error) => Report::failure(Reason::EnvInvalid, false, error),
        Ok(Work::Sleep(time)) => sleep(shared, run, time).await,
        Ok(Work::Exec(exec)) => execute(shared, &task, &exec, run, ended).await,
    }
}

/// A timer and no process. It, too, needs the right to run.
async fn sleep(shared: &Shared, run: &Run, time: Duration) -> Report {
    let started = Boottime::now();
    let ends = started.after_ms(time.as_millis() as u64);
    loop {
        let now = Boottime::now();
        let lapses = run.until().unwrap_or_else(|| shared.alive_until());
        if now >= lapses {
            return Report::failure(Reason::Interrupted, true, "the right to run it has ended");
        }
        if now >= ends {
            return Report::slept(now.ms_since(started));
        }
        tokio::select! {
            () = tokio::time::sleep(Duration::from_millis(ends.min(lapses).ms_since(now))) => {}
            () = run.stopped.cancelled() => {
                return Report::failure(run.stop_reason().unwrap_or(Reason::Interrupted), true, "stopped");
            }
        }
    }
}

async fn execute(
    shared: &Arc<Shared>,
    task: &Task,
    exec: &Exec,
    run: &Arc<Run>,
    ended: oneshot::Receiver<Ended>,
) -> Report {
    let scratch = match take_scratch(shared, task).await {
        Ok(scratch) => Arc::new(scratch),
        Err(error) => return Report::failure(Reason::StartFailed, false, format!("scratch directory: {error}")),
    };
    let start = |until| Box::new(start_message(shared, task, exec, &scratch, until));
    if let Err(stopped) = run.start(|until| shared.outbox.send(&ToSupervisor::Start(start(until)))) {
        let reason = stopped.unwrap_or(Reason::StartFailed);
        let error = stopped.map_or("there is no supervisor", |_| "stopped before its start");
        clean(shared, scratch).await;
        return Report::failure(reason, false, error);
    }
    let report = match until_ended(run, &scratch, ended).await {
        Some(ended) => collect(shared, run, ended, scratch).await,
        None => Report::failure(Reason::LostContact, true, "the link to the supervisor has ended"),
    };
    Report { shell: matches!(exec.what, What::Shell(_)).then(|| shared.options.shell.to_string()), ..report }
}

/// With what the command is to find there. Most find nothing, and cost nothing here.
async fn take_scratch(shared: &Arc<Shared>, task: &Task) -> io::Result<Scratch> {
    let (checkpoint, results) = (task.checkpoint.clone(), task.results.clone());
    if checkpoint.is_none()
        && results.is_none()
        && let Some(idle) = shared.scratches.idle()
    {
        return Ok(idle);
    }
    let shared = shared.clone();
    blocking(move || {
        let scratch = shared.scratches.idle().map_or_else(|| shared.scratches.create(), Ok)?;
        if let Some(checkpoint) = checkpoint {
            fs::write(scratch.checkpoint_file(), checkpoint)?;
        }
        if let Some(results) = results {
            fs::write(scratch.results_file(), results)?;
        }
        Ok(scratch)
    })
    .await?
}

/// Waits for the end, and reads the checkpoint meanwhile.
async fn until_ended(run: &Run, scratch: &Arc<Scratch>, mut ended: oneshot::Receiver<Ended>) -> Option<Ended> {
    loop {
        tokio::select! {
            ended = &mut ended => return ended.ok(),
            () = tokio::time::sleep(CHECKPOINT_EVERY) => {}
        }
        let scratch = scratch.clone();
        if let Ok(Some(checkpoint)) = blocking(move || scratch.checkpoint()).await {
            run.checkpoint_read(checkpoint);
        }
    }
}

/// Reads what the command wrote. Most write nothing, and cost nothing here.
async fn collect(shared: &Arc<Shared>, run: &Run, ended: Ended, scratch: Arc<Scratch>) -> Report {
    if !ended.has_files {
        give_back(shared, scratch);
        return Report::of(ended, || Ok(Written::default()));
    }
    let files = scratch.clone();
    let collected = blocking(move || (files.checkpoint(), Report::of(ended, || files.written()))).await;
    clean(shared, scratch).await;
    match collected {
        Ok((checkpoint, report)) => {
            // What it wrote last, often just before it died.
            checkpoint.into_iter().for_each(|checkpoint| run.checkpoint_read(checkpoint));
            report
        }
        Err(error) => Report::failure(Reason::LostContact, true, error.to_string()),
    }
}

/// For the next attempt. A directory that cannot be emptied is given up.
async fn clean(shared: &Arc<Shared>, scratch: Arc<Scratch>) {
    let cleaned = blocking({
        let scratch = scratch.clone();
        move || scratch.empty()
    });
    match cleaned.await.and_then(|emptied| emptied) {
        Ok(()) => give_back(shared, scratch),
        Err(error) => {
            tracing::warn!(directory = %scratch.directory().display(), %error, "scratch directory not emptied");
        }
    }
}

/// Nobody else holds it any more: its checkpoint is read by the one task that gives it back.
fn give_back(shared: &Shared, scratch: Arc<Scratch>) {
    if let Ok(scratch) = Arc::try_unwrap(scratch) {
        shared.scratches.give_back(scratch);
    }
}

fn start_message(shared: &Shared, task: &Task, exec: &Exec, scratch: &Scratch, until: Option<Boottime>) -> Start {
    let (inherited, own) = (inherited(task), own_variables(shared, task));
    let variables = environment(&[&shared.base_env, &inherited, &exec.env], &own, scratch);
    let mut env = Strings::default();
    variables.iter().for_each(|(name, value)| env.push(&[name, "=", value]));
    Start {
        lease: task.lease.0,
        argv: argv(shared, exec),
        path: variables.get("PATH").copied().unwrap_or_default().to_owned(),
        env,
        cwd: exec.cwd.clone(),
        scratch: scratch.directory().to_owned(),
        stdin_file: exec.stdin_file.clone(),
        timeout_ms: exec.timeout.map(|limit| limit.as_millis() as u64),
        grace_ms: shared.options.grace_ms,
        max_ram_mb: exec.max_ram_mb,
        needs_ram_mb: task.needs_ram_mb,
        keep_output: task.keep_output,
        until,
    }
}

fn argv(shared: &Shared, exec: &Exec) -> Strings {
    let mut argv = Strings::default();
    match &exec.what {
        What::Argv(words) => words.iter().for_each(|word| argv.push(&[word])),
        What::Shell(line) => shared.options.shell.argv(line).iter().for_each(|word| argv.push(&[word])),
    }
    argv
}

/// The later ones stand. Last come raftq's own, so that no job can pass for another.
fn environment<'a>(
    given: &[&'a BTreeMap<String, String>],
    own: &'a [(&'static str, String)],
    scratch: &'a Scratch,
) -> BTreeMap<&'a str, &'a str> {
    let given = given.iter().flat_map(|variables| variables.iter());
    let given = given.map(|(name, value)| (name.as_str(), value.as_str()));
    let own = own.iter().chain(scratch.variables()).map(|(name, value)| (*name, value.as_str()));
    given.chain(own).collect()
}

/// It was checked when it was taken in; what cannot be read is as good as not asked for.
fn inherited(task: &Task) -> BTreeMap<String, String> {
    let Some(text) = task.environment.as_deref() else { return BTreeMap::new() };
    serde_json::from_str(text).unwrap_or_else(|error| {
        tracing::warn!(job = task.job.0, %error, "inherited environment not readable");
        BTreeMap::new()
    })
}

fn own_variables(shared: &Shared, task: &Task) -> [(&'static str, String); 6] {
    [
        ("RAFTQ_SERVER", task.server.clone()),
        ("RAFTQ_JOB_ID", task.job.to_string()),
        ("RAFTQ_OP", task.op.to_string()),
        ("RAFTQ_ATTEMPT", task.attempt.to_string()),
        (LEASE_VARIABLE, task.lease.to_string()),
        (MARKER_VARIABLE, shared.marker.clone()),
    ]
}

/// What a command gets of this process's environment: nothing that could change between nodes by accident.
pub fn base_env() -> BTreeMap<String, String> {
    let inherited = |name: &str, otherwise: &str| {
        let value = std::env::var_os(name).as_deref().and_then(OsStr::to_str).unwrap_or(otherwise).to_owned();
        (name.to_owned(), value)
    };
    [inherited("PATH", PATH_DEFAULT), inherited("HOME", "/"), inherited("LANG", "C.UTF-8")].into()
}

/// File work on a thread that may wait. Fails only when the runtime is ending.
pub fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> impl Future<Output = io::Result<T>> {
    let task = spawn_blocking(work);
    async { task.await.map_err(io::Error::other) }
}
