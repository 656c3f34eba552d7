//! From what the worker room reports to what the pool tells the queue.

use std::sync::Arc;

use serde_json::value::RawValue;

use crate::{
    queue::{
        command::LeaseAction,
        job::{OpResult, Spec},
        refusal::Refusal,
    },
    worker::{Report, Updates, told},
};

/// Reads one job spec as a command wrote it; the front door's own reader, so that both accept the same.
pub type ReadSpec = fn(&[u8]) -> Result<Arc<Spec>, Refusal>;

/// Writes what an op has left, as the front door does: commands find it alike wherever they run.
pub type WriteResult = fn(&OpResult) -> Option<Box<RawValue>>;

/// How the attempt ended, with the lines that no touch has brought yet.
pub fn finish(report: &Report, rest: Updates, number: u64, read_spec: ReadSpec) -> LeaseAction {
    let jobs = report.jobs.iter().map(|text| read_spec(text.as_bytes())).collect();
    told::finish(report, rest, number, jobs)
}
