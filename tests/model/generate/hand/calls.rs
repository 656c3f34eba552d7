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
        leases::{ActionSeed, ClaimSeed, ItemSeed, Whose},
        picks::Pick,
    },
    reference::Model,
};

const REASONS: [&str; 18] = [
    "exit_nonzero",
    "signal",
    "ram",
    "time",
    "not_executable",
    "not_found",
    "invalid_exit",
    "killed",
    "cwd_missing",
    "env_invalid",
    "start_failed",
    "resources_impossible",
    "interrupted",
    "lost_contact",
    "preceding_op",
    "dependency",
    "disk on fire",
    "",
];

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
            Whose::MadeUp(pick) => (id(model, pick), LeaseId(model.last_lease.0 + 7)),
            Whose::Held(pick) | Whose::Granted(pick) | Whose::Again(pick) => (id(model, Pick::Any(pick)), LeaseId(1)),
        };
        let item = LeaseItem { job, lease, action: self.action(model, &seed.action) };
        self.calls.push(item.clone());
        item
    }

    fn action(&self, model: &Model, seed: &ActionSeed) -> LeaseAction {
        match seed {
            ActionSeed::Start { pid } => {
                LeaseAction::Start { host: pid.map(|pid| format!("host{pid}").into()), pid: *pid }
            }
            ActionSeed::Touch { lines: count, seq, progress, checkpoint } => {
                let number = |number: &Option<u8>| number.map(|number| Json(number.to_string().into()));
                let (progress, checkpoint) = (number(progress), number(checkpoint));
                LeaseAction::Touch { log: lines(*count), log_seq: *seq, progress, checkpoint }
            }
            ActionSeed::Success { lines: count, children, atomic, peak_mb, has_result } => LeaseAction::Success {
                result: has_result.then(|| Json("{\"rows\": 3}".into())),
                jobs: self.specs(model, children),
                atomic_children: *atomic,
                report: Box::new(Report {
                    log: lines(*count),
                    peak_ram_mb: *peak_mb,
                    wall_ms: *peak_mb,
                    ..Report::default()
                }),
            },
            ActionSeed::Failure { reason, retryable, delay_ms, wall_ms, peak_mb } => LeaseAction::Failure {
                fail_reason: REASONS[*reason % REASONS.len()].into(),
                retryable: *retryable,
                delay_ms: *delay_ms,
                report: Box::new(Report { wall_ms: *wall_ms, peak_ram_mb: *peak_mb, ..Report::default() }),
            },
            ActionSeed::Release { delay_ms } => LeaseAction::Release { delay_ms: *delay_ms, reason: None },
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

fn lines(count: usize) -> Vec<(Box<str>, Box<str>)> {
    (0..count).map(|number| ("note".into(), format!("line {number}").into())).collect()
}
