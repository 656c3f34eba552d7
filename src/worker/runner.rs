//! The door of this room: gives tasks to the supervisor, and reports back.

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsStr;
use std::fs;
use std::future::Future;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::{oneshot, watch};
use tokio::task::{JoinHandle, spawn_blocking};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::boottime::Boottime;
use super::link::{Options, Outbox, Supervisor, keep};
use super::protocol::{Ended, FromSupervisor, LEASE_VARIABLE, MARKER_VARIABLE, Start, ToSupervisor};
use super::reason::Reason;
use super::report::Report;
use super::run::{Run, Tail, Updates};
use super::scratch::{Scratch, Scratches, Written, remove_all};
use super::spec::{Exec, What, Work};
use crate::queue::ids::{JobId, LeaseId};

/// How often a running command's checkpoint is looked at.
const CHECKPOINT_EVERY: Duration = Duration::from_secs(1);
const TAIL_PATIENCE: Duration = Duration::from_secs(2);
/// What processes that wait in the kernel may take beyond their grace.
const KILL_PATIENCE: Duration = Duration::from_secs(10);
const PATH_DEFAULT: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// One attempt at one op.
#[derive(Clone, Debug)]
pub struct Task {
    pub job: JobId,
    pub op: u32,
    pub attempt: u32,
    /// Unique among all runs of this runner.
    pub lease: LeaseId,
    pub kind: String,
    /// JSON.
    pub args: String,
    /// What the command finds in `RAFTQ_SERVER`.
    pub server: String,
    /// Of the attempt before.
    pub checkpoint: Option<Vec<u8>>,
    pub keep_output: bool,
    pub proof: Proof,
}

/// What lets a task run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proof {
    /// As long as [`Runner::alive`] says.
    Leadership,
    /// Until then, or what [`Runner::extend`] says later. TERM comes then, KILL `loss_grace_ms` after; leave room for both.
    Lease(Boottime),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cancel {
    /// TERM, and KILL after the grace.
    Term,
    /// At once.
    Kill,
}

/// Trees that were not gone in time. They are still being killed, and the runs still end when they are gone.
#[derive(Debug, thiserror::Error)]
#[error("{0} process trees do not end")]
pub struct StillRunning(pub usize);

/// Runs tasks. Cheap to clone; all clones are one runner.
#[derive(Clone)]
pub struct Runner {
    shared: Arc<Shared>,
    keeper: Arc<Mutex<Option<JoinHandle<()>>>>,
}

pub(super) struct Shared {
    pub(super) options: Options,
    pub(super) marker: String,
    pub(super) outbox: Outbox,
    pub(super) shutdown: CancellationToken,
    /// Pings in a row.
    pub(super) unanswered: AtomicU32,
    scratches: Scratches,
    base_env: BTreeMap<String, String>,
    runs: Mutex<HashMap<u64, Arc<Run>>>,
    running: watch::Sender<usize>,
    alive_until: Mutex<Boottime>,
    drivers: TaskTracker,
}

impl Runner {
    /// Must be called within a tokio runtime.
    pub fn new(supervisor: Supervisor) -> Self {
        let shared = Arc::new(Shared {
            options: supervisor.options.clone(),
            marker: supervisor.marker.clone(),
            outbox: Outbox::new(),
            shutdown: CancellationToken::new(),
            unanswered: AtomicU32::new(0),
            scratches: Scratches::new(supervisor.options.scratch.clone()),
            base_env: base_env(),
            runs: Mutex::default(),
            running: watch::Sender::new(0),
            alive_until: Mutex::new(Boottime::ZERO),
            drivers: TaskTracker::new(),
        });
        let keeper = tokio::spawn(keep(shared.clone(), supervisor));
        Self { shared, keeper: Arc::new(Mutex::new(Some(keeper))) }
    }

