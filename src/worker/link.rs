//! The node's end of the supervisor: starting it, talking to it, and, should it die, burying it and starting another.

use std::collections::HashSet;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::Notify;
use tokio::time::MissedTickBehavior;

use super::memory::MEMINFO;
use super::orphans::{adopt_orphans_of_supervisors, bury};
use super::protocol::{ToSupervisor, decode, encode};
use super::reason::Reason;
use super::runner::Shared;
use super::scratch;
use super::spec::Shell;
use super::supervisor::ARGUMENT;

/// More than this unread means that the supervisor does not read: what is new is refused.
const OUTBOX_BYTES: usize = 32 * 1024 * 1024;
const INBOX_BYTES: usize = 64 * 1024;
/// One that closed its socket is about to end.
const CRASH_PATIENCE: Duration = Duration::from_secs(1);
/// Beyond the grace of the commands, when the node has closed the socket.
const STOP_PATIENCE: Duration = Duration::from_secs(5);
const PING_EVERY: Duration = Duration::from_millis(500);
/// Ten seconds in all: a machine that is merely busy does not take so long.
const UNANSWERED_MAX: u32 = 20;
const RESTART_WAIT_MIN: Duration = Duration::from_millis(50);
const RESTART_WAIT_MAX: Duration = Duration::from_secs(5);
/// Having lived so long, its end is no sign of a next one.
const HEALTHY_AFTER: Duration = Duration::from_secs(10);

#[derive(Clone, Debug)]
pub struct Options {
    /// The raftq binary, whose `main` calls [`super::supervisor::run_if_asked`] first.
    pub program: PathBuf,
    /// For the files of attempts; made if it is not there. No other node may use it.
    pub scratch: PathBuf,
    pub shell: Shell,
    /// From TERM to KILL for time-outs, cancellations, and what commands leave behind.
    pub grace_ms: u64,
    /// From TERM to KILL when the right to run is lost. With it all must be gone before the new leader starts them again.
    pub loss_grace_ms: u64,
    /// Where the machine says how much memory it has and how much of it is available.
    pub meminfo: PathBuf,
}

impl Options {
    pub fn new(scratch: impl Into<PathBuf>) -> Self {
        Self {
            // The file this process was started from, also after it was replaced on disk.
            program: "/proc/self/exe".into(),
            scratch: scratch.into(),
            shell: Shell::installed(),
            grace_ms: 5000,
            loss_grace_ms: 500,
            meminfo: MEMINFO.into(),
        }
    }
}

/// The process that owns the commands, from outside. Start it before any thread, so that it inherits as little as can be;
/// then give it to a [`super::Runner`]. Dropping it ends it.
pub struct Supervisor {
    pub(super) options: Options,
    pub(super) marker: String,
    process: Child,
    socket: StdUnixStream,
}

impl Supervisor {
    pub fn start(mut options: Options) -> io::Result<Self> {
        // The supervisor and its commands are told of it, and have working directories of their own.
        options.scratch = std::path::absolute(&options.scratch)?;
        scratch::prepare(&options.scratch)?;
        adopt_orphans_of_supervisors()?;
        let marker = format!("{}-{:016x}", std::process::id(), rand::random::<u64>());
        Self::spawn(options, marker)
    }

    fn spawn(options: Options, marker: String) -> io::Result<Self> {
        let (socket, theirs) = StdUnixStream::pair()?;
        let process = Command::new(&options.program)
            .arg0("raftq")
            .args([ARGUMENT, &marker, &options.loss_grace_ms.to_string()])
            .arg(&options.meminfo)
            .current_dir("/")
            .stdin(OwnedFd::from(theirs))
            .stdout(Stdio::null())
            .spawn()?;
        socket.set_nonblocking(true)?;
        Ok(Self { options, marker, process, socket })
    }

    pub fn pid(&self) -> u32 {
        self.process.id()
    }
}

/// Messages on their way. What is sent while others are being written goes out with the next write.
pub(super) struct Outbox {
    state: Mutex<OutboxState>,
    filled: Notify,
}

struct OutboxState {
    bytes: Vec<u8>,
    is_connected: bool,
}

impl Outbox {
    pub(super) fn new() -> Self {
        Self { state: Mutex::new(OutboxState { bytes: Vec::new(), is_connected: true }), filled: Notify::new() }
    }

    /// False if there is no supervisor to take it.
    pub(super) fn send(&self, message: &ToSupervisor) -> bool {
        let mut state = self.state.lock().expect("nothing panics while it is held");
        if !state.is_connected || state.bytes.len() > OUTBOX_BYTES {
            return false;
        }
        encode(message, &mut state.bytes);
        self.filled.notify_one();
        true
    }

    fn set_connected(&self, is_connected: bool) {
        let bytes = Vec::new();
        *self.state.lock().expect("nothing panics while it is held") = OutboxState { bytes, is_connected };
    }

