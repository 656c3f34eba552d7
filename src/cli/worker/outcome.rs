//! From what the worker room reports to what the API is told.

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use serde_json::{Value, json, value::RawValue};

use crate::{
    api::{LeaseItem, LogEntry, WorkerRef},
    worker::{Outcome, Reason, Report, Updates},
};

/// The type under which a command's own lines stand in the job's log.
const LOG_MESSAGE: &str = "message";

/// What has been told since the last time; nothing is a plain touch.
pub fn touch(updates: Updates, number: u64) -> LeaseItem {
    let progress = updates.progress.as_ref();
    LeaseItem {
        verb: "touch".into(),
        progress: progress.and_then(|told| raw(json!({ "fraction": told.fraction, "text": told.text }))),
        checkpoint: updates.checkpoint.as_deref().and_then(|bytes| raw(checkpoint_to_json(bytes))),
        log_seq: Some(number),
        log: lines(updates),
        ..LeaseItem::default()
    }
}

/// How the attempt ended, with the lines that no touch has brought yet. What was only interrupted is released.
pub fn finish(report: &Report, rest: Updates, number: u64) -> LeaseItem {
    match report.outcome {
        Outcome::Success => LeaseItem {
            outcome: Some("success".into()),
            result: report.result.clone().and_then(|text| RawValue::from_string(text).ok()),
            jobs: report.jobs.iter().filter_map(|text| child(text)).collect(),
            ..finished(report, rest, number)
        },
        Outcome::Failure(Reason::Interrupted) => release(),
        Outcome::Failure(reason) => LeaseItem {
            outcome: Some("failure".into()),
            fail_reason: Some(reason.as_str().into()),
            retryable: Some(reason.is_retryable()),
            ..finished(report, rest, number)
        },
    }
}

/// A line that is no JSON goes as a string, which is no spec either: so it is refused in its place, as by the pool.
fn child(line: &str) -> Option<Box<RawValue>> {
    RawValue::from_string(line.to_owned()).ok().or_else(|| raw(line.into()))
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

pub fn release() -> LeaseItem {
    LeaseItem { verb: "release".into(), reason: Some(Reason::Interrupted.as_str().into()), ..LeaseItem::default() }
}

fn finished(report: &Report, rest: Updates, number: u64) -> LeaseItem {
    LeaseItem {
        verb: "finish".into(),
        exit_code: report.exit_code,
        error: report.error.as_deref().map(Into::into),
        stdout: said(&report.stdout),
        stderr: said(&report.stderr),
        wall_ms: Some(report.wall_ms),
        cpu_ms: Some(report.cpu_ms),
        peak_ram_mb: Some(report.peak_ram_mb),
        shell: report.shell.as_deref().map(Into::into),
        log_seq: Some(number),
        log: lines(rest),
        ..LeaseItem::default()
    }
}

fn said(text: &str) -> Option<Box<str>> {
    (!text.is_empty()).then(|| text.into())
}

fn lines(updates: Updates) -> Vec<LogEntry> {
    let dropped = (updates.dropped > 0).then(|| format!("... {} lines dropped ...", updates.dropped));
    let texts = dropped.into_iter().chain(updates.log);
    texts.map(|text| LogEntry { kind: LOG_MESSAGE.into(), text: text.into() }).collect()
}

fn raw(value: Value) -> Option<Box<RawValue>> {
    serde_json::value::to_raw_value(&value).ok()
}

/// A checkpoint is bytes to a command and JSON to the queue: a string, or `{"base64": ...}` for what is no text. The pool
/// does the same, so that either can go on where the other stopped.
fn checkpoint_to_json(bytes: &[u8]) -> Value {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.into(),
        Err(_) => json!({ "base64": BASE64.encode(bytes) }),
    }
}

/// The other way; other JSON stays JSON text.
pub fn checkpoint_to_bytes(json: &RawValue) -> Vec<u8> {
    match serde_json::from_str(json.get()) {
        Ok(Value::String(text)) => text.into_bytes(),
        Ok(Value::Object(object)) => object
            .get("base64")
            .and_then(Value::as_str)
            .and_then(|text| BASE64.decode(text).ok())
            .unwrap_or_else(|| json.get().as_bytes().to_vec()),
        Ok(_) | Err(_) => json.get().as_bytes().to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::worker::Progress;

    #[test]
    fn checkpoint_survives_the_way_through_json() {
        for bytes in [&b"step 3\n"[..], b"", b"\xff\x00\xfe", br#"{"base64": 3}"#] {
            let json = raw(checkpoint_to_json(bytes)).expect("JSON");
            assert_eq!(checkpoint_to_bytes(&json), bytes);
        }
    }

    #[test]
    fn touch_carries_lines_dropped_ones_and_progress() {
        let progress = Some(Progress { fraction: 0.5, text: "half".into() });
        let updates = Updates { log: vec!["b".into()], dropped: 2, progress, checkpoint: None };
        let item = serde_json::to_value(touch(updates, 7)).expect("items encode");
        assert_eq!(
            item,
            json!({ "job": 0, "lease": 0, "do": "touch", "log_seq": 7, "progress": { "fraction": 0.5, "text": "half" },
                    "log": [{ "type": "message", "text": "... 2 lines dropped ..." }, { "type": "message", "text": "b" }] })
        );
    }
}
