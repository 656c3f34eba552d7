//! The strategy: what may happen, and how often.

use proptest::{collection::vec, option, prelude::*, sample::select};

/// One entry of the log to come.
#[derive(Clone, Debug)]
pub struct EntrySeed {
    pub cluster_ms: u64,
    pub wall_ms: i64,
    pub office: OfficeSeed,
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
    /// An earlier request again, word for word.
    Again {
        pick: usize,
    },
    /// An earlier key with another body.
    Conflict {
        pick: usize,
    },
}

/// Which job is meant.
#[derive(Clone, Copy, Debug)]
pub enum Pick {
    Live(usize),
    Held(usize),
    Any(usize),
    Unknown,
}

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
    },
    Kick(Vec<Pick>),
    Bury(Vec<Pick>),
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
        /// Whether its author read the job as it is.
        read: Option<bool>,
    },
    /// A bulk call.
    KickPiece(Vec<Pick>),
    Drain {
        drained: bool,
        reason: bool,
    },
    Pause {
        queue: Option<usize>,
        paused: bool,
    },
    PoolSize(u32),
    Limit {
        name: usize,
        max: Option<u32>,
    },
    LiveMax(u64),
    PoolTimeout(u64),
    ArchiveAfter(Option<u64>),
    DeleteAfter(Option<u64>),
    Schedule {
        name: usize,
        change: ScheduleSeed,
    },
}

#[derive(Clone, Debug)]
pub enum ScheduleSeed {
    Put {
        spec: Box<SpecSeed>,
        every_ms: u64,
        skip: bool,
        paused: Option<bool>,
        if_absent: bool,
    },
    Remove,
    Pause(bool),
    Run,
    /// From where it stands, or from elsewhere; a slot of this age, if it has one.
    Advance {
        stale: bool,
        age_ms: i64,
        missed: bool,
        next: Option<u64>,
    },
}

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
    pub needs: Option<u64>,
    pub resource_group: Option<usize>,
    pub needs_override: u8,
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
}

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
    pub free: Option<u64>,
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
    Start,
    Touch {
        lines: usize,
        seq: Option<u64>,
    },
    Success {
        lines: usize,
        children: Vec<SpecSeed>,
        atomic: bool,
        peak_mb: Option<u64>,
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
    Bury,
}

/// A whole log.
pub fn log(entries: impl Into<proptest::collection::SizeRange>) -> impl Strategy<Value = Vec<EntrySeed>> {
    vec(entry(), entries)
}

fn entry() -> impl Strategy<Value = EntrySeed> {
    (cluster_ms(), wall_ms(), office(), vec((key(), step()), 0..5))
        .prop_map(|(cluster_ms, wall_ms, office, requests)| EntrySeed { cluster_ms, wall_ms, office, requests })
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
        1 => any::<usize>().prop_map(|pick| KeySeed::Conflict { pick }),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        10 => prop::bool::weighted(0.1).prop_map(|hold_wall| Step::Tick { hold_wall }),
        14 => (vec(spec(), 0..4), prop::bool::weighted(0.3)).prop_map(|(specs, atomic)| Step::Submit { specs, atomic }),
        24 => claim().prop_map(Step::Claim),
        30 => (vec(item(), 1..4), option::weighted(0.3, claim())).prop_map(|(items, claim)| Step::Leases { items, claim }),
        5 => (picks(), 0..3u8).prop_map(|(picks, how)| Step::Cancel { picks, how }),
        4 => (any::<usize>(), 1..3u8).prop_map(|(pick, how)| Step::Cancel { picks: vec![Pick::Held(pick)], how }),
        4 => picks().prop_map(Step::Kick),
        2 => picks().prop_map(Step::Bury),
        3 => (picks(), priority()).prop_map(|(picks, priority)| Step::Priority { picks, priority }),
        2 => picks().prop_map(Step::Archive),
        1 => (option::of(prop_oneof![Just(0u64), 1..100_000u64]), 1..4u32, any::<bool>())
            .prop_map(|(age_ms, limit, follow)| Step::Autoarchive { age_ms, limit, follow }),
        2 => picks().prop_map(Step::Delete),
        3 => (pick(), option::weighted(0.9, spec()), option::weighted(0.2, prop::bool::weighted(0.7)))
            .prop_map(|(pick, to, read)| Step::Edit { pick, to, read }),
        1 => picks().prop_map(Step::KickPiece),
        2 => (prop::bool::weighted(0.25), any::<bool>()).prop_map(|(drained, reason)| Step::Drain { drained, reason }),
        2 => (option::of(queue()), prop::bool::weighted(0.25)).prop_map(|(queue, paused)| Step::Pause { queue, paused }),
        1 => (0..5u32).prop_map(Step::PoolSize),
        2 => (0..2usize, option::of(0..4u32)).prop_map(|(name, max)| Step::Limit { name, max }),
        1 => prop_oneof![1 => 1..8u64, 3 => Just(1_000_000u64)].prop_map(Step::LiveMax),
        1 => prop_oneof![Just(100u64), Just(2_000u64)].prop_map(Step::PoolTimeout),
        1 => age_rule().prop_map(Step::ArchiveAfter),
        1 => age_rule().prop_map(Step::DeleteAfter),
        10 => (0..3usize, schedule()).prop_map(|(name, change)| Step::Schedule { name, change }),
    ]
}

