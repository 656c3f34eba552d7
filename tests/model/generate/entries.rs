//! Entries: when, under whom, with which keys, and what happens between them.

use proptest::{collection::vec, option, prelude::*, sample::select};

use super::{
    steps::{Step, step},
    storms::storm,
};

/// One entry of the log to come.
#[derive(Clone, Debug)]
pub struct EntrySeed {
    pub cluster_ms: u64,
    pub wall_ms: i64,
    pub office: OfficeSeed,
    /// A restore before the entry, and whether all queues are paused with it.
    pub restore: Option<bool>,
    pub requests: Vec<(KeySeed, Step)>,
}

#[derive(Clone, Copy, Debug)]
pub enum OfficeSeed {
    Same,
    Reelected,
    OtherNode(u64),
    Restarted,
}

/// Under which key a request comes.
#[derive(Clone, Copy, Debug)]
pub enum KeySeed {
    None,
    Next {
        name: usize,
    },
    /// Leaves numbers out, up to beyond the window.
    Skip {
        name: usize,
        by: u64,
    },
    /// A number of its own choosing: old, expired, or never used.
    Number {
        name: usize,
        number: u64,
    },
    /// A name that nobody has used before.
    Fresh,
    /// A name or number that may not be: none, too long, unprintable, too large.
    Wrong(usize),
    /// An earlier request again, word for word.
    Again {
        pick: usize,
    },
    /// An earlier key with another body.
    Conflict {
        pick: usize,
    },
}

/// A whole log.
pub fn log(entries: impl Into<proptest::collection::SizeRange>) -> impl Strategy<Value = Vec<EntrySeed>> {
    vec(entry(), entries)
}

fn entry() -> impl Strategy<Value = EntrySeed> {
    let restore = option::weighted(0.005, prop::bool::weighted(0.15));
    let requests = prop_oneof![120 => vec((key(), step()), 0..5), 1 => storm()];
    let entry = (cluster_ms(), wall_ms(), office(), restore, requests);
    entry.prop_map(|(cluster_ms, wall_ms, office, restore, requests)| EntrySeed {
        cluster_ms,
        wall_ms,
        office,
        restore,
        requests,
    })
}

fn cluster_ms() -> impl Strategy<Value = u64> {
    prop_oneof![6 => Just(0u64), 8 => 1..60u64, 4 => 60..2000u64, 1 => 20_000..70_000u64, 1 => 0..2_000_000u64]
}

/// What the wall clock does beyond following the cluster clock: mostly nothing, at times a jump.
fn wall_ms() -> impl Strategy<Value = i64> {
    const YEAR: i64 = 365 * 86_400_000;
    prop_oneof![30 => Just(0i64), 3 => -5000..5000i64, 1 => select(vec![YEAR, -YEAR])]
}

fn office() -> impl Strategy<Value = OfficeSeed> {
    prop_oneof![
        30 => Just(OfficeSeed::Same),
        1 => Just(OfficeSeed::Reelected),
        2 => (1..4u64).prop_map(OfficeSeed::OtherNode),
        1 => Just(OfficeSeed::Restarted),
    ]
}

fn key() -> impl Strategy<Value = KeySeed> {
    let name = || 0..4usize;
    prop_oneof![
        20 => Just(KeySeed::None),
        6 => name().prop_map(|name| KeySeed::Next { name }),
        1 => (name(), prop_oneof![1..4u64, 1020..1030u64]).prop_map(|(name, by)| KeySeed::Skip { name, by }),
        1 => (name(), prop_oneof![0..8u64, 1020..1030u64]).prop_map(|(name, number)| KeySeed::Number { name, number }),
        3 => any::<usize>().prop_map(|pick| KeySeed::Again { pick }),
        1 => prop_oneof![3 => Just(KeySeed::Fresh), 1 => (0..4usize).prop_map(KeySeed::Wrong)],
        1 => any::<usize>().prop_map(|pick| KeySeed::Conflict { pick }),
    ]
}
