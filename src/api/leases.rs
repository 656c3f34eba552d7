//! Calls under a lease: start, touch, finish, release, bury, many in one request.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{
    claim::{ClaimRequest, ClaimedJob},
    error::ErrorBody,
    object,
    raw::{raw_value, take_in},
    submit::decode_spec,
};
use crate::queue::{
    applied::LeaseState,
    command::{self, LeaseAction, Report},
    ids::{JobId, LeaseId},
    job::{CancelSignal, Json},
    refusal::Refusal,
};

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LeasesRequest {
    #[serde(default, deserialize_with = "object::list")]
    pub items: Vec<LeaseItem>,
    /// Done in the same entry, after the items: finish and take the next.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "object::optional")]
    pub claim: Option<ClaimRequest>,
}

/// One call. Flat, because serde's tagged enums would copy every value first; which field goes with which verb is checked in
/// [`LeaseItem::into_queue`].
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LeaseItem {
    pub job: JobId,
    pub lease: LeaseId,
    /// `start`, `touch`, `finish`, `release`, `bury`.
    #[serde(rename = "do")]
    pub verb: Box<str>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<Box<str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid: Option<u32>,
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "object::list")]
    pub log: Vec<LogEntry>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log_seq: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<Box<RawValue>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checkpoint: Option<Box<RawValue>>,
    /// The last of what the command has written so far: shown by the leader while it runs, not replicated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<OutputTail>,
    /// `success` or `failure`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<Box<str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<Box<RawValue>>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub jobs: Vec<Box<RawValue>>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub atomic_children: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fail_reason: Option<Box<str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retryable: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delay_ms: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<Box<str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stdout: Option<Box<str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stderr: Option<Box<str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wall_ms: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_ms: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peak_ram_mb: Option<u64>,
    /// The shell that ran the command, where one did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shell: Option<Box<str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Box<str>>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogEntry {
    #[serde(rename = "type", default = "message")]
    pub kind: Box<str>,
    pub text: Box<str>,
}

/// The type of a log line that names none.
fn message() -> Box<str> {
    "message".into()
}

/// As [`LeaseItem::into_queue`] reads it, but for `jobs`: specs stand there as their writer left them.
impl From<LeaseAction> for LeaseItem {
    fn from(action: LeaseAction) -> Self {
        match action {
            LeaseAction::Start { host, pid } => Self { verb: "start".into(), host, pid, ..Self::default() },
            LeaseAction::Touch { log, log_seq, progress, checkpoint } => Self {
                verb: "touch".into(),
                log: entries(log),
                log_seq,
                progress: progress.as_ref().and_then(raw_value),
                checkpoint: checkpoint.as_ref().and_then(raw_value),
                ..Self::default()
            },
            LeaseAction::Success { result, atomic_children, report, jobs: _ } => Self {
                outcome: Some("success".into()),
                result: result.as_ref().and_then(raw_value),
                atomic_children,
                ..Self::finish_with(*report)
            },
            LeaseAction::Failure { fail_reason, retryable, delay_ms, report } => Self {
                outcome: Some("failure".into()),
                fail_reason: Some(fail_reason),
                retryable,
                delay_ms,
                ..Self::finish_with(*report)
            },
            LeaseAction::Release { delay_ms, reason } => {
                Self { verb: "release".into(), delay_ms: Some(delay_ms), reason, ..Self::default() }
            }
            LeaseAction::Bury { reason } => Self { verb: "bury".into(), reason, ..Self::default() },
        }
    }
}

impl LeaseItem {
    fn finish_with(report: Report) -> Self {
        Self {
            verb: "finish".into(),
            exit_code: report.exit_code,
            error: report.error,
            stdout: report.stdout,
            stderr: report.stderr,
            wall_ms: report.wall_ms,
            cpu_ms: report.cpu_ms,
            peak_ram_mb: report.peak_ram_mb,
            shell: report.shell,
            log: entries(report.log),
            log_seq: report.log_seq,
            ..Self::default()
        }
    }
}

fn entries(log: Vec<(Box<str>, Box<str>)>) -> Vec<LogEntry> {
    log.into_iter().map(|(kind, text)| LogEntry { kind, text }).collect()
}

/// Standard output, or both streams.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum OutputTail {
    Stdout(String),
    Both {
        #[serde(default)]
        stdout: String,
        #[serde(default)]
        stderr: String,
    },
}

impl LeasesRequest {
    pub fn items_into_queue(items: Vec<LeaseItem>) -> Result<Vec<command::LeaseItem>, Refusal> {
        let converted = items.into_iter().enumerate().map(|(index, item)| {
            item.into_queue().map_err(|(field, message)| Refusal::invalid(format!("items[{index}].{field}"), message))
        });
        converted.collect()
    }
}

