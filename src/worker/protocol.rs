//! What node and supervisor say to each other: JSON, one message a line, over a socket pair. Text, because both ends are
//! the same binary, the messages are few and small, and `strace` shows what was said.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::boottime::Boottime;
use super::reason::Reason;

/// The variable by which a process is known as one that this supervisor started, whatever it did to its parents, group and session.
pub const MARKER_VARIABLE: &str = "RAFTQ_SUPERVISOR";
pub const LEASE_VARIABLE: &str = "RAFTQ_LEASE";

#[derive(Debug, Serialize, Deserialize)]
pub enum ToSupervisor {
    Start(Box<Start>),
    /// TERM now and KILL after the grace; a grace of 0 kills at once. The first reason that is given stands.
    Stop {
        lease: u64,
        reason: Reason,
        grace_ms: u64,
    },
    StopAll {
        reason: Reason,
        grace_ms: u64,
    },
    /// Commands that need leadership may run until then.
    Alive {
        until: Boottime,
    },
    /// This command may run until then.
    Extend {
        lease: u64,
        until: Boottime,
    },
    Tail {
        lease: u64,
    },
    /// To be answered, to show that the loop turns.
    Ping,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct Start {
    pub lease: u64,
    pub argv: Vec<String>,
    /// All of it, as `NAME=value`.
    pub env: Vec<String>,
    /// The PATH in which `argv[0]` is looked for.
    pub path: String,
    pub cwd: PathBuf,
    /// The directory of its files: whether there are any is told with its end.
    pub scratch: PathBuf,
    pub stdin_file: Option<PathBuf>,
    pub timeout_ms: Option<u64>,
    /// Between TERM and KILL after a time-out, and for what the command leaves behind.
    pub grace_ms: u64,
    pub max_ram_mb: Option<u64>,
    /// What it was packed by: who is most over this goes first when the machine runs short.
    pub needs_ram_mb: u64,
    pub keep_output: bool,
    /// `None`: as long as `Alive` says.
    pub until: Option<Boottime>,
}

#[derive(Debug, Serialize, Deserialize)]
pub enum FromSupervisor {
    Pong,
    Started {
        lease: u64,
        pid: i32,
    },
    /// Lines that the command addressed to raftq, without their prefix; `dropped` were too many.
    Lines {
        lease: u64,
        lines: Vec<String>,
        dropped: u64,
    },
    Tail {
        lease: u64,
        stdout: String,
        stderr: String,
    },
    Ended(Box<Ended>),
}

/// The tree of this lease is gone.
#[derive(Debug, Serialize, Deserialize)]
pub struct Ended {
    pub lease: u64,
    pub end: End,
    /// Set if it was stopped; then `end` says only how it went.
    pub stopped: Option<Reason>,
    /// Why it was stopped, where the reason alone does not say.
    pub note: Option<String>,
    pub pid: Option<i32>,
    pub has_files: bool,
    pub stdout: String,
    pub stderr: String,
    pub wall_ms: u64,
    pub cpu_ms: u64,
    pub peak_ram_mb: u64,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum End {
    Exited(i32),
    Signaled(i32),
    /// No process came to be.
    Refused {
        reason: Reason,
        error: String,
    },
    /// Made by the node: the supervisor died, so nobody saw it end, or even start.
    Lost,
}

pub fn encode(message: &impl Serialize, into: &mut Vec<u8>) {
    serde_json::to_writer(&mut *into, message).expect("messages have string keys, and a vector takes everything");
    into.push(b'\n');
}
