//! Runs jobs. Knows what a command is, and nothing of where jobs come from: the pool on the leader and the remote runner
//! (`raftq worker`) are both callers of this room.
//!
//! ```text
//!   pool, remote runner            supervisor (own process)          commands
//!        │ Task                         │                               │
//!   ┌────▼─────┐  Start, Stop, Alive ┌──▼───────────┐ vfork, exec, ┌────▼────┐
//!   │  Runner  ├────────────────────►│ one loop over│ signals      │ process │
//!   │ (tokio)  │◄────────────────────┤ epoll        │◄─────────────┤ trees   │
//!   └────┬─────┘  Started, Ended     └──────────────┘ output, exit └─────────┘
//!        │ Report
//! ```
//!
//! **Why a process of its own.** Commands must be dead before anyone else runs their jobs again, also when the node was
//! killed by SIGKILL or stopped by SIGSTOP and can do nothing itself. So the commands belong to the [`supervisor`]: a
//! child subreaper that holds one end of a socket. When the socket closes, or no proof of leadership came in time
//! ([`Runner::alive`], for a remote worker [`Runner::extend`]), it kills every tree. PR_SET_PDEATHSIG would not do: it
//! kills only the shell and not what the shell started, fires when the *thread* that spawned ends, and is cleared by setuid programs.
//!
//! **When a job is over.** When its whole tree is gone. What a command leaves behind in the background is ended (TERM,
//! grace, KILL) and reaped before the report is made, so a report means that nothing of that lease is running.
//!
//! **What this room does not do**: decide about retries, talk to the queue, or believe a clock that can jump
//! ([`Boottime`] includes suspend and never jumps).

mod attempt;
mod boottime;
mod cgroup;
mod link;
mod memory;
mod orphans;
mod output;
mod protocol;
mod reason;
mod report;
mod room;
mod run;
mod runner;
mod scratch;
mod spec;
pub mod supervisor;
pub mod told;
mod tree;

pub use boottime::Boottime;
pub use link::{Options, Supervisor};
pub use output::LOG_PREFIX;
pub use reason::Reason;
pub use report::{Outcome, Report};
pub use room::Room;
pub use run::{Progress, Tail, Updates};
pub use runner::{Cancel, Handle, Proof, Runner, StillRunning, Task};
pub use spec::{KINDS, Shell};

/// Under which a worker is shown. Linux keeps it here; without it jobs still run.
pub fn host_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    if name.trim().is_empty() { "localhost".to_owned() } else { name.trim().to_owned() }
}
