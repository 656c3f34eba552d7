//! What is submitted.

use proptest::{collection::vec, option, prelude::*, sample::select};

use super::{
    picks::{Pick, delay_ms, pick, priority, queue},
    settings::{Amounts, amounts},
};

#[derive(Clone, Debug)]
pub struct SpecSeed {
    pub fault: Option<Fault>,
    pub queue: usize,
    pub priority: Option<i64>,
    pub unique: Option<usize>,
    pub group: Option<usize>,
    pub limit: Option<(usize, Option<u32>)>,
    pub lease_ms: u64,
    pub bury: Option<bool>,
    pub rerun_on_loss: bool,
    pub retries: u32,
    pub lost_limit: u32,
    pub backoff: (u64, u64),
    pub no_retry_after_ms: Option<u64>,
    pub delay_ms: Option<u64>,
    pub run_in_ms: Option<i64>,
    pub needs: Option<Amounts>,
    pub resource_group: Option<usize>,
    pub needs_override: u8,
    pub environment: Option<usize>,
    /// Whether it says why it was submitted, and what it is.
    pub says: bool,
    /// What its first op hands over, in bytes, where that is much.
    pub payload_bytes: Option<usize>,
    pub batch_name: Option<usize>,
    pub ops: Vec<OpSeed>,
}

#[derive(Clone, Debug)]
pub struct OpSeed {
    pub kind: usize,
    pub priority: Option<i64>,
    pub depends: Vec<DependsSeed>,
}

#[derive(Clone, Debug)]
pub struct DependsSeed {
    pub on: OnSeed,
    pub accept: u8,
}

#[derive(Clone, Copy, Debug)]
pub enum OnSeed {
    Job(Pick),
    Back(u32),
    Named(usize),
}

#[derive(Clone, Copy, Debug)]
pub enum Fault {
    Undecodable,
    NoOps,
    TooManyOps,
    QueueName,
    LeaseTooShort,
    LeaseTooLong,
    TooLarge,
}

pub fn spec() -> BoxedStrategy<SpecSeed> {
    let ops = prop_oneof![4 => vec(op(), 1..2), 3 => vec(op(), 2..5)];
    let time = (option::weighted(0.2, delay_ms()), option::weighted(0.1, -1000..100_000i64));
    let failing = (
        option::of(any::<bool>()),
        prop::bool::weighted(0.8),
        prop_oneof![3 => Just(0u32), 2 => 1..4u32],
        0..3u32,
        select(vec![(0u64, 0u64), (0, 150), (1, 150), (100, 150), (100, 1), (30_000, 1_800_000)]),
        option::weighted(0.2, 0..2000u64),
    );
    let shape = (
        queue(),
        option::of(priority()),
        option::weighted(0.25, 0..3usize),
        option::weighted(0.2, 0..3usize),
        option::weighted(0.3, (0..2usize, option::of(0..4u32))),
        select(vec![100u64, 1_000, 60_000]),
        option::weighted(0.3, amounts()),
    );
    let batch_name = option::weighted(0.3, 0..3usize);
    let environment = option::weighted(0.08, 0..4usize);
    let payload_bytes = option::weighted(0.007, select(vec![500_000usize, 1_000_000]));
    let says = (prop::bool::weighted(0.2), payload_bytes);
    let more = (option::weighted(0.2, 0..2usize), 0..3u8, batch_name, environment, says);
    (option::weighted(0.06, fault()), shape, failing, time, ops, more)
        .prop_map(|(fault, shape, failing, time, ops, more)| {
            let (resource_group, needs_override, batch_name, environment, (says, payload_bytes)) = more;
            let (queue, priority, unique, group, limit, lease_ms, needs) = shape;
            let (bury, rerun_on_loss, retries, lost_limit, backoff, no_retry_after_ms) = failing;
            let (delay_ms, run_in_ms) = time;
            SpecSeed {
                fault,
                queue,
                priority,
                unique,
                group,
                limit,
                lease_ms,
                bury,
                rerun_on_loss,
                retries,
                lost_limit,
                backoff,
                no_retry_after_ms,
                delay_ms,
                run_in_ms,
                needs,
                resource_group,
                needs_override,
                environment,
                says,
                payload_bytes,
                batch_name,
                ops,
            }
        })
        .boxed()
}

fn op() -> impl Strategy<Value = OpSeed> {
    let depends = prop_oneof![6 => Just(Vec::new()), 1 => vec(dependency(), 1..3)];
    (0..3usize, option::weighted(0.3, priority()), depends).prop_map(|(kind, priority, depends)| OpSeed {
        kind,
        priority,
        depends,
    })
}

fn dependency() -> impl Strategy<Value = DependsSeed> {
    let on = prop_oneof![
        3 => pick().prop_map(OnSeed::Job),
        2 => (0..4u32).prop_map(OnSeed::Back),
        2 => (0..3usize).prop_map(OnSeed::Named),
    ];
    (on, 0..8u8).prop_map(|(on, accept)| DependsSeed { on, accept })
}

fn fault() -> impl Strategy<Value = Fault> {
    select(vec![
        Fault::Undecodable,
        Fault::NoOps,
        Fault::TooManyOps,
        Fault::QueueName,
        Fault::LeaseTooShort,
        Fault::LeaseTooLong,
        Fault::TooLarge,
    ])
}
