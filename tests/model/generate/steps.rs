//! The strategy: what may happen, and how often.

use proptest::{collection::vec, option, prelude::*};

use super::{
    leases::{ClaimSeed, ItemSeed, claim, item},
    picks::{Pick, pick, picks, priority, queue},
    schedules::{ScheduleSeed, schedule},
    settings::{PoolSeed, SettingsSeed, WorkerSeed, pool, settings, worker},
    specs::{SpecSeed, spec},
};

#[derive(Clone, Debug)]
pub enum Step {
    Tick {
        hold_wall: bool,
    },
    Submit {
        specs: Vec<SpecSeed>,
        atomic: bool,
    },
    Claim(ClaimSeed),
    Leases {
        items: Vec<ItemSeed>,
        claim: Option<ClaimSeed>,
    },
    Cancel {
        picks: Vec<Pick>,
        how: u8,
        says: bool,
    },
    Kick(Vec<Pick>),
    Bury {
        picks: Vec<Pick>,
        says: bool,
    },
    Priority {
        picks: Vec<Pick>,
        priority: i64,
    },
    Archive(Vec<Pick>),
    Autoarchive {
        age_ms: Option<u64>,
        limit: u32,
        follow: bool,
    },
    Delete(Vec<Pick>),
    /// The job's own spec, with what this one says in its place.
    Edit {
        pick: Pick,
        to: Option<SpecSeed>,
    },
    /// More than a request may hold.
    Beyond {
        verb: Box<Step>,
        many: bool,
    },
    /// A verb on jobs, as a part of a bulk call.
    Piece(Box<Step>),
    /// A verb, if its author read this job as it is.
    If {
        pick: Pick,
        is_current: bool,
        then: Box<Step>,
    },
    Drain {
        drained: bool,
        reason: bool,
    },
    Pause {
        queue: Option<usize>,
        paused: bool,
    },
    Pool(PoolSeed),
    Limit {
        name: usize,
        max: Option<u32>,
    },
    Settings(SettingsSeed),
    Worker {
        id: usize,
        change: WorkerSeed,
    },
    Environment(usize),
    /// A resource group.
    Forget(usize),
    ForgetQueue(usize),
    Schedule {
        name: usize,
        change: ScheduleSeed,
    },
}

pub fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        10 => prop::bool::weighted(0.1).prop_map(|hold_wall| Step::Tick { hold_wall }),
        14 => (vec(spec(), 0..4), prop::bool::weighted(0.3)).prop_map(|(specs, atomic)| Step::Submit { specs, atomic }),
        24 => claim().prop_map(Step::Claim),
        30 => (vec(item(), 1..4), option::weighted(0.3, claim())).prop_map(|(items, claim)| Step::Leases { items, claim }),
        4 => (any::<usize>(), 1..3u8, any::<bool>())
            .prop_map(|(pick, how, says)| Step::Cancel { picks: vec![Pick::Held(pick)], how, says }),
        21 => verb(),
        2 => prop_oneof![8 => verb(), 1 => beyond(verb())].prop_map(|verb| Step::Piece(Box::new(verb))),
        1 => beyond(prop_oneof![verb(), countable()]),
        2 => (pick(), prop::bool::weighted(0.7), verb())
            .prop_map(|(pick, is_current, then)| Step::If { pick, is_current, then: Box::new(then) }),
        3 => edit(),
        1 => (prop::bool::weighted(0.7), edit()).prop_map(|(is_current, then)| condition(is_current, then)),
        1 => (option::of(prop_oneof![Just(0u64), 1..100_000u64]), 0..4u32, any::<bool>())
            .prop_map(|(age_ms, limit, follow)| Step::Autoarchive { age_ms, limit, follow }),
        10 => setting(),
        5 => (0..4usize, worker()).prop_map(|(id, change)| Step::Worker { id, change }),
        10 => (0..3usize, schedule()).prop_map(|(name, change)| Step::Schedule { name, change }),
    ]
}

fn beyond(verb: impl Strategy<Value = Step>) -> impl Strategy<Value = Step> {
    (verb, any::<bool>()).prop_map(|(verb, many)| Step::Beyond { verb: Box::new(verb), many })
}

/// What else says how many, or how long.
fn countable() -> impl Strategy<Value = Step> {
    prop_oneof![
        vec(spec(), 0..1).prop_map(|specs| Step::Submit { specs, atomic: false }),
        claim().prop_map(Step::Claim),
        vec(item(), 1..2).prop_map(|items| Step::Leases { items, claim: None }),
        Just(Step::Autoarchive { age_ms: None, limit: 1, follow: false }),
        any::<bool>().prop_map(|drained| Step::Drain { drained, reason: true }),
    ]
}

/// A verb that is answered job by job.
fn verb() -> impl Strategy<Value = Step> {
    prop_oneof![
        5 => (picks(), 0..3u8, any::<bool>()).prop_map(|(picks, how, says)| Step::Cancel { picks, how, says }),
        5 => picks().prop_map(Step::Kick),
        2 => (picks(), any::<bool>()).prop_map(|(picks, says)| Step::Bury { picks, says }),
        3 => (picks(), priority()).prop_map(|(picks, priority)| Step::Priority { picks, priority }),
        2 => picks().prop_map(Step::Archive),
        2 => picks().prop_map(Step::Delete),
    ]
}

fn edit() -> impl Strategy<Value = Step> {
    (pick(), option::weighted(0.9, spec())).prop_map(|(pick, to)| Step::Edit { pick, to })
}

/// An edit by somebody who has read the job that he edits.
fn condition(is_current: bool, then: Step) -> Step {
    let Step::Edit { pick, .. } = then else { panic!("only edits come here") };
    Step::If { pick, is_current, then: Box::new(then) }
}

fn setting() -> impl Strategy<Value = Step> {
    prop_oneof![
        2 => (prop::bool::weighted(0.25), any::<bool>()).prop_map(|(drained, reason)| Step::Drain { drained, reason }),
        2 => (option::of(queue()), prop::bool::weighted(0.25)).prop_map(|(queue, paused)| Step::Pause { queue, paused }),
        2 => pool().prop_map(Step::Pool),
        2 => (0..2usize, option::of(0..4u32)).prop_map(|(name, max)| Step::Limit { name, max }),
        3 => settings().prop_map(Step::Settings),
        1 => (0..4usize).prop_map(Step::Environment),
        1 => (0..3usize).prop_map(Step::Forget),
        1 => queue().prop_map(Step::ForgetQueue),
    ]
}