    /// Proof that this node leads until then, for tasks with [`Proof::Leadership`]; without it none is even started. Count
    /// from when the last answer of a majority was *asked for*. Never goes back.
    pub fn alive(&self, until: Boottime) {
        let mut alive_until = self.shared.alive_until.lock().expect("nothing panics while it is held");
        *alive_until = until.max(*alive_until);
        self.shared.outbox.send(&ToSupervisor::Alive { until: *alive_until });
    }

    /// The lease of a task with [`Proof::Lease`] is valid until then. Never goes back.
    pub fn extend(&self, lease: LeaseId, until: Boottime) {
        if let Some(run) = self.shared.run(lease.0) {
            run.extend(until);
            self.shared.outbox.send(&ToSupervisor::Extend { lease: lease.0, until });
        }
    }

    /// Starts a task. Whatever is wrong with it comes back as its report.
    pub fn run(&self, task: Task) -> Handle {
        let (ended, when_ended) = oneshot::channel();
        let until = match task.proof {
            Proof::Leadership => None,
            Proof::Lease(until) => Some(until),
        };
        let run = Arc::new(Run::new(until, task.checkpoint.clone(), ended));
        let (report, reported) = watch::channel(None);
        let handle = Handle { shared: self.shared.clone(), lease: task.lease.0, run: run.clone(), report: reported };
        if !self.shared.register(task.lease.0, &run) {
            let refused =
                Report::failure(Reason::StartFailed, false, "this lease runs already, or the runner is stopped");
            report.send_replace(Some(Arc::new(refused)));
            return handle;
        }
        let shared = self.shared.clone();
        self.shared.drivers.spawn(async move {
            let lease = task.lease.0;
            let done = drive(&shared, task, &run, when_ended).await;
            // First the report, then the count: who waits for none to be left finds every report made.
            report.send_replace(Some(Arc::new(done)));
            shared.forget(lease);
        });
        handle
    }

    /// Stops all that runs, with the reason `interrupted`, and waits until every tree is gone.
    pub async fn kill_everything(&self, grace: Duration) -> Result<(), StillRunning> {
        let grace_ms = grace.as_millis() as u64;
        for (lease, run) in self.shared.runs() {
            self.shared.stop(lease, &run, Reason::Interrupted, grace_ms);
        }
        self.until_none_runs(grace + KILL_PATIENCE).await
    }

    /// Waits until nothing runs.
    pub async fn until_none_runs(&self, patience: Duration) -> Result<(), StillRunning> {
        let mut running = self.shared.running.subscribe();
        let none = tokio::time::timeout(patience, running.wait_for(|count| *count == 0)).await;
        if none.is_ok() { Ok(()) } else { Err(StillRunning(self.running())) }
    }

    pub fn running(&self) -> usize {
        *self.shared.running.borrow()
    }

    /// Kills all that runs, ends the supervisor, and waits for both.
    pub async fn stop(&self) {
        let loss_grace = Duration::from_millis(self.shared.options.loss_grace_ms);
        if let Err(error) = self.kill_everything(loss_grace).await {
            tracing::error!(%error, "commands do not end");
        }
        self.shared.shutdown.cancel();
        let keeper = self.keeper.lock().expect("nothing panics while it is held").take();
        if let Some(Err(error)) = async { Some(keeper?.await) }.await {
            tracing::error!(%error, "keeper of the supervisor");
        }
        self.shared.drivers.close();
        self.shared.drivers.wait().await;
        let all = self.shared.options.scratch.clone();
        if let Err(error) = blocking(move || remove_all(&all)).await.and_then(|removed| removed) {
            tracing::warn!(%error, "scratch directories not removed");
        }
    }
}

/// A running or ended task. Clones are the same task; dropping them does not stop it.
#[derive(Clone)]
pub struct Handle {
    shared: Arc<Shared>,
    lease: u64,
    run: Arc<Run>,
    report: watch::Receiver<Option<Arc<Report>>>,
}

impl Handle {
    pub fn lease(&self) -> LeaseId {
        LeaseId(self.lease)
    }

