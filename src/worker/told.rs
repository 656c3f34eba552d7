//! What a holder tells the queue of its runs, pool and remote worker alike: touches while they run, and the finish when they
//! are over; and what it tells a command of what came before it.

use std::sync::Arc;

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use serde_json::value::RawValue;

use super::{
    reason::Reason,
    report::{Outcome, Report},
    run::Updates,
};
use crate::queue::{
    command::{self, LeaseAction},
    job::{Json, Spec},
    refusal::Refusal,
};

/// The type under which a command's own lines stand in the job's log.
const LOG_MESSAGE: &str = "message";

/// What has been told since the last time, as a touch.
pub fn touch(updates: Updates, number: u64) -> LeaseAction {
    let checkpoint = updates.checkpoint.as_deref().map(checkpoint_to_json);
    let progress = updates.progress.as_ref().map(|progress| {
        Json(serde_json::json!({"fraction": progress.fraction, "text": progress.text}).to_string().into())
    });
    LeaseAction::Touch { log: lines(updates), log_seq: Some(number), progress, checkpoint }
}

/// The specs that a command left ([`Report::jobs`]), read by whoever knows how; or why one is none.
pub type Children = Vec<Result<Arc<Spec>, Refusal>>;

/// How the attempt ended, with the lines that no touch has brought yet.
pub fn finish(report: &Report, rest: Updates, number: u64, jobs: Children) -> LeaseAction {
    let told = Box::new(command::Report {
        exit_code: report.exit_code,
        error: report.error.as_deref().map(Into::into),
        stdout: said(&report.stdout),
        stderr: said(&report.stderr),
        wall_ms: Some(report.wall_ms),
        cpu_ms: Some(report.cpu_ms),
        peak_ram_mb: Some(report.peak_ram_mb),
        shell: report.shell.as_deref().map(Into::into),
        log: lines(rest),
        log_seq: Some(number),
    });
    match report.outcome {
        Outcome::Success => LeaseAction::Success {
            result: report.result.as_deref().map(|text| Json(text.into())),
            jobs,
            atomic_children: false,
            report: told,
        },
        Outcome::Failure(Reason::Interrupted) if !report.started => unstarted(told),
        Outcome::Failure(reason) => failure(reason, told),
    }
}

/// The claim called it started, and nothing of it ever ran: no attempt, and no loss even where a job must not run twice.
pub fn unstarted(report: Box<command::Report>) -> LeaseAction {
    let fail_reason = Reason::StartFailed.as_str().into();
    LeaseAction::Failure { fail_reason, retryable: Some(true), delay_ms: Some(0), report }
}

/// `interrupted` among them: the queue takes it as a release, which is what it is.
fn failure(reason: Reason, report: Box<command::Report>) -> LeaseAction {
    let retryable = Some(reason.is_retryable());
    LeaseAction::Failure { fail_reason: reason.as_str().into(), retryable, delay_ms: None, report }
}

fn said(text: &str) -> Option<Box<str>> {
    (!text.is_empty()).then(|| text.into())
}

fn lines(updates: Updates) -> Vec<(Box<str>, Box<str>)> {
    let dropped = (updates.dropped > 0).then(|| format!("... {} lines dropped ...", updates.dropped));
    let texts = dropped.into_iter().chain(updates.log);
    texts.map(|text| (LOG_MESSAGE.into(), text.into())).collect()
}

/// The results of the ops before one, as its command reads them: a JSON array in their order, `null` where an op left none.
/// `None` if there are no ops before it.
pub fn results(results: &[Option<Box<RawValue>>]) -> Option<String> {
    if results.is_empty() {
        return None;
    }
    Some(serde_json::to_string(results).expect("JSON texts make a JSON array"))
}

/// A checkpoint is bytes to a command and JSON to the queue: a string, or `{"base64": ...}` for what is no text.
fn checkpoint_to_json(bytes: &[u8]) -> Json {
    let value = match std::str::from_utf8(bytes) {
        Ok(text) => serde_json::Value::from(text),
        Err(_) => serde_json::json!({ "base64": BASE64.encode(bytes) }),
    };
    Json(value.to_string().into())
}

/// The other way; JSON that a remote worker left stays JSON text.
pub fn checkpoint_to_bytes(json: &str) -> Vec<u8> {
    match serde_json::from_str(json) {
        Ok(serde_json::Value::String(text)) => text.into_bytes(),
        Ok(serde_json::Value::Object(object)) => object
            .get("base64")
            .and_then(serde_json::Value::as_str)
            .and_then(|text| BASE64.decode(text).ok())
            .unwrap_or_else(|| json.as_bytes().to_vec()),
        Ok(_) | Err(_) => json.as_bytes().to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::worker::run::Progress;

    #[test]
    fn checkpoint_survives_the_way_through_json() {
        for bytes in [&b"step 3\n"[..], b"", b"\xff\x00\xfe", br#"{"base64": 3}"#] {
            assert_eq!(checkpoint_to_bytes(&checkpoint_to_json(bytes).0), bytes);
        }
        assert_eq!(checkpoint_to_bytes("[1,2]"), b"[1,2]");
    }

    #[test]
    fn results_are_an_array_with_a_place_for_each_op() {
        let json = |text: &str| Some(RawValue::from_string(text.into()).expect("JSON"));
        assert_eq!(results(&[]), None);
        assert_eq!(results(&[json("7"), None, json(r#"{"a": 1}"#)]).as_deref(), Some(r#"[7,null,{"a": 1}]"#));
    }

    #[test]
    fn touch_carries_lines_dropped_ones_and_progress() {
        let updates = Updates {
            log: vec!["b".into()],
            dropped: 2,
            progress: Some(Progress { fraction: 0.5, text: "half".into() }),
            checkpoint: None,
        };
        let LeaseAction::Touch { log, log_seq, progress, .. } = touch(updates, 7) else { panic!("a touch") };
        let texts: Vec<_> = log.iter().map(|(_, text)| &**text).collect();
        assert_eq!((texts, log_seq), (vec!["... 2 lines dropped ...", "b"], Some(7)));
        assert_eq!(&*progress.expect("given").0, r#"{"fraction":0.5,"text":"half"}"#);
    }
}
