//! What workers ask for and report.

use proptest::{collection::vec, option, prelude::*, sample::select};

use super::{
    picks::{Pick, delay_ms, pick, picks, queue},
    settings::{Amounts, amounts},
    specs::{SpecSeed, spec},
};

#[derive(Clone, Debug, Default)]
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
    /// The one that was granted last.
    Latest,
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
        line_bytes: usize,
        seq: Option<u64>,
        progress: Option<u8>,
        checkpoint: Option<u8>,
        beyond: Option<Beyond>,
    },
    Success {
        children: Vec<SpecSeed>,
        atomic: bool,
        result: ResultSeed,
        report: ReportSeed,
    },
    Failure {
        reason: &'static str,
        retryable: Option<bool>,
        delay_ms: Option<u64>,
        report: ReportSeed,
    },
    Release {
        delay_ms: u64,
        says: bool,
    },
    Bury {
        says: bool,
    },
}

/// What an op says that it brought about.
#[derive(Clone, Copy, Debug)]
pub enum ResultSeed {
    None,
    Small,
    /// All the room that the job has left, but for so many bytes.
    Filling(usize),
    /// A byte more than there is room for.
    TooLarge,
}

/// What an attempt measured and wrote.
#[derive(Clone, Debug, Default)]
pub struct ReportSeed {
    pub lines: usize,
    pub line_bytes: usize,
    pub seq: Option<u64>,
    pub wall_ms: Option<u64>,
    pub peak_mb: Option<u64>,
    /// Exit code, time on processors, shell, and what went wrong.
    pub more: Option<i32>,
    /// How many bytes it wrote to standard output and error.
    pub outputs: [Option<usize>; 2],
    pub beyond: Option<Beyond>,
}

/// What of a call is a byte longer than it may be.
#[derive(Clone, Copy, Debug)]
pub enum Beyond {
    Error,
    Stdout,
    Stderr,
    Line,
    Progress,
    Checkpoint,
}

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

pub fn claim() -> impl Strategy<Value = ClaimSeed> {
    let max = prop_oneof![60 => 1..4u32, 1 => select(vec![0u32, 1_001])];
    let wanted = (vec(queue(), 1..4), option::weighted(0.15, picks()));
    (
        0..3usize,
        prop::bool::weighted(0.4),
        wanted,
        option::weighted(0.1, 0..3usize),
        max,
        option::weighted(0.2, prop_oneof![20 => select(vec![100u64, 5_000]), 1 => select(vec![99u64, 86_400_001])]),
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
    let failure = (select(&REASONS[..]), option::of(any::<bool>()), option::weighted(0.2, delay_ms()), report());
    let children = option::weighted(0.2, vec(spec(), 0..3));
    let success = (children, any::<bool>(), result(), report());
    let said = || option::weighted(0.3, any::<u8>());
    let beyond = select(vec![Beyond::Line, Beyond::Progress, Beyond::Checkpoint]);
    let touch = (0..3usize, line_bytes(), option::of(0..6u64), said(), said(), option::weighted(0.02, beyond));
    prop_oneof![
        6 => option::weighted(0.3, 100..105u32).prop_map(|pid| ActionSeed::Start { pid }),
        4 => touch.prop_map(|(lines, line_bytes, seq, progress, checkpoint, beyond)| {
            ActionSeed::Touch { lines, line_bytes, seq, progress, checkpoint, beyond }
        }),
        8 => success.prop_map(|(children, atomic, result, report)| {
            ActionSeed::Success { children: children.unwrap_or_default(), atomic, result, report }
        }),
        8 => failure.prop_map(|(reason, retryable, delay_ms, report)| {
            ActionSeed::Failure { reason, retryable, delay_ms, report }
        }),
        2 => (delay_ms(), any::<bool>()).prop_map(|(delay_ms, says)| ActionSeed::Release { delay_ms, says }),
        1 => any::<bool>().prop_map(|says| ActionSeed::Bury { says }),
    ]
}

fn result() -> impl Strategy<Value = ResultSeed> {
    prop_oneof![
        40 => Just(ResultSeed::None),
        40 => Just(ResultSeed::Small),
        1 => prop_oneof![Just(0usize), 1..200usize, 1_000..80_000usize].prop_map(ResultSeed::Filling),
        1 => Just(ResultSeed::TooLarge),
    ]
}

fn report() -> impl Strategy<Value = ReportSeed> {
    let beyond = select(vec![Beyond::Error, Beyond::Stdout, Beyond::Stderr, Beyond::Line]);
    let lines = (0..3usize, line_bytes(), option::of(0..6u64));
    (
        lines,
        option::of(0..4000u64),
        option::of(peak_mb()),
        option::of(-1..3i32),
        outputs(),
        option::weighted(0.02, beyond),
    )
        .prop_map(|((lines, line_bytes, seq), wall_ms, peak_mb, more, outputs, beyond)| ReportSeed {
            lines,
            line_bytes,
            seq,
            wall_ms,
            peak_mb,
            more,
            outputs,
            beyond,
        })
}

fn line_bytes() -> impl Strategy<Value = usize> {
    prop_oneof![9 => 0..9usize, 1 => Just(4_096usize)]
}

pub fn outputs() -> impl Strategy<Value = [Option<usize>; 2]> {
    let bytes = || option::of(prop_oneof![8 => 0..30usize, 1 => 30..3_000usize, 1 => Just(65_536usize)]);
    [bytes(), bytes()]
}

fn peak_mb() -> impl Strategy<Value = u64> {
    prop_oneof![4 => 0..500u64, 1 => 8_000..9_000u64]
}
