//! What node and supervisor say to each other over a socket pair: messages as [`crate::codec`] writes them, each behind its
//! length. Both ends are the same binary, so nothing old is ever read. Rejected: JSON, which stood here before, and which
//! `strace` shows better: with a string for each variable of the environment it took the supervisor 19 000 instructions more
//! for a short command.

use std::ffi::c_char;
use std::path::PathBuf;
use std::ptr;

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::boottime::Boottime;
use super::reason::Reason;
use crate::codec::{self, CodecError, Format};

/// The variable by which a process is known as one that this supervisor started, whatever it did to its parents, group and session.
pub const MARKER_VARIABLE: &str = "RAFTQ_SUPERVISOR";
pub const LEASE_VARIABLE: &str = "RAFTQ_LEASE";

const LENGTH_BYTES: usize = 4;

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
    pub argv: Strings,
    /// All of it, as `NAME=value`.
    pub env: Strings,
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

/// Texts as a command gets them, each ended by a zero byte, in one piece: there are many, and most are short.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Strings(String);

impl Strings {
    /// One text of these parts. It ends at the first zero byte in them, as any string of the operating system does.
    pub fn push(&mut self, parts: &[&str]) {
        let begins = self.0.len();
        parts.iter().for_each(|part| self.0.push_str(part));
        if let Some(zero) = self.0[begins..].find('\0') {
            self.0.truncate(begins + zero);
        }
        self.0.push('\0');
    }

    /// Empty if there is none.
    pub fn first(&self) -> &str {
        self.iter().next().unwrap_or_default()
    }

    fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.split_terminator('\0')
    }

    /// As `execve` takes them: where each begins, and a null behind the last. For as long as these texts live.
    pub fn pointers(&self) -> Vec<*const c_char> {
        self.iter().map(|text| text.as_ptr().cast()).chain([ptr::null()]).collect()
    }
}

/// Writes a message behind what `into` holds.
pub fn encode(message: &impl Serialize, into: &mut Vec<u8>) {
    let begins = into.len();
    into.extend_from_slice(&[0; LENGTH_BYTES]);
    codec::encode_into(Format::SUPERVISOR, message, into);
    let length = u32::try_from(into.len() - begins - LENGTH_BYTES).expect("no message is nearly as long");
    into[begins..begins + LENGTH_BYTES].copy_from_slice(&length.to_le_bytes());
}

/// Takes the messages off the beginning of `bytes` that are there in full.
pub fn decode<T: DeserializeOwned>(bytes: &mut Vec<u8>) -> Result<Vec<T>, CodecError> {
    let mut messages = Vec::new();
    let mut taken = 0;
    while let Some(message) = first_message(&bytes[taken..]) {
        messages.push(codec::decode(Format::SUPERVISOR, message)?);
        taken += LENGTH_BYTES + message.len();
    }
    bytes.drain(..taken);
    Ok(messages)
}

fn first_message(bytes: &[u8]) -> Option<&[u8]> {
    let (length, rest) = bytes.split_first_chunk::<LENGTH_BYTES>()?;
    rest.get(..u32::from_le_bytes(*length) as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn extend(lease: u64) -> ToSupervisor {
        ToSupervisor::Extend { lease, until: Boottime::from_ms(7) }
    }

    #[test]
    fn messages_are_read_however_they_are_cut() {
        let mut written = Vec::new();
        (1..=3).for_each(|lease| encode(&extend(lease), &mut written));
        for piece in 1..written.len() {
            let (mut inbox, mut leases) = (Vec::new(), Vec::new());
            for bytes in written.chunks(piece) {
                inbox.extend_from_slice(bytes);
                let messages: Vec<ToSupervisor> = decode(&mut inbox).unwrap();
                leases.extend(messages.iter().map(|message| match message {
                    ToSupervisor::Extend { lease, .. } => *lease,
                    other => panic!("{other:?}"),
                }));
            }
            assert_eq!((leases, inbox.len()), (vec![1, 2, 3], 0), "in pieces of {piece}");
        }
    }

    #[test]
    fn nonsense_is_refused() {
        assert!(decode::<ToSupervisor>(&mut vec![2, 0, 0, 0, 1, 99]).is_err());
    }

    #[test]
    fn strings_end_at_a_zero_byte() {
        let mut strings = Strings::default();
        assert_eq!((strings.first(), strings.pointers().len()), ("", 1));
        strings.push(&["A", "=", "b\0RAFTQ_LEASE=1"]);
        strings.push(&[]);
        strings.push(&["C=d"]);
        assert_eq!(strings.iter().collect::<Vec<_>>(), ["A=b", "", "C=d"]);
        assert_eq!((strings.first(), strings.pointers().len()), ("A=b", 4));
    }
}