type FieldFault = (&'static str, String);

impl LeaseItem {
    fn into_queue(self) -> Result<command::LeaseItem, FieldFault> {
        self.check_fields()?;
        let (job, lease) = (self.job, self.lease);
        let action = match &*self.verb {
            "start" => LeaseAction::Start { host: self.host, pid: self.pid },
            "touch" => LeaseAction::Touch {
                log: lines(self.log),
                log_seq: self.log_seq,
                progress: json("progress", self.progress)?,
                checkpoint: json("checkpoint", self.checkpoint)?,
            },
            "finish" => self.finish()?,
            "release" => LeaseAction::Release { delay_ms: self.delay_ms.unwrap_or(0), reason: self.reason },
            "bury" => LeaseAction::Bury { reason: self.reason },
            other => return Err(("do", format!("`{other}` is not one of start, touch, finish, release, bury"))),
        };
        Ok(command::LeaseItem { job, lease, action })
    }

    fn finish(mut self) -> Result<LeaseAction, FieldFault> {
        let report = Box::new(self.take_report());
        match self.outcome.as_deref() {
            Some("success") => Ok(LeaseAction::Success {
                result: json("result", self.result)?,
                jobs: self.jobs.iter().map(|raw| decode_spec(raw.get().as_bytes())).collect(),
                atomic_children: self.atomic_children,
                report,
            }),
            Some("failure") => Ok(LeaseAction::Failure {
                fail_reason: self.fail_reason.ok_or(("fail_reason", "say why it failed".to_owned()))?,
                retryable: self.retryable,
                delay_ms: self.delay_ms,
                report,
            }),
            Some(other) => Err(("outcome", format!("`{other}` is not one of success, failure"))),
            None => Err(("outcome", "say success or failure".to_owned())),
        }
    }

    fn take_report(&mut self) -> Report {
        Report {
            exit_code: self.exit_code,
            error: self.error.take(),
            stdout: self.stdout.take(),
            stderr: self.stderr.take(),
            wall_ms: self.wall_ms,
            cpu_ms: self.cpu_ms,
            peak_ram_mb: self.peak_ram_mb,
            shell: self.shell.take(),
            log: lines(std::mem::take(&mut self.log)),
            log_seq: self.log_seq,
        }
    }

    /// A field that the verb has no use for is refused: a mistake, not noise.
    fn check_fields(&self) -> Result<(), FieldFault> {
        let verb = &*self.verb;
        let (start, touch, finish) = (verb == "start", verb == "touch", verb == "finish");
        let success = finish && self.outcome.as_deref() == Some("success");
        let failure = finish && !success;
        // Name, whether it is there, whether it may be.
        let fields = [
            ("host", self.host.is_some(), start),
            ("pid", self.pid.is_some(), start),
            ("log", !self.log.is_empty(), touch || finish),
            ("log_seq", self.log_seq.is_some(), touch || finish),
            ("progress", self.progress.is_some(), touch),
            ("checkpoint", self.checkpoint.is_some(), touch),
            ("output", self.output.is_some(), touch),
            ("outcome", self.outcome.is_some(), finish),
            ("result", self.result.is_some(), success),
            ("jobs", !self.jobs.is_empty(), success),
            ("atomic_children", self.atomic_children, success),
            ("fail_reason", self.fail_reason.is_some(), failure),
            ("retryable", self.retryable.is_some(), failure),
            ("delay_ms", self.delay_ms.is_some(), failure || verb == "release"),
            ("reason", self.reason.is_some(), verb == "release" || verb == "bury"),
            ("exit_code", self.exit_code.is_some(), finish),
            ("error", self.error.is_some(), finish),
            ("stdout", self.stdout.is_some(), finish),
            ("stderr", self.stderr.is_some(), finish),
            ("wall_ms", self.wall_ms.is_some(), finish),
            ("cpu_ms", self.cpu_ms.is_some(), finish),
            ("peak_ram_mb", self.peak_ram_mb.is_some(), finish),
            ("shell", self.shell.is_some(), finish),
        ];
        match fields.into_iter().find(|(_, present, allowed)| *present && !allowed) {
            Some((field, ..)) if finish => Err((field, format!("`finish` with this outcome takes no {field}"))),
            Some((field, ..)) => Err((field, format!("`{verb}` takes no {field}"))),
            None => Ok(()),
        }
    }
}

fn json(field: &'static str, raw: Option<Box<RawValue>>) -> Result<Option<Json>, FieldFault> {
    raw.map(take_in).transpose().map_err(|message| (field, message))
}

fn lines(log: Vec<LogEntry>) -> Vec<(Box<str>, Box<str>)> {
    log.into_iter().map(|line| (line.kind, line.text)).collect()
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct LeasesAnswer {
    pub results: Vec<LeaseResult>,
    /// What the claim gave, if one came along.
    #[serde(default)]
    pub jobs: Vec<ClaimedJob>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct LeaseResult {
    pub ok: bool,
    /// `none`, `term`, `kill`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cancel: Option<Box<str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease_ms: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<ErrorBody>,
}

impl From<Result<LeaseState, Refusal>> for LeaseResult {
    fn from(result: Result<LeaseState, Refusal>) -> Self {
        match result {
            Ok(state) => Self {
                ok: true,
                cancel: Some(cancel_name(state.cancel).into()),
                lease_ms: Some(state.lease_ms),
                error: None,
            },
            Err(refusal) => Self { error: Some(refusal.into()), ..Self::default() },
        }
    }
}

fn cancel_name(signal: Option<CancelSignal>) -> &'static str {
    match signal {
        None => "none",
        Some(CancelSignal::Term) => "term",
        Some(CancelSignal::Kill) => "kill",
    }
}
