//! The door of this room: gives tasks to the supervisor, and reports back.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::attempt::{base_env, blocking, drive};
use super::boottime::Boottime;
use super::link::{Options, Outbox, Supervisor, keep};
use super::protocol::{FromSupervisor, ToSupervisor};
use super::reason::Reason;
use super::report::Report;
use super::room::Room;
use super::run::{Run, Tail, Updates};
use super::scratch::{Scratches, remove_all};
use crate::queue::ids::{JobId, LeaseId};

const TAIL_PATIENCE: Duration = Duration::from_secs(2);
/// What processes that wait in the kernel may take beyond their grace.
const KILL_PATIENCE: Duration = Duration::from_secs(10);

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
    /// What it inherits of its submitter's environment: a JSON object of strings, below its own `env`.
    pub environment: Option<String>,
    /// What the command finds in `RAFTQ_SERVER`.
    pub server: String,
    /// Of the attempt before.
    pub checkpoint: Option<Vec<u8>>,
    /// Of the ops before this one, as [`super::told::results`] writes them; `None` for the first op.
    pub results: Option<String>,
    pub keep_output: bool,
    /// What counts as its need of memory. Nothing is killed for exceeding it as long as the machine has enough.
    pub needs_ram_mb: u64,
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
    pub(super) scratches: Scratches,
    pub(super) base_env: BTreeMap<String, String>,
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

    /// What this machine has to give.
    pub fn machine(&self) -> Room {
        Room::of_machine(&self.shared.options.scratch)
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

    /// Waits until there is one; for ever where there never is. Ready once, cancel-safe, for one waiter.
    pub async fn started(&self) {
        self.run.started.notified().await;
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

    pub(super) fn alive_until(&self) -> Boottime {
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
