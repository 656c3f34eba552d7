//! What one request may hold (design 3): the first field that is too long, too many or out of its range.

use raftq::queue::{
    command::{Claim, Command, Key, LeaseAction, Report, Wanted},
    refusal::Refusal,
};

/// Ids, items, or jobs.
const MANY: usize = 10_000;
/// Jobs that one claim asks for.
const CLAIM: usize = 1_000;
const LEASE_MS: std::ops::RangeInclusive<u64> = 100..=86_400_000;
const NAME_BYTES: usize = 200;
const TEXT_BYTES: usize = 4 << 10;
const OUTPUT_BYTES: usize = 64 << 10;
const CHECKPOINT_BYTES: usize = 256 << 10;

pub type Field = Option<&'static str>;

pub fn allow(wrong: Field) -> Result<(), Refusal> {
    wrong.map_or(Ok(()), |field| Err(Refusal::invalid(field, "")))
}

fn over(field: &'static str, length: usize, max: usize) -> Field {
    (length > max).then_some(field)
}

fn long(field: &'static str, text: Option<&str>, max: usize) -> Field {
    over(field, text.map_or(0, str::len), max)
}

pub fn wrong_request(command: &Command) -> Field {
    match command {
        Command::Cancel { ids, reason, .. } | Command::Bury { ids, reason } => {
            over("ids", ids.len(), MANY).or_else(|| long("reason", reason.as_deref(), TEXT_BYTES))
        }
        Command::Kick { ids } | Command::Priority { ids, .. } | Command::Archive { ids } | Command::Delete { ids } => {
            over("ids", ids.len(), MANY)
        }
        Command::Leases { items, .. } => over("items", items.len(), MANY),
        Command::Drain { reason, .. } => long("reason", reason.as_deref(), TEXT_BYTES),
        Command::Autoarchive(which) => (!(1..=MANY).contains(&(which.limit as usize))).then_some("limit"),
        _ => None,
    }
}

pub fn too_many_jobs(jobs: usize) -> Field {
    over("jobs", jobs, MANY)
}

pub fn wrong_claim(claim: &Claim) -> Field {
    let wrong_max = !(1..=CLAIM).contains(&(claim.max as usize));
    let wrong_lease = claim.lease_ms.is_some_and(|ms| !LEASE_MS.contains(&ms));
    wrong_max.then_some("max").or(wrong_lease.then_some("lease_ms")).or_else(|| match &claim.wanted {
        Wanted::Queues(queues) => over("queues", queues.len(), CLAIM),
        Wanted::Ids(ids) => over("ids", ids.len(), CLAIM),
    })
}

pub fn wrong_call(action: &LeaseAction) -> Field {
    match action {
        LeaseAction::Start { .. } => None,
        LeaseAction::Touch { log, progress, checkpoint, .. } => long_line(log)
            .or_else(|| long("progress", progress.as_ref().map(|json| &*json.0), TEXT_BYTES))
            .or_else(|| long("checkpoint", checkpoint.as_ref().map(|json| &*json.0), CHECKPOINT_BYTES)),
        LeaseAction::Success { report, .. } => wrong_report(report),
        LeaseAction::Failure { fail_reason, .. } if fail_reason.is_empty() || fail_reason.len() > NAME_BYTES => {
            Some("fail_reason")
        }
        LeaseAction::Failure { report, .. } => wrong_report(report),
        LeaseAction::Release { reason, .. } | LeaseAction::Bury { reason } => {
            long("reason", reason.as_deref(), TEXT_BYTES)
        }
    }
}

fn wrong_report(report: &Report) -> Field {
    long("error", report.error.as_deref(), TEXT_BYTES)
        .or_else(|| long("stdout", report.stdout.as_deref(), OUTPUT_BYTES))
        .or_else(|| long("stderr", report.stderr.as_deref(), OUTPUT_BYTES))
        .or_else(|| long_line(&report.log))
}

fn long_line(log: &[(Box<str>, Box<str>)]) -> Field {
    log.iter().find_map(|(_, text)| long("log.text", Some(text), TEXT_BYTES))
}

pub fn wrong_key(key: &Key) -> Field {
    let printable = !key.name.chars().any(char::is_control);
    let right = printable && (1..=NAME_BYTES).contains(&key.name.len()) && key.number < 1 << 53;
    (!right).then_some("idempotency-key")
}