    /// When the whole process tree is gone.
    pub async fn wait(&self) -> Arc<Report> {
        let mut report = self.report.clone();
        match report.wait_for(Option::is_some).await {
            Ok(report) => report.clone().expect("waited for"),
            Err(_) => Arc::new(Report::failure(Reason::Interrupted, self.pid().is_some(), "the runner has ended")),
        }
    }

    /// On behalf of a user: the reason will be `killed`. May be repeated, and sharpened from TERM to KILL.
    pub fn cancel(&self, how: Cancel) {
        let grace_ms = if how == Cancel::Kill { 0 } else { self.shared.options.grace_ms };
        self.shared.stop(self.lease, &self.run, Reason::Killed, grace_ms);
    }

    /// Because this worker stops: the reason will be `interrupted`.
    pub fn interrupt(&self, grace: Duration) {
        self.shared.stop(self.lease, &self.run, Reason::Interrupted, grace.as_millis() as u64);
    }

    /// Of the main process, once there is one.
    pub fn pid(&self) -> Option<i32> {
        self.run.pid()
    }

    /// What the command has told since the last call.
    pub fn take_updates(&self) -> Updates {
        self.run.take_updates()
    }

    /// Waits until there is something for [`Handle::take_updates`]. Cancel-safe; for one waiter.
    pub async fn updated(&self) {
        self.run.changed.notified().await;
    }

    /// The last 32 KiB of each stream while it runs. `None` once it has ended, or if there is no answer.
    pub async fn tail(&self) -> Option<Tail> {
        let tail = self.run.wait_for_tail()?;
        self.shared.outbox.send(&ToSupervisor::Tail { lease: self.lease });
        tokio::time::timeout(TAIL_PATIENCE, tail).await.ok()?.ok()
    }
}

impl Shared {
    fn register(&self, lease: u64, run: &Arc<Run>) -> bool {
        let mut runs = self.runs.lock().expect("nothing panics while it is held");
        if self.shutdown.is_cancelled() || runs.contains_key(&lease) {
            return false;
        }
        runs.insert(lease, run.clone());
        self.running.send_replace(runs.len());
        true
    }

    fn forget(&self, lease: u64) {
        let mut runs = self.runs.lock().expect("nothing panics while it is held");
        runs.remove(&lease);
        self.running.send_replace(runs.len());
    }

    fn run(&self, lease: u64) -> Option<Arc<Run>> {
        self.runs.lock().expect("nothing panics while it is held").get(&lease).cloned()
    }

    pub(super) fn runs(&self) -> Vec<(u64, Arc<Run>)> {
        let runs = self.runs.lock().expect("nothing panics while it is held");
        runs.iter().map(|(lease, run)| (*lease, run.clone())).collect()
    }

    fn stop(&self, lease: u64, run: &Run, reason: Reason, grace_ms: u64) {
        run.stop(reason, || {
            self.outbox.send(&ToSupervisor::Stop { lease, reason, grace_ms });
        });
    }

    fn alive_until(&self) -> Boottime {
        *self.alive_until.lock().expect("nothing panics while it is held")
    }

    /// To a supervisor that was just started.
    pub(super) fn repeat_alive(&self) {
        self.outbox.send(&ToSupervisor::Alive { until: self.alive_until() });
    }

    pub(super) fn deliver(&self, message: FromSupervisor) {
        let lease = match &message {
            FromSupervisor::Pong => return self.unanswered.store(0, Ordering::Relaxed),
            FromSupervisor::Started { lease, .. }
            | FromSupervisor::Lines { lease, .. }
            | FromSupervisor::Tail { lease, .. } => *lease,
            FromSupervisor::Ended(ended) => ended.lease,
        };
        if let Some(run) = self.run(lease) {
            run.deliver(message);
        }
    }
}

async fn drive(shared: &Arc<Shared>, task: Task, run: &Arc<Run>, ended: oneshot::Receiver<Ended>) -> Report {
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
    let scratch = match take_scratch(shared, task.checkpoint.clone()).await {
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
        Some(ended) => collect(shared, ended, scratch).await,
        None => Report::failure(Reason::LostContact, true, "the link to the supervisor has ended"),
    };
    Report {
        checkpoint: report.checkpoint.or_else(|| run.last_checkpoint()),
        shell: matches!(exec.what, What::Shell(_)).then(|| shared.options.shell.to_string()),
        ..report
    }
}

