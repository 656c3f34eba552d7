//! What a spec must satisfy before it becomes a job: ranges, counts and sizes, each refusal naming its field.
//!
//! Shape (types, unknown names) is the front door's; this holds for whichever door a spec came through.

use std::sync::Arc;

use super::{
    command::{Claim, LeaseAction, Report, Wanted},
    ids::{NUMBER_LIMIT, Priority},
    job::{LEASE_MS_MAX, LEASE_MS_MIN, Needs, OpSpec, Payload, Policy, Spec, When},
    limits::{self, check_count, check_name, check_queue, check_range, check_text},
    refusal::Refusal,
};

impl Spec {
    pub fn check(&self) -> Result<(), Refusal> {
        check_queue("queue", &self.queue)?;
        self.check_names()?;
        check_priority("priority", self.priority)?;
        if let Some(needs) = &self.needs {
            needs.check()?;
        }
        self.policy.check()?;
        self.check_when()?;
        self.check_texts()?;
        self.check_ops()?;
        if self.bytes() > limits::JOB_BYTES_MAX {
            let message = format!("a job's spec must have at most {} bytes", limits::JOB_BYTES_MAX);
            return Err(Refusal::TooLarge { message: message.into() });
        }
        Ok(())
    }

    fn check_names(&self) -> Result<(), Refusal> {
        let names = [("name", &self.name), ("as", &self.batch_name)];
        for (field, name) in names {
            name.as_deref().map_or(Ok(()), |name| check_name(field, name))?;
        }
        self.unique.as_deref().map_or(Ok(()), |unique| check_name("unique", unique))?;
        check_count("groups", self.groups.len(), limits::GROUPS_MAX)?;
        self.groups.iter().try_for_each(|group| check_name("groups", group))?;
        check_count("limits", self.limits.len(), limits::LIMITS_PER_JOB_MAX)?;
        self.limits.iter().try_for_each(|(limit, _)| check_name("limits", limit))
    }

    fn check_when(&self) -> Result<(), Refusal> {
        match self.when {
            When::Now => Ok(()),
            When::Delay(delay_ms) => check_range("delay_ms", delay_ms, 0, limits::DELAY_MS_MAX),
            When::RunAt(at) => check_range("run_at_ms", at.0, 0, NUMBER_LIMIT - 1),
        }
    }

    fn check_texts(&self) -> Result<(), Refusal> {
        check_text("meta", self.meta.as_ref().map(|meta| &*meta.0), limits::META_BYTES_MAX)?;
        check_text("comment", self.comment.as_deref(), limits::TEXT_BYTES_MAX)?;
        check_count("reasons", self.reasons.len(), limits::REASONS_KEPT as usize)?;
        for reason in &self.reasons {
            check_text("reason", Some(&reason.text), limits::TEXT_BYTES_MAX)?;
            check_text("reason", Some(&reason.source), limits::NAME_BYTES_MAX)?;
        }
        Ok(())
    }

    fn check_ops(&self) -> Result<(), Refusal> {
        if self.ops.is_empty() {
            return Err(Refusal::invalid("ops", "a job needs at least one op"));
        }
        check_count("ops", self.ops.len(), limits::OPS_MAX)?;
        self.ops
            .iter()
            .enumerate()
            .try_for_each(|(at, op)| op.check().map_err(|refusal| refusal.within(&format!("ops[{at}]"))))
    }

    /// What it weighs: its texts and payloads, and a constant for the rest.
    pub fn bytes(&self) -> usize {
        let text = |text: &Option<Box<str>>| text.as_ref().map_or(0, |text| text.len());
        let ops: usize = self.ops.iter().map(OpSpec::bytes).sum();
        let reasons: usize = self.reasons.iter().map(|reason| reason.text.len() + reason.source.len() + 16).sum();
        let labels: usize =
            self.groups.iter().chain(self.limits.iter().map(|(name, _)| name)).map(|name| name.len()).sum();
        let meta = self.meta.as_ref().map_or(0, |meta| meta.0.len());
        64 + self.queue.len() + text(&self.name) + text(&self.comment) + meta + labels + reasons + ops
    }
}

impl OpSpec {
    fn check(&self) -> Result<(), Refusal> {
        check_name("kind", &self.kind)?;
        check_priority("priority", self.priority)?;
        check_count("depends", self.depends.len(), limits::DEPENDS_MAX)
    }

    fn bytes(&self) -> usize {
        let payload = match &self.payload {
            Payload::Args(json) => json.0.len(),
            Payload::Text(text) => text.len(),
            Payload::Binary(bytes) => bytes.len(),
        };
        16 + self.kind.len() + payload + 16 * self.depends.len()
    }
}

impl Needs {
    pub fn check(&self) -> Result<(), Refusal> {
        check_range("needs.cores", self.cores_milli, 0, limits::CORES_MILLI_MAX)?;
        check_range("needs.ram_mb", self.ram_mb, 0, limits::RAM_MB_MAX)?;
        check_range("needs.disk_mb", self.disk_mb, 0, limits::DISK_MB_MAX)?;
        check_range("needs.time_s", self.time_s, 0, limits::TIME_S_MAX)
    }
}

