//! One run, as the node sees it: what has come of it so far, and who waits for it.

use std::sync::{Mutex, MutexGuard};

use tokio::sync::{Notify, oneshot};
use tokio_util::sync::CancellationToken;

use super::boottime::Boottime;
use super::output::LINE_BYTES;
use super::protocol::{End, Ended, FromSupervisor};
use super::reason::Reason;

/// Log lines kept for a caller that does not come for them; of more the oldest are dropped and counted.
const LOG_LINES_MAX: usize = 256;
/// Callers that wait for a live tail at the same time.
const TAIL_WAITERS_MAX: usize = 16;

/// What the command has told since it was last asked.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Updates {
    /// Oldest first.
    pub log: Vec<String>,
    /// Lines that were lost before those, being too many.
    pub dropped: u64,
    /// The latest.
    pub progress: Option<Progress>,
    /// The latest, if it changed.
    pub checkpoint: Option<Vec<u8>>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Progress {
    /// From 0 to 1.
    pub fraction: f64,
    pub text: String,
}

impl Updates {
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Whether there is something that only a touch can tell, and not the end of an attempt.
    pub fn wants_touch(&self) -> bool {
        self.progress.is_some() || self.checkpoint.is_some()
    }

    fn take_line(&mut self, line: &str) {
        match line.split_once(' ').unwrap_or((line, "")) {
            ("log", text) => self.log.push(text.to_owned()),
            ("progress", rest) => self.progress = parse_progress(rest).or(self.progress.take()),
            // Of a later version, or a mistake: it stands in the output.
            _ => {}
        }
        let surplus = self.log.len().saturating_sub(LOG_LINES_MAX);
        self.log.drain(..surplus);
        self.dropped += surplus as u64;
    }
}

fn parse_progress(text: &str) -> Option<Progress> {
    let (fraction, text) = text.split_once(' ').unwrap_or((text, ""));
    let fraction: f64 = fraction.parse().ok()?;
    let text: String = text.chars().take(LINE_BYTES / 4).collect();
    (0.0..=1.0).contains(&fraction).then_some(Progress { fraction, text })
}

/// The last of both streams while the command runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tail {
    pub stdout: String,
    pub stderr: String,
}

pub struct Run {
    state: Mutex<State>,
    /// There are updates.
    pub changed: Notify,
    /// It has a process.
    pub started: Notify,
    /// Asked to stop before a process was asked for; sleeps have none at all.
    pub stopped: CancellationToken,
}

struct State {
    /// Whether the supervisor has been asked to start it, and so must be asked to stop it.
    is_sent: bool,
    stop_reason: Option<Reason>,
    pid: Option<i32>,
    until: Option<Boottime>,
    updates: Updates,
    last_checkpoint: Option<Vec<u8>>,
    ended: Option<oneshot::Sender<Ended>>,
    tails: Vec<oneshot::Sender<Tail>>,
}

impl Run {
    pub fn new(until: Option<Boottime>, checkpoint: Option<Vec<u8>>, ended: oneshot::Sender<Ended>) -> Self {
        let state = State {
            is_sent: false,
            stop_reason: None,
            pid: None,
            until,
            updates: Updates::default(),
            last_checkpoint: checkpoint,
            ended: Some(ended),
            tails: Vec::new(),
        };
        Self {
            state: Mutex::new(state),
            changed: Notify::new(),
            started: Notify::new(),
            stopped: CancellationToken::new(),
        }
    }

