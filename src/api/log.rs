//! A line of a job's log.

use serde::{Deserialize, Serialize};

use crate::queue::{ids::WallMs, job::LogLine};

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogDoc {
    /// Counts over the whole job, from 1.
    pub serial: u64,
    pub op: u32,
    pub at: WallMs,
    #[serde(rename = "type")]
    pub kind: Box<str>,
    pub text: Box<str>,
}

impl From<(u64, LogLine)> for LogDoc {
    fn from((serial, line): (u64, LogLine)) -> Self {
        Self { serial, op: line.op, at: line.at, kind: line.kind, text: line.text }
    }
}