impl Policy {
    fn check(&self) -> Result<(), Refusal> {
        check_range("retries", self.retries, 0, limits::RETRIES_MAX)?;
        check_range("lost_limit", self.lost_limit, 0, limits::RETRIES_MAX)?;
        check_range("backoff.base_ms", self.backoff_base_ms, 0, limits::DELAY_MS_MAX)?;
        check_range("backoff.cap_ms", self.backoff_cap_ms, 0, limits::DELAY_MS_MAX)?;
        check_range("no_retry_after_ms", self.no_retry_after_ms.unwrap_or(0), 0, limits::DELAY_MS_MAX)?;
        check_range("lease_ms", self.lease_ms, LEASE_MS_MIN, LEASE_MS_MAX)?;
        check_range("needs_override", self.needs_override, 0, 2)?;
        self.resource_group.as_deref().map_or(Ok(()), |group| check_name("resource_group", group))
    }
}

impl Claim {
    pub fn check(&self) -> Result<(), Refusal> {
        check_name("worker.id", &self.worker)?;
        check_text("worker.host", Some(&self.host), limits::NAME_BYTES_MAX)?;
        check_range("max", self.max, 1, limits::CLAIM_MAX)?;
        check_range("lease_ms", self.lease_ms.unwrap_or(LEASE_MS_MIN), LEASE_MS_MIN, LEASE_MS_MAX)?;
        check_strings("kinds", self.kinds.as_deref())?;
        check_strings("resource_groups", self.resource_groups.as_deref())?;
        match &self.wanted {
            Wanted::Queues(queues) => check_strings("queues", Some(queues)),
            Wanted::Ids(ids) => check_count("ids", ids.len(), limits::CLAIM_MAX as usize),
        }
    }
}

fn check_strings(field: &str, names: Option<&[Arc<str>]>) -> Result<(), Refusal> {
    check_count(field, names.map_or(0, <[_]>::len), limits::CLAIM_MAX as usize)
}

impl LeaseAction {
    pub fn check(&self) -> Result<(), Refusal> {
        match self {
            LeaseAction::Start { host, .. } => check_text("host", host.as_deref(), limits::NAME_BYTES_MAX),
            LeaseAction::Touch { log, progress, checkpoint, .. } => {
                check_log(log)?;
                check_text("progress", progress.as_ref().map(|json| &*json.0), limits::TEXT_BYTES_MAX)?;
                check_text("checkpoint", checkpoint.as_ref().map(|json| &*json.0), limits::CHECKPOINT_BYTES_MAX)
            }
            LeaseAction::Success { report, jobs, .. } => {
                check_count("jobs", jobs.len(), limits::JOBS_PER_REQUEST_MAX)?;
                report.check()
            }
            LeaseAction::Failure { fail_reason, delay_ms, report, .. } => {
                check_name("fail_reason", fail_reason)?;
                check_range("delay_ms", delay_ms.unwrap_or(0), 0, limits::DELAY_MS_MAX)?;
                report.check()
            }
            LeaseAction::Release { delay_ms, reason } => {
                check_range("delay_ms", *delay_ms, 0, limits::DELAY_MS_MAX)?;
                check_text("reason", reason.as_deref(), limits::TEXT_BYTES_MAX)
            }
            LeaseAction::Bury { reason } => check_text("reason", reason.as_deref(), limits::TEXT_BYTES_MAX),
        }
    }
}

impl Report {
    fn check(&self) -> Result<(), Refusal> {
        check_text("error", self.error.as_deref(), limits::TEXT_BYTES_MAX)?;
        check_text("stdout", self.stdout.as_deref(), limits::OUTPUT_BYTES_MAX)?;
        check_text("stderr", self.stderr.as_deref(), limits::OUTPUT_BYTES_MAX)?;
        check_text("shell", self.shell.as_deref(), limits::NAME_BYTES_MAX)?;
        check_range("wall_ms", self.wall_ms.unwrap_or(0), 0, NUMBER_LIMIT - 1)?;
        check_range("cpu_ms", self.cpu_ms.unwrap_or(0), 0, NUMBER_LIMIT - 1)?;
        check_range("peak_ram_mb", self.peak_ram_mb.unwrap_or(0), 0, NUMBER_LIMIT - 1)?;
        check_log(&self.log)
    }
}

fn check_log(lines: &[(Box<str>, Box<str>)]) -> Result<(), Refusal> {
    for (kind, text) in lines {
        check_text("log.type", Some(kind), limits::NAME_BYTES_MAX)?;
        check_text("log.text", Some(text), limits::LOG_LINE_BYTES_MAX)?;
    }
    Ok(())
}

pub fn check_priority(field: &str, priority: Option<Priority>) -> Result<(), Refusal> {
    let priority = priority.unwrap_or_default().0;
    check_range(field, priority, -limits::PRIORITY_MAX, limits::PRIORITY_MAX)
}
