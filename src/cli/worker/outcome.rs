//! From what the worker room reports to what the API is told.

use serde_json::value::RawValue;

use crate::{
    api::{LeaseItem, WorkerRef},
    worker::{Reason, Report, Updates, told},
};

/// What has been told since the last time; nothing is a plain touch.
pub fn touch(updates: Updates, number: u64) -> LeaseItem {
    told::touch(updates, number).into()
}

/// How the attempt ended, with the lines that no touch has brought yet, and the jobs that its command left as they are.
pub fn finish(report: &Report, rest: Updates, number: u64) -> LeaseItem {
    let jobs = report.jobs.iter().filter_map(|text| child(text)).collect();
    LeaseItem { jobs, ..told::finish(report, rest, number, Vec::new()).into() }
}

/// A line that is no JSON goes as a string, which is no spec either: so it is refused in its place, as by the pool.
fn child(line: &str) -> Option<Box<RawValue>> {
    let string = || serde_json::value::to_raw_value(line).ok();
    RawValue::from_string(line.to_owned()).ok().or_else(string)
}

/// In place of a finish that the queue refuses: the job must not be run again and again for it.
pub fn refused_finish(message: &str) -> LeaseItem {
    LeaseItem {
        verb: "finish".into(),
        outcome: Some("failure".into()),
        fail_reason: Some(Reason::InvalidExit.as_str().into()),
        retryable: Some(false),
        error: Some(format!("what the command left was refused: {message}").into()),
        ..LeaseItem::default()
    }
}

/// The worker is awake, and runs what it was granted.
pub fn start(me: &WorkerRef) -> LeaseItem {
    LeaseItem { verb: "start".into(), host: Some(me.host.clone()), pid: Some(me.pid), ..LeaseItem::default() }
}

/// Which process runs under a lease that has been started.
pub fn process(pid: u32) -> LeaseItem {
    LeaseItem { verb: "start".into(), pid: Some(pid), ..LeaseItem::default() }
}

pub fn release() -> LeaseItem {
    LeaseItem { verb: "release".into(), reason: Some(Reason::Interrupted.as_str().into()), ..LeaseItem::default() }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::worker::Progress;

    #[test]
    fn touch_carries_lines_dropped_ones_and_progress() {
        let progress = Some(Progress { fraction: 0.5, text: "half".into() });
        let updates = Updates { log: vec!["b".into()], dropped: 2, progress, checkpoint: Some(b"c".to_vec()) };
        let item = serde_json::to_value(touch(updates, 7)).expect("items encode");
        assert_eq!(
            item,
            json!({ "job": 0, "lease": 0, "do": "touch", "log_seq": 7, "progress": { "fraction": 0.5, "text": "half" },
                    "checkpoint": "c",
                    "log": [{ "type": "message", "text": "... 2 lines dropped ..." }, { "type": "message", "text": "b" }] })
        );
    }
}