    async fn filled(&self) {
        while self.state.lock().expect("nothing panics while it is held").bytes.is_empty() {
            self.filled.notified().await;
        }
    }

    fn take(&self) -> Vec<u8> {
        std::mem::take(&mut self.state.lock().expect("nothing panics while it is held").bytes)
    }
}

/// Lives as long as the runner: there is a supervisor, or soon another one.
pub(super) async fn keep(shared: Arc<Shared>, mut supervisor: Supervisor) {
    let mut wait = RESTART_WAIT_MIN;
    loop {
        let started = Instant::now();
        tracing::info!(pid = supervisor.pid(), "supervisor started");
        converse(&shared, supervisor.socket).await;
        shared.outbox.set_connected(false);
        lose(&shared, supervisor.process).await;
        if shared.shutdown.is_cancelled() {
            return;
        }
        wait = if started.elapsed() > HEALTHY_AFTER { RESTART_WAIT_MIN } else { (wait * 2).min(RESTART_WAIT_MAX) };
        let Some(next) = restart(&shared, wait).await else { return };
        supervisor = next;
        shared.outbox.set_connected(true);
        shared.repeat_alive();
    }
}

/// Returns when either side has ended.
async fn converse(shared: &Shared, socket: StdUnixStream) {
    let (reader, writer) = match UnixStream::from_std(socket) {
        Ok(socket) => socket.into_split(),
        Err(error) => return tracing::error!(%error, "supervisor unreachable"),
    };
    tokio::select! {
        () = receive(shared, reader) => {}
        error = send(shared, writer) => tracing::warn!(%error, "supervisor unreachable"),
        () = until_silent(shared) => tracing::error!("supervisor does not answer, and is replaced"),
        () = shared.shutdown.cancelled() => {}
    }
}

async fn receive(shared: &Shared, mut reader: OwnedReadHalf) {
    let mut inbox = Vec::with_capacity(INBOX_BYTES);
    loop {
        match reader.read_buf(&mut inbox).await {
            Ok(1..) => {}
            Ok(0) => return,
            Err(error) => return tracing::warn!(%error, "supervisor unreachable"),
        }
        match decode(&mut inbox) {
            Ok(messages) => messages.into_iter().for_each(|message| shared.deliver(message)),
            Err(error) => return tracing::warn!(%error, "supervisor not understood"),
        }
    }
}

async fn send(shared: &Shared, mut writer: OwnedWriteHalf) -> io::Error {
    loop {
        shared.outbox.filled().await;
        // Whoever else has something to send by now: one claim starts many commands.
        tokio::task::yield_now().await;
        let bytes = shared.outbox.take();
        if let Err(error) = writer.write_all(&bytes).await {
            return error;
        }
    }
}

/// Returns when the loop of the supervisor turns no more: it was stopped, or waits for a dead file system. Counts pings and
/// not time, so that a node that was stopped itself does not blame the supervisor for it.
async fn until_silent(shared: &Shared) {
    shared.unanswered.store(0, Ordering::Relaxed);
    let mut pings = tokio::time::interval(PING_EVERY);
    pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while shared.unanswered.fetch_add(1, Ordering::Relaxed) < UNANSWERED_MAX {
        shared.outbox.send(&ToSupervisor::Ping);
        pings.tick().await;
    }
}

/// Waits until the supervisor and all it started are gone, and ends the runs it had with that.
async fn lose(shared: &Arc<Shared>, process: Child) {
    let (patience, reason) = match shared.shutdown.is_cancelled() {
        true => (STOP_PATIENCE + Duration::from_millis(shared.options.loss_grace_ms), Reason::Interrupted),
        // Not `interrupted`, which would be released without being counted: a command that kills its supervisor each
        // time must come to its end.
        false => (CRASH_PATIENCE, Reason::LostContact),
    };
    let groups: HashSet<i32> = shared.runs().iter().filter_map(|(_, run)| run.pid()).collect();
    let marker = shared.marker.clone();
    let buried = tokio::task::spawn_blocking(move || bury(process, patience, &marker, groups)).await;
    match buried {
        Ok(Ok(())) => tracing::info!("supervisor ended"),
        Ok(Err(error)) => tracing::error!(%error, "supervisor not buried"),
        Err(error) => tracing::error!(%error, "supervisor not buried"),
    }
    for (lease, run) in shared.runs() {
        run.supervisor_lost(lease, reason);
    }
}

/// `None` if the runner is stopped meanwhile.
async fn restart(shared: &Arc<Shared>, mut wait: Duration) -> Option<Supervisor> {
    loop {
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = shared.shutdown.cancelled() => return None,
        }
        match Supervisor::spawn(shared.options.clone(), shared.marker.clone()) {
            Ok(supervisor) => return Some(supervisor),
            Err(error) => tracing::error!(%error, "supervisor not started"),
        }
        wait = (wait * 2).min(RESTART_WAIT_MAX);
    }
}