fn schedule() -> impl Strategy<Value = ScheduleSeed> {
    let every_ms = prop_oneof![1 => Just(999u64), 12 => Just(1_000u64), 3 => 1_000..100_000u64];
    let put = (spec(), every_ms, any::<bool>(), option::weighted(0.1, any::<bool>()), prop::bool::weighted(0.2));
    let age_ms = prop_oneof![8 => Just(0i64), 4 => 0..2_000i64, 1 => -1_000..0i64];
    let next = option::weighted(0.95, prop_oneof![3 => 1..50u64, 1 => 1..100_000u64]);
    let advance = (prop::bool::weighted(0.1), age_ms, prop::bool::weighted(0.1), next);
    prop_oneof![
        5 => put.prop_map(|(spec, every_ms, skip, paused, if_absent)| {
            ScheduleSeed::Put { spec: Box::new(spec), every_ms, skip, paused, if_absent }
        }),
        1 => Just(ScheduleSeed::Remove),
        2 => prop::bool::weighted(0.3).prop_map(ScheduleSeed::Pause),
        2 => Just(ScheduleSeed::Run),
        12 => advance.prop_map(|(stale, age_ms, missed, next)| ScheduleSeed::Advance { stale, age_ms, missed, next }),
    ]
}

fn age_rule() -> impl Strategy<Value = Option<u64>> {
    option::of(select(vec![0u64, 100, 21_600_000]))
}

fn picks() -> impl Strategy<Value = Vec<Pick>> {
    vec(pick(), 1..4)
}

fn pick() -> impl Strategy<Value = Pick> {
    prop_oneof![
        8 => any::<usize>().prop_map(Pick::Live),
        3 => any::<usize>().prop_map(Pick::Held),
        6 => any::<usize>().prop_map(Pick::Any),
        1 => Just(Pick::Unknown),
    ]
}

fn queue() -> impl Strategy<Value = usize> {
    0..3usize
}

fn priority() -> impl Strategy<Value = i64> {
    prop_oneof![3 => -2..3i64, 1 => select(vec![-20i64, 20])]
}

fn spec() -> BoxedStrategy<SpecSeed> {
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
        option::weighted(0.3, 0..5u64),
    );
    let more = (option::weighted(0.2, 0..2usize), 0..3u8, option::weighted(0.3, 0..3usize));
    (option::weighted(0.06, fault()), shape, failing, time, ops, more)
        .prop_map(|(fault, shape, failing, time, ops, more)| {
            let (resource_group, needs_override, batch_name) = more;
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
    ])
}

fn delay_ms() -> impl Strategy<Value = u64> {
    prop_oneof![1 => Just(0u64), 3 => 1..200u64, 1 => 1000..100_000u64]
}

fn peak_mb() -> impl Strategy<Value = u64> {
    prop_oneof![4 => 0..500u64, 1 => 8_000..9_000u64]
}

fn claim() -> impl Strategy<Value = ClaimSeed> {
    (
        0..3usize,
        prop::bool::weighted(0.4),
        vec(queue(), 1..4),
        option::weighted(0.15, picks()),
        option::weighted(0.1, 0..3usize),
        1..4u32,
        option::weighted(0.2, select(vec![100u64, 5_000])),
        any::<bool>(),
        option::weighted(0.2, 0..5u64),
    )
        .prop_map(|(worker, pool, queues, ids, kind, max, lease_ms, start, free)| ClaimSeed {
            worker,
            pool,
            queues,
            ids,
            kind,
            max,
            lease_ms,
            start,
            free,
        })
}

fn item() -> impl Strategy<Value = ItemSeed> {
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
        0..13usize,
        option::of(any::<bool>()),
        option::weighted(0.2, delay_ms()),
        option::of(0..4000u64),
        option::of(peak_mb()),
    );
    let success = (0..3usize, option::weighted(0.1, vec(spec(), 0..3)), any::<bool>(), option::of(peak_mb()));
    prop_oneof![
        6 => Just(ActionSeed::Start),
        4 => (0..3usize, option::of(0..6u64)).prop_map(|(lines, seq)| ActionSeed::Touch { lines, seq }),
        8 => success.prop_map(|(lines, children, atomic, peak_mb)| {
            ActionSeed::Success { lines, children: children.unwrap_or_default(), atomic, peak_mb }
        }),
        8 => failure.prop_map(|(reason, retryable, delay_ms, wall_ms, peak_mb)| {
            ActionSeed::Failure { reason, retryable, delay_ms, wall_ms, peak_mb }
        }),
        2 => delay_ms().prop_map(|delay_ms| ActionSeed::Release { delay_ms }),
        1 => Just(ActionSeed::Bury),
    ]
}
