//! From what the worker room reports to what the pool tells the queue.

use std::sync::Arc;

use crate::{
    queue::{command::LeaseAction, job::Spec, refusal::Refusal},
    worker::{Report, Updates, told},
};

/// Reads one job spec as a command wrote it; the front door's own reader, so that both accept the same.
pub type ReadSpec = fn(&[u8]) -> Result<Arc<Spec>, Refusal>;

/// How the attempt ended, with the lines that no touch has brought yet.
pub fn finish(report: &Report, rest: Updates, number: u64, read_spec: ReadSpec) -> LeaseAction {
    let jobs = report.jobs.iter().map(|text| read_spec(text.as_bytes())).collect();
    told::finish(report, rest, number, jobs)
}