async fn take_scratch(shared: &Arc<Shared>, checkpoint: Option<Vec<u8>>) -> io::Result<Scratch> {
    if let (None, Some(idle)) = (&checkpoint, shared.scratches.idle()) {
        return Ok(idle);
    }
    let shared = shared.clone();
    blocking(move || {
        let scratch = shared.scratches.idle().map_or_else(|| shared.scratches.create(), Ok)?;
        if let Some(checkpoint) = checkpoint {
            fs::write(scratch.checkpoint_file(), checkpoint)?;
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
async fn collect(shared: &Arc<Shared>, ended: Ended, scratch: Arc<Scratch>) -> Report {
    if !ended.has_files {
        give_back(shared, scratch);
        return Report::of(ended, || Ok(Written::default()));
    }
    let files = scratch.clone();
    let collected = blocking(move || {
        let report = Report::of(ended, || files.written());
        Report { checkpoint: files.checkpoint(), ..report }
    });
    let report = collected.await;
    clean(shared, scratch).await;
    report.unwrap_or_else(|error| Report::failure(Reason::LostContact, true, error.to_string()))
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
            tracing::warn!(directory = %scratch.directory().display(), %error, "scratch directory not emptied")
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
    let mut env = shared.base_env.clone();
    env.extend(exec.env.clone());
    env.extend(own_variables(shared, task, scratch));
    Start {
        lease: task.lease.0,
        argv: match &exec.what {
            What::Argv(argv) => argv.clone(),
            What::Shell(line) => shared.options.shell.argv(line),
        },
        path: env.get("PATH").cloned().unwrap_or_default(),
        env: env.into_iter().map(|(name, value)| format!("{name}={value}")).collect(),
        cwd: exec.cwd.clone(),
        scratch: scratch.directory().to_owned(),
        stdin_file: exec.stdin_file.clone(),
        timeout_ms: exec.timeout.map(|limit| limit.as_millis() as u64),
        grace_ms: shared.options.grace_ms,
        max_ram_mb: exec.max_ram_mb,
        keep_output: task.keep_output,
        until,
    }
}

/// Last, so that no job can pass for another.
fn own_variables(shared: &Shared, task: &Task, scratch: &Scratch) -> [(String, String); 9] {
    let path = |path: &Path| path.to_string_lossy().into_owned();
    [
        ("RAFTQ_SERVER", task.server.clone()),
        ("RAFTQ_JOB_ID", task.job.to_string()),
        ("RAFTQ_OP", task.op.to_string()),
        ("RAFTQ_ATTEMPT", task.attempt.to_string()),
        (LEASE_VARIABLE, task.lease.to_string()),
        (MARKER_VARIABLE, shared.marker.clone()),
        ("RAFTQ_RESULT_FILE", path(&scratch.result_file())),
        ("RAFTQ_JOBS_FILE", path(&scratch.jobs_file())),
        ("RAFTQ_CHECKPOINT_FILE", path(&scratch.checkpoint_file())),
    ]
    .map(|(name, value)| (name.to_owned(), value))
}

/// What a command gets of this process's environment: nothing that could change between nodes by accident.
fn base_env() -> BTreeMap<String, String> {
    let inherited = |name: &str, otherwise: &str| {
        let value = std::env::var_os(name).as_deref().and_then(OsStr::to_str).unwrap_or(otherwise).to_owned();
        (name.to_owned(), value)
    };
    [inherited("PATH", PATH_DEFAULT), inherited("HOME", "/"), inherited("LANG", "C.UTF-8")].into()
}

/// File work on a thread that may wait. Fails only when the runtime is ending.
fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> impl Future<Output = io::Result<T>> {
    let task = spawn_blocking(work);
    async { task.await.map_err(io::Error::other) }
}
