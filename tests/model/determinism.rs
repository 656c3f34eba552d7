//! P9: the same log gives the same answers, effects and rows, byte for byte, however it was cut into batches, and whether or
//! not a node was restarted in it.

use std::collections::BTreeMap;

use raftq::{
    codec::{self, Format},
    queue::{State, applied::Effect, ids::Index, rows::RowKey},
};
use rand::{Rng, SeedableRng, rngs::StdRng};

use crate::{
    agreement::{Happened, Pair},
    simulation,
    store::Store,
};

const SEEDS: std::ops::Range<u64> = 1000..1010;
const ENTRIES: usize = 250;

/// What a replica gave and holds, as bytes.
#[derive(PartialEq)]
struct Outcome {
    answers: Vec<Vec<u8>>,
    /// Which event a client has seen last is told by its number in the entry.
    effects: Vec<Vec<Effect>>,
    rows: BTreeMap<RowKey, Vec<u8>>,
}

/// What a replica does after an entry, besides applying it.
#[derive(Clone, Copy, PartialEq)]
enum After {
    Nothing,
    Store,
    /// What is stored survives; it is all there is, as an entry is acknowledged only with its batch.
    Restart,
}

#[test]
fn replicas_agree_whatever_their_batches_and_restarts() {
    for seed in SEEDS {
        let log = real_log(seed);
        let once = replay(&log, || After::Nothing);
        same(seed, "stored after each entry", &once, &replay(&log, || After::Store));
        same(seed, "restarted after each entry", &once, &replay(&log, || After::Restart));
        let mut random = StdRng::seed_from_u64(seed);
        let habits = || match random.random_range(0..10) {
            0 => After::Restart,
            1..4 => After::Store,
            _ => After::Nothing,
        };
        same(seed, "stored and restarted at random", &once, &replay(&log, habits));
    }
}

/// The entries and restores that a seed's steps come to.
fn real_log(seed: u64) -> Vec<Happened> {
    let mut pair = Pair::new();
    let step = |step| pair.step(step).unwrap_or_else(|what| panic!("agreement, which is tested elsewhere: {what}"));
    simulation::log(seed, ENTRIES).iter().map(step).collect()
}

fn replay(log: &[Happened], mut habits: impl FnMut() -> After) -> Outcome {
    let (mut state, mut store) = (State::default(), Store::default());
    let (mut answers, mut effects) = (Vec::new(), Vec::new());
    for Happened { restoration, entry } in log {
        if let Some(restoration) = restoration {
            store.take(state.take_changes());
            state = State::load(&store);
            state.restore(&store, restoration);
        }
        let index = Index(state.position().index.0 + 1);
        let applied = state.apply(&store, index, entry);
        answers.push(codec::encode(Format::ANSWERS, &applied.answers));
        effects.push(applied.effects);
        let after = habits();
        if after != After::Nothing {
            store.take(state.take_changes());
        }
        if after == After::Restart {
            state = State::load(&store);
        }
    }
    store.take(state.take_changes());
    let rows = store.rows.iter().map(|(key, row)| (key.clone(), codec::encode(Format::ROW, row))).collect();
    Outcome { answers, effects, rows }
}

fn same(seed: u64, which: &str, once: &Outcome, other: &Outcome) {
    let differs = once.answers.iter().zip(&other.answers).position(|(one, two)| one != two);
    assert_eq!(differs, None, "seed {seed}, {which}: this entry was answered differently");
    let differs = once.effects.iter().zip(&other.effects).position(|(one, two)| one != two);
    assert_eq!(differs, None, "seed {seed}, {which}: this entry told something else");
    for (key, row) in &once.rows {
        assert!(Some(row) == other.rows.get(key), "seed {seed}, {which}: row {key:?} differs");
    }
    assert_eq!(once.rows.len(), other.rows.len(), "seed {seed}, {which}: there are more rows than should be");
}
