//! The same few steps over and over in one entry, so that what grows with repetition comes to its limit.

use proptest::{collection::vec, prelude::*, sample::select};

use super::{
    entries::KeySeed,
    leases::{ActionSeed, ClaimSeed, ItemSeed, ReportSeed, ResultSeed, Whose, outputs},
    picks::Pick,
    specs::{OpSeed, SpecSeed, spec},
    steps::Step,
};

type Requests = Vec<(KeySeed, Step)>;

pub fn storm() -> impl Strategy<Value = Requests> {
    prop_oneof![3 => life(), 1 => reasons(), 1 => numbers(), 1 => names()]
}

/// A new job runs, in one entry, for longer than all that is kept of it.
fn life() -> impl Strategy<Value = Requests> {
    let turns = vec(turn(), 1..40).prop_map(|turns| turns.concat());
    (eager(), turns).prop_map(|(spec, turns)| {
        let open = [
            Step::Drain { drained: false, reason: false },
            Step::Pause { queue: None, paused: false },
            Step::Submit { specs: vec![spec], atomic: false },
        ];
        open.into_iter().chain(turns).map(|step| (KeySeed::None, step)).collect()
    })
}

/// Nothing keeps this job from running.
fn eager() -> impl Strategy<Value = SpecSeed> {
    spec().prop_map(|spec| SpecSeed {
        fault: None,
        queue: 2,
        unique: None,
        limit: None,
        bury: Some(true),
        retries: 1_000,
        backoff: (0, 0),
        delay_ms: None,
        run_in_ms: None,
        needs: None,
        resource_group: None,
        environment: None,
        ops: spec.ops.into_iter().map(|op| OpSeed { depends: Vec::new(), ..op }).collect(),
        ..spec
    })
}

/// A claim of the newest job, if nobody holds it, and what its holder says then.
fn turn() -> impl Strategy<Value = Vec<Step>> {
    let failure = outputs().prop_map(|outputs| {
        let report = ReportSeed { outputs, ..ReportSeed::default() };
        ActionSeed::Failure { reason: "interrupted", retryable: None, delay_ms: None, report }
    });
    let success = (select(vec![0usize, 100, 70_000, 150_000]), outputs()).prop_map(|(left, outputs)| {
        let report = ReportSeed { outputs, ..ReportSeed::default() };
        ActionSeed::Success { children: Vec::new(), atomic: false, result: ResultSeed::Filling(left), report }
    });
    let touch = (1..200usize).prop_map(|lines| ActionSeed::Touch {
        lines,
        line_bytes: 4_096,
        seq: None,
        progress: None,
        checkpoint: None,
        beyond: None,
    });
    let call = prop_oneof![10 => failure, 1 => success, 1 => touch].prop_map(|action| {
        let call = Step::Leases { items: vec![ItemSeed { whose: Whose::Latest, action }], claim: None };
        let ids = Some(vec![Pick::Newest]);
        vec![Step::Claim(ClaimSeed { ids, start: true, max: 1, ..ClaimSeed::default() }), call]
    });
    let edit = spec().prop_map(|spec| vec![Step::Edit { pick: Pick::Newest, to: Some(spec) }]);
    let put_aside = Just(vec![Step::Bury { picks: vec![Pick::Newest], says: true }]);
    let take_back = Just(vec![Step::Kick(vec![Pick::Newest])]);
    prop_oneof![20 => call, 1 => edit, 1 => put_aside, 2 => take_back]
}

/// A job is put aside and taken back: more reasons than are kept.
fn reasons() -> impl Strategy<Value = Requests> {
    (any::<usize>(), 90..120usize).prop_map(|(pick, times)| {
        let picks = vec![Pick::Live(pick)];
        repeat(times, &[Step::Bury { picks: picks.clone(), says: true }, Step::Kick(picks)])
    })
}

/// A busy name.
fn numbers() -> impl Strategy<Value = Requests> {
    (0..4usize, 1..60usize).prop_map(|(name, times)| vec![(KeySeed::Next { name }, Step::Environment(0)); times])
}

/// Many names, each used once, which are dropped together later on.
fn names() -> impl Strategy<Value = Requests> {
    vec(Just((KeySeed::Fresh, Step::Environment(0))), 250..270)
}

fn repeat(times: usize, steps: &[Step]) -> Requests {
    (0..times).flat_map(|_| steps).map(|step| (KeySeed::None, step.clone())).collect()
}
