//! Claims, and the calls of those who hold something.

use raftq::queue::{
    command::{Claim, LeaseAction, LeaseItem, Report, Wanted},
    ids::{JobId, LeaseId},
    job::Json,
};

use super::{
    Hand, KINDS, QUEUES, free,
    picked::{id, ids, recent},
};
use crate::{
    generate::{
        leases::{ActionSeed, Beyond, ClaimSeed, ItemSeed, ReportSeed, ResultSeed, Whose},
        picks::Pick,
    },
    reference::{Job, Model},
};

impl Hand {
    pub(super) fn item(&mut self, model: &Model, seed: &ItemSeed) -> LeaseItem {
        let held: Vec<(JobId, LeaseId)> =
            model.jobs.values().filter_map(|job| job.held().map(|(_, lease)| (job.id, lease.id))).collect();
        let (job, lease) = match seed.whose {
            Whose::Again(pick) if !self.calls.is_empty() => {
                return recent(&self.calls, pick).expect("there are some").clone();
            }
            Whose::Held(pick) | Whose::Again(pick) if !held.is_empty() => held[pick % held.len()],
            Whose::Granted(pick) if !self.granted.is_empty() => *recent(&self.granted, pick).expect("there are some"),
            Whose::Latest => self.granted.last().copied().unwrap_or((JobId(1), LeaseId(1))),
            Whose::MadeUp(pick) => (id(model, pick), LeaseId(model.last_lease.0 + 7)),
            Whose::Held(pick) | Whose::Granted(pick) | Whose::Again(pick) => (id(model, Pick::Any(pick)), LeaseId(1)),
        };
        let item = LeaseItem { job, lease, action: self.action(model, job, &seed.action) };
        self.calls.push(item.clone());
        item
    }

    fn action(&self, model: &Model, job: JobId, seed: &ActionSeed) -> LeaseAction {
        match seed {
            ActionSeed::Start { pid } => {
                LeaseAction::Start { host: pid.map(|pid| format!("host{pid}").into()), pid: *pid }
            }
            ActionSeed::Touch { lines: count, line_bytes, seq, progress, checkpoint, beyond } => {
                let number = |number: &Option<u8>| number.map(|number| Json(number.to_string().into()));
                let (mut log, mut progress, mut checkpoint) =
                    (lines(*count, *line_bytes), number(progress), number(checkpoint));
                match beyond {
                    Some(Beyond::Line) => log.push(("note".into(), text(4_097))),
                    Some(Beyond::Progress) => progress = Some(Json(text(4_097))),
                    Some(Beyond::Checkpoint) => checkpoint = Some(Json(text((256 << 10) + 1))),
                    _ => {}
                }
                LeaseAction::Touch { log, log_seq: *seq, progress, checkpoint }
            }
            ActionSeed::Success { children, atomic, result: has, report: seed } => LeaseAction::Success {
                result: result(model.jobs.get(&job), *has),
                jobs: self.specs(model, children),
                atomic_children: *atomic,
                report: Box::new(report(seed)),
            },
            ActionSeed::Failure { reason, retryable, delay_ms, report: seed } => LeaseAction::Failure {
                fail_reason: (*reason).into(),
                retryable: *retryable,
                delay_ms: *delay_ms,
                report: Box::new(report(seed)),
            },
            ActionSeed::Release { delay_ms, says } => {
                LeaseAction::Release { delay_ms: *delay_ms, reason: says.then(|| "must go".into()) }
            }
            ActionSeed::Bury { says } => LeaseAction::Bury { reason: says.then(|| "looks wrong".into()) },
        }
    }
}

pub fn claim(model: &Model, seed: &ClaimSeed) -> Claim {
    let wanted = match &seed.ids {
        Some(picks) => Wanted::Ids(ids(model, picks)),
        None => Wanted::Queues(seed.queues.iter().map(|queue| QUEUES[*queue].into()).collect()),
    };
    Claim {
        worker: format!("worker{}", seed.worker).into(),
        host: "host".into(),
        pid: 40 + seed.worker as u32,
        pool: seed.pool,
        wanted,
        kinds: seed.kind.map(|kind| vec![KINDS[kind].into()]),
        resource_groups: seed.resource_group.map(|group| vec![format!("rg{group}").into()]),
        max: seed.max,
        lease_ms: seed.lease_ms,
        start: seed.start,
        free: seed.free.as_ref().map(free),
    }
}

fn lines(count: usize, bytes: usize) -> Vec<(Box<str>, Box<str>)> {
    (0..count).map(|number| ("note".into(), format!("{number:0bytes$}").into())).collect()
}

pub fn text(bytes: usize) -> Box<str> {
    "x".repeat(bytes).into()
}

/// What fills a job, and what is too much for it, depends on what it has kept so far.
fn result(job: Option<&Job>, seed: ResultSeed) -> Option<Json> {
    let room = job.map_or(0, Job::room);
    match seed {
        ResultSeed::None => None,
        ResultSeed::Small => Some(Json("{\"rows\": 3}".into())),
        ResultSeed::Filling(left) => Some(Json(text(room.saturating_sub(left).max(1)))),
        ResultSeed::TooLarge => Some(Json(text(room + 1))),
    }
}

fn report(seed: &ReportSeed) -> Report {
    let [stdout, stderr] = seed.outputs.map(|bytes| bytes.map(text));
    let mut report = Report {
        exit_code: seed.more,
        error: seed.more.map(|code| format!("ended with {code}").into()),
        stdout,
        stderr,
        wall_ms: seed.wall_ms,
        cpu_ms: seed.more.map(|_| 12),
        peak_ram_mb: seed.peak_mb,
        shell: seed.more.map(|_| "bash".into()),
        log: lines(seed.lines, seed.line_bytes),
        log_seq: seed.seq,
    };
    match seed.beyond {
        Some(Beyond::Error) => report.error = Some(text(4_097)),
        Some(Beyond::Stdout) => report.stdout = Some(text(65_537)),
        Some(Beyond::Stderr) => report.stderr = Some(text(65_537)),
        Some(Beyond::Line) => report.log.push(("note".into(), text(4_097))),
        _ => {}
    }
    report
}
