//! What was typed: the file's keys, the variables, the flags. No meaning yet; unknown names are refused here.

use std::path::{Path, PathBuf};

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

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Pool {
    pub active: Option<bool>,
    pub size: Option<u32>,
    pub queues: Option<Vec<String>>,
    pub timeout_ms: Option<u64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Raft {
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
    pub profile: Option<String>,
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
            id: variable("RAFTQ_NODE_ID").map(|text| number("RAFTQ_NODE_ID", &text)).transpose()?,
            data_dir: variable("RAFTQ_DATA_DIR").map(PathBuf::from),
            api: variable("RAFTQ_API"),
            peer: variable("RAFTQ_PEER"),
            advertise_api: variable("RAFTQ_ADVERTISE_API"),
            advertise_peer: variable("RAFTQ_ADVERTISE_PEER"),
            scratch_dir: variable("RAFTQ_SCRATCH_DIR").map(PathBuf::from),
            shell: variable("RAFTQ_SHELL"),
            profile: variable("RAFTQ_PROFILE"),
            log_level: variable("RAFTQ_LOG"),
            log_format: variable("RAFTQ_LOG_FORMAT"),
            init_if_new: variable("RAFTQ_INIT_IF_NEW").map_or(Ok(false), |text| switch("RAFTQ_INIT_IF_NEW", &text))?,
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
            profile: self.profile.or(below.profile),
            log_level: self.log_level.or(below.log_level),
            log_format: self.log_format.or(below.log_format),
            init_if_new: self.init_if_new || below.init_if_new,
        }
    }
}

fn number(name: &'static str, text: &str) -> Result<u64, ConfigError> {
    text.parse().map_err(|_| ConfigError::BadVariable { name, text: text.to_owned(), wanted: "a number" })
}

fn switch(name: &'static str, text: &str) -> Result<bool, ConfigError> {
    match text {
        "1" | "true" | "yes" => Ok(true),
        "0" | "false" | "no" => Ok(false),
        _ => Err(ConfigError::BadVariable { name, text: text.to_owned(), wanted: "true or false" }),
    }
}