    /// A std mutex: held for a few instructions, never over an await.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nothing panics while it is held")
    }

    /// `send` asks the supervisor to start it, unless it has been stopped already. One step: a stop comes before or after.
    pub fn start(&self, send: impl FnOnce(Option<Boottime>) -> bool) -> Result<(), Option<Reason>> {
        let mut state = self.state();
        if state.stop_reason.is_some() {
            return Err(state.stop_reason);
        }
        state.is_sent = send(state.until);
        if state.is_sent { Ok(()) } else { Err(None) }
    }

    /// `send` tells the supervisor, if it knows of this run.
    pub fn stop(&self, reason: Reason, send: impl FnOnce()) {
        let mut state = self.state();
        state.stop_reason.get_or_insert(reason);
        if state.is_sent {
            send();
        }
        self.stopped.cancel();
    }

    pub fn stop_reason(&self) -> Option<Reason> {
        self.state().stop_reason
    }

    pub fn pid(&self) -> Option<i32> {
        self.state().pid
    }

    pub fn until(&self) -> Option<Boottime> {
        self.state().until
    }

    pub fn extend(&self, until: Boottime) {
        let mut state = self.state();
        state.until = state.until.max(Some(until));
    }

    pub fn take_updates(&self) -> Updates {
        std::mem::take(&mut self.state().updates)
    }

    pub fn checkpoint_read(&self, checkpoint: Vec<u8>) {
        let mut state = self.state();
        if state.last_checkpoint.as_ref() != Some(&checkpoint) {
            state.last_checkpoint = Some(checkpoint.clone());
            state.updates.checkpoint = Some(checkpoint);
            self.changed.notify_one();
        }
    }

    /// `None` if too many wait already, or no process has been asked for.
    pub fn wait_for_tail(&self) -> Option<oneshot::Receiver<Tail>> {
        let mut state = self.state();
        state.tails.retain(|waiter| !waiter.is_closed());
        if state.tails.len() >= TAIL_WAITERS_MAX || !state.is_sent {
            return None;
        }
        let (waiter, tail) = oneshot::channel();
        state.tails.push(waiter);
        Some(tail)
    }

    pub fn deliver(&self, message: FromSupervisor) {
        match message {
            FromSupervisor::Pong => {}
            FromSupervisor::Started { pid, .. } => {
                self.state().pid = Some(pid);
                self.started.notify_one();
            }
            FromSupervisor::Lines { lines, dropped, .. } => self.take_lines(&lines, dropped),
            FromSupervisor::Tail { stdout, stderr, .. } => {
                for waiter in std::mem::take(&mut self.state().tails) {
                    let _may_have_gone = waiter.send(Tail { stdout: stdout.clone(), stderr: stderr.clone() });
                }
            }
            FromSupervisor::Ended(ended) => {
                if let Some(waiter) = self.state().ended.take() {
                    let _may_have_gone = waiter.send(*ended);
                }
            }
        }
    }

    fn take_lines(&self, lines: &[String], dropped: u64) {
        let mut state = self.state();
        state.updates.dropped += dropped;
        lines.iter().for_each(|line| state.updates.take_line(line));
        self.changed.notify_one();
    }

    /// The supervisor has died. What it had not been asked for yet is not concerned.
    pub fn supervisor_lost(&self, lease: u64, reason: Reason) {
        let pid = {
            let state = self.state();
            if !state.is_sent {
                return;
            }
            state.pid
        };
        self.deliver(FromSupervisor::Ended(Box::new(Ended {
            lease,
            end: End::Lost,
            stopped: Some(reason),
            note: None,
            pid,
            has_files: true,
            stdout: String::new(),
            stderr: String::new(),
            wall_ms: 0,
            cpu_ms: 0,
            peak_ram_mb: 0,
        })));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn updates_keep_the_newest_lines_and_the_latest_progress() {
        let mut updates = Updates::default();
        for line in ["progress 0.4 half way", "progress 7", "progress x", "log a b", "unknown", "log"] {
            updates.take_line(line);
        }
        assert_eq!(updates.progress, Some(Progress { fraction: 0.4, text: "half way".into() }));
        assert_eq!(updates.log, ["a b", ""]);
        (0..LOG_LINES_MAX).for_each(|number| updates.take_line(&format!("log {number}")));
        assert_eq!((updates.dropped, updates.log.len(), updates.log[0].as_str()), (2, LOG_LINES_MAX, "0"));
    }
}
