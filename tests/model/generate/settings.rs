//! What operators set, and who says that it runs jobs.

use proptest::{collection::vec, option, prelude::*, sample::select};

use super::picks::queue;

/// Any of the settings at once; `None` leaves one as it is.
#[derive(Clone, Debug)]
pub struct SettingsSeed {
    pub live_max: Option<u64>,
    pub archive_after: Option<AgeRule>,
    pub delete_after: Option<AgeRule>,
    pub pool_timeout: Option<u64>,
    pub bury_impossible: Option<bool>,
}

/// `None`: never.
#[derive(Clone, Copy, Debug)]
pub struct AgeRule(pub Option<u64>);

#[derive(Clone, Debug)]
pub struct PoolSeed {
    pub active: Option<bool>,
    pub size: Option<u32>,
    pub queues: Option<Vec<usize>>,
}

/// What a machine has or a job asks for, in steps; `None` is not said.
#[derive(Clone, Copy, Debug)]
pub struct Amounts {
    pub cores: Option<u64>,
    pub ram: Option<u64>,
    pub disk: Option<u64>,
    pub time: Option<u64>,
}

#[derive(Clone, Debug)]
pub enum WorkerSeed {
    Put { ttl_ms: u64, has: Option<Amounts> },
    Pool { has: Amounts },
    Remove,
}

pub fn settings() -> impl Strategy<Value = SettingsSeed> {
    let live_max = prop_oneof![2 => 1..8u64, 8 => Just(1_000_000u64), 1 => Just(1_000_000_001u64)];
    let pool_timeout = prop_oneof![4 => Just(100u64), 4 => Just(2_000u64), 1 => Just(99u64)];
    (
        option::weighted(0.3, live_max),
        option::weighted(0.3, age_rule()),
        option::weighted(0.3, age_rule()),
        option::weighted(0.3, pool_timeout),
        option::weighted(0.5, prop::bool::weighted(0.8)),
    )
        .prop_map(|(live_max, archive_after, delete_after, pool_timeout, bury_impossible)| SettingsSeed {
            live_max,
            archive_after,
            delete_after,
            pool_timeout,
            bury_impossible,
        })
}

pub fn pool() -> impl Strategy<Value = PoolSeed> {
    let size = prop_oneof![9 => 0..5u32, 1 => Just(10_001u32)];
    (option::of(any::<bool>()), option::of(size), option::weighted(0.3, vec(queue(), 0..3)))
        .prop_map(|(active, size, queues)| PoolSeed { active, size, queues })
}

pub fn worker() -> impl Strategy<Value = WorkerSeed> {
    let ttl_ms = prop_oneof![1 => Just(0u64), 8 => 1..5_000u64, 4 => 10_000..3_000_000u64, 1 => Just(86_400_001u64)];
    prop_oneof![
        8 => (ttl_ms, option::weighted(0.9, amounts())).prop_map(|(ttl_ms, has)| WorkerSeed::Put { ttl_ms, has }),
        2 => amounts().prop_map(|has| WorkerSeed::Pool { has }),
        2 => Just(WorkerSeed::Remove),
    ]
}

pub fn amounts() -> impl Strategy<Value = Amounts> {
    let ram = prop_oneof![8 => 0..6u64, 1 => 10..100u64];
    (
        option::weighted(0.3, 0..4u64),
        option::weighted(0.7, ram),
        option::weighted(0.2, 0..3u64),
        option::weighted(0.2, 0..5u64),
    )
        .prop_map(|(cores, ram, disk, time)| Amounts { cores, ram, disk, time })
}

fn age_rule() -> impl Strategy<Value = AgeRule> {
    option::of(select(vec![0u64, 100, 21_600_000])).prop_map(AgeRule)
}
