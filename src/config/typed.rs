//! What was typed: the file's keys, the variables, the flags. No meaning yet; unknown names are refused here.

use std::{
    path::{Path, PathBuf},
    str::FromStr,
};

use serde::Deserialize;

use super::ConfigError;

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct File {
    pub id: Option<u64>,
    pub data_dir: Option<PathBuf>,
    pub api: Option<String>,
    pub peer: Option<String>,
    pub advertise_api: Option<String>,
    pub advertise_peer: Option<String>,
    pub names: Option<Vec<String>>,
    pub scratch_dir: Option<PathBuf>,
    pub shell: Option<String>,
    #[serde(default)]
    pub member: Vec<Member>,
    #[serde(default)]
    pub pool: Pool,
    #[serde(default)]
    pub raft: Raft,
    #[serde(default)]
    pub log: Log,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Member {
    pub id: u64,
    pub api: String,
    pub peer: String,
}

/// In the file and over it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pool {
    pub active: Option<bool>,
    pub size: Option<u32>,
    pub queues: Option<Vec<String>>,
    pub timeout_ms: Option<u64>,
}

/// In the file and over it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Raft {
    pub profile: Option<String>,
    pub heartbeat_ms: Option<u64>,
    pub election_min_ms: Option<u64>,
    pub election_max_ms: Option<u64>,
    pub crash_hint: Option<bool>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Log {
    pub level: Option<String>,
    pub format: Option<String>,
}

/// Flags and variables, which count more than the file. `None` leaves the file's word.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Overrides {
    pub id: Option<u64>,
    pub data_dir: Option<PathBuf>,
    pub api: Option<String>,
    pub peer: Option<String>,
    pub advertise_api: Option<String>,
    pub advertise_peer: Option<String>,
    pub scratch_dir: Option<PathBuf>,
    pub shell: Option<String>,
    /// Client names, beside those that follow from the addresses.
    pub names: Option<Vec<String>>,
    pub pool: Pool,
    pub raft: Raft,
    pub log_level: Option<String>,
    pub log_format: Option<String>,
    pub init_if_new: bool,
}

impl File {
    pub(super) fn parse(path: &Path, text: &str) -> Result<Self, ConfigError> {
        toml::from_str(text).map_err(|error| ConfigError::Malformed {
            path: path.to_owned(),
            line: error.span().map_or(1, |span| line_of(text, span.start)),
            message: error.message().replace('\n', " "),
        })
    }
}

fn line_of(text: &str, offset: usize) -> usize {
    text.bytes().take(offset).filter(|byte| *byte == b'\n').count() + 1
}

impl Overrides {
    /// The variables of this process. A flag given beside them is laid over by [`Overrides::or`].
    pub fn from_environment() -> Result<Self, ConfigError> {
        Self::from_variables(|name| std::env::var(name).ok().filter(|value| !value.is_empty()))
    }

    pub(super) fn from_variables(variable: impl Fn(&str) -> Option<String>) -> Result<Self, ConfigError> {
        Ok(Self {
            id: read(&variable, "RAFTQ_NODE_ID", number)?,
            data_dir: variable("RAFTQ_DATA_DIR").map(PathBuf::from),
            api: variable("RAFTQ_API"),
            peer: variable("RAFTQ_PEER"),
            advertise_api: variable("RAFTQ_ADVERTISE_API"),
            advertise_peer: variable("RAFTQ_ADVERTISE_PEER"),
            scratch_dir: variable("RAFTQ_SCRATCH_DIR").map(PathBuf::from),
            shell: variable("RAFTQ_SHELL"),
            names: variable("RAFTQ_NAMES").map(|text| list(&text)),
            pool: Pool::from_variables(&variable)?,
            raft: Raft::from_variables(&variable)?,
            log_level: variable("RAFTQ_LOG"),
            log_format: variable("RAFTQ_LOG_FORMAT"),
            init_if_new: read(&variable, "RAFTQ_INIT_IF_NEW", switch)?.unwrap_or(false),
        })
    }

    /// `self` where it says something, `below` elsewhere.
    pub fn or(self, below: Self) -> Self {
        Self {
            id: self.id.or(below.id),
            data_dir: self.data_dir.or(below.data_dir),
            api: self.api.or(below.api),
            peer: self.peer.or(below.peer),
            advertise_api: self.advertise_api.or(below.advertise_api),
            advertise_peer: self.advertise_peer.or(below.advertise_peer),
            scratch_dir: self.scratch_dir.or(below.scratch_dir),
            shell: self.shell.or(below.shell),
            names: self.names.or(below.names),
            pool: self.pool.or(below.pool),
            raft: self.raft.or(below.raft),
            log_level: self.log_level.or(below.log_level),
            log_format: self.log_format.or(below.log_format),
            init_if_new: self.init_if_new || below.init_if_new,
        }
    }
}

impl Pool {
    fn from_variables(variable: &impl Fn(&str) -> Option<String>) -> Result<Self, ConfigError> {
        Ok(Self {
            active: read(variable, "RAFTQ_POOL_ACTIVE", switch)?,
            size: read(variable, "RAFTQ_POOL_SIZE", number)?,
            queues: variable("RAFTQ_POOL_QUEUES").map(|text| list(&text)),
            timeout_ms: read(variable, "RAFTQ_POOL_TIMEOUT_MS", number)?,
        })
    }

    pub(super) fn or(self, below: Self) -> Self {
        Self {
            active: self.active.or(below.active),
            size: self.size.or(below.size),
            queues: self.queues.or(below.queues),
            timeout_ms: self.timeout_ms.or(below.timeout_ms),
        }
    }
}

impl Raft {
    fn from_variables(variable: &impl Fn(&str) -> Option<String>) -> Result<Self, ConfigError> {
        Ok(Self {
            profile: variable("RAFTQ_PROFILE"),
            heartbeat_ms: read(variable, "RAFTQ_HEARTBEAT_MS", number)?,
            election_min_ms: read(variable, "RAFTQ_ELECTION_MIN_MS", number)?,
            election_max_ms: read(variable, "RAFTQ_ELECTION_MAX_MS", number)?,
            crash_hint: read(variable, "RAFTQ_CRASH_HINT", switch)?,
        })
    }

    pub(super) fn or(self, below: Self) -> Self {
        Self {
            profile: self.profile.or(below.profile),
            heartbeat_ms: self.heartbeat_ms.or(below.heartbeat_ms),
            election_min_ms: self.election_min_ms.or(below.election_min_ms),
            election_max_ms: self.election_max_ms.or(below.election_max_ms),
            crash_hint: self.crash_hint.or(below.crash_hint),
        }
    }
}

/// A variable with a meaning of its own; `None` where it is not set.
fn read<T>(
    variable: &impl Fn(&str) -> Option<String>,
    name: &'static str,
    meaning: fn(&'static str, &str) -> Result<T, ConfigError>,
) -> Result<Option<T>, ConfigError> {
    variable(name).map(|text| meaning(name, &text)).transpose()
}

/// Parts between commas.
fn list(text: &str) -> Vec<String> {
    text.split(',').map(|part| part.trim().to_owned()).collect()
}

fn number<T: FromStr>(name: &'static str, text: &str) -> Result<T, ConfigError> {
    text.parse().map_err(|_| ConfigError::BadVariable { name, text: text.to_owned(), wanted: "a number" })
}

fn switch(name: &'static str, text: &str) -> Result<bool, ConfigError> {
    match text {
        "1" | "true" | "yes" => Ok(true),
        "0" | "false" | "no" => Ok(false),
        _ => Err(ConfigError::BadVariable { name, text: text.to_owned(), wanted: "true or false" }),
    }
}
