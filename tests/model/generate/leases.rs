//! What workers ask for and report.

use proptest::{collection::vec, option, prelude::*, sample::select};

use super::{
    picks::{Pick, delay_ms, pick, picks, queue},
    settings::{Amounts, amounts},
    specs::{SpecSeed, spec},
};

#[derive(Clone, Debug)]
pub struct ClaimSeed {
    pub worker: usize,
    pub pool: bool,
    pub queues: Vec<usize>,
    pub ids: Option<Vec<Pick>>,
    pub kind: Option<usize>,
    pub max: u32,
    pub lease_ms: Option<u64>,
    pub start: bool,
    pub free: Option<Amounts>,
    pub resource_group: Option<usize>,
}

#[derive(Clone, Debug)]
pub struct ItemSeed {
    pub whose: Whose,
    pub action: ActionSeed,
}

/// Which lease a call names.
#[derive(Clone, Copy, Debug)]
pub enum Whose {
    /// One that is held.
    Held(usize),
    /// Any that was ever granted: late, taken over, or held.
    Granted(usize),
    /// One that nobody was ever given.
    MadeUp(Pick),
    /// An earlier call again, word for word.
    Again(usize),
}

#[derive(Clone, Debug)]
pub enum ActionSeed {
    /// Saying where, or not.
    Start {
        pid: Option<u32>,
    },
    Touch {
        lines: usize,
        seq: Option<u64>,
        progress: Option<u8>,
        checkpoint: Option<u8>,
    },
    Success {
        lines: usize,
        children: Vec<SpecSeed>,
        atomic: bool,
        peak_mb: Option<u64>,
        has_result: bool,
    },
    Failure {
        reason: usize,
        retryable: Option<bool>,
        delay_ms: Option<u64>,
        wall_ms: Option<u64>,
        peak_mb: Option<u64>,
    },
    Release {
        delay_ms: u64,
    },
    Bury {
        says: bool,
    },
}

pub fn claim() -> impl Strategy<Value = ClaimSeed> {
    let max = prop_oneof![40 => 1..4u32, 1 => select(vec![0u32, 1_001])];
    let wanted = (vec(queue(), 1..4), option::weighted(0.15, picks()));
    (
        0..3usize,
        prop::bool::weighted(0.4),
        wanted,
        option::weighted(0.1, 0..3usize),
        max,
        option::weighted(0.2, select(vec![100u64, 5_000])),
        any::<bool>(),
        option::weighted(0.2, amounts()),
        option::weighted(0.05, 0..2usize),
    )
        .prop_map(|(worker, pool, (queues, ids), kind, max, lease_ms, start, free, resource_group)| ClaimSeed {
            worker,
            pool,
            queues,
            ids,
            kind,
            max,
            lease_ms,
            start,
            free,
            resource_group,
        })
}

pub fn item() -> impl Strategy<Value = ItemSeed> {
    let whose = prop_oneof![
        12 => any::<usize>().prop_map(Whose::Held),
        4 => any::<usize>().prop_map(Whose::Granted),
        1 => pick().prop_map(Whose::MadeUp),
        2 => any::<usize>().prop_map(Whose::Again),
    ];
    (whose, action()).prop_map(|(whose, action)| ItemSeed { whose, action })
}

fn action() -> impl Strategy<Value = ActionSeed> {
    let failure = (
        any::<usize>(),
        option::of(any::<bool>()),
        option::weighted(0.2, delay_ms()),
        option::of(0..4000u64),
        option::of(peak_mb()),
    );
    let children = option::weighted(0.2, vec(spec(), 0..3));
    let success = (0..3usize, children, any::<bool>(), option::of(peak_mb()), any::<bool>());
    let touch =
        (0..3usize, option::of(0..6u64), option::weighted(0.3, any::<u8>()), option::weighted(0.3, any::<u8>()));
    prop_oneof![
        6 => option::weighted(0.3, 100..105u32).prop_map(|pid| ActionSeed::Start { pid }),
        4 => touch.prop_map(|(lines, seq, progress, checkpoint)| ActionSeed::Touch { lines, seq, progress, checkpoint }),
        8 => success.prop_map(|(lines, children, atomic, peak_mb, has_result)| {
            ActionSeed::Success { lines, children: children.unwrap_or_default(), atomic, peak_mb, has_result }
        }),
        8 => failure.prop_map(|(reason, retryable, delay_ms, wall_ms, peak_mb)| {
            ActionSeed::Failure { reason, retryable, delay_ms, wall_ms, peak_mb }
        }),
        2 => delay_ms().prop_map(|delay_ms| ActionSeed::Release { delay_ms }),
        1 => any::<bool>().prop_map(|says| ActionSeed::Bury { says }),
    ]
}

fn peak_mb() -> impl Strategy<Value = u64> {
    prop_oneof![4 => 0..500u64, 1 => 8_000..9_000u64]
}
