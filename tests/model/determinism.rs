//! P9: the same log gives the same state, however it was cut into batches, and whether or not a node was restarted in it.

use raftq::queue::{State, applied::Answer, command::Entry, ids::Index};

use crate::{agreement::Pair, simulation, store::Store};

/// What a replica ends with.
#[derive(Debug, PartialEq)]
struct Outcome {
    answers: Vec<Vec<Answer>>,
    store: Store,
}

/// When a replica stores what it has, and when it is restarted.
#[derive(Clone, Copy)]
struct Habits {
    store_every: usize,
    restart_every: Option<usize>,
}

#[test]
fn replicas_agree_whatever_their_batches_and_restarts() {
    for seed in 1000..1010 {
        let log = real_log(seed, 250);
        let once = replay(&log, Habits { store_every: usize::MAX, restart_every: None });
        for habits in [
            Habits { store_every: 1, restart_every: None },
            Habits { store_every: 7, restart_every: None },
            Habits { store_every: 1, restart_every: Some(1) },
            Habits { store_every: 5, restart_every: Some(15) },
            Habits { store_every: 40, restart_every: Some(40) },
        ] {
            let other = replay(&log, habits);
            same(&once, &other, seed, habits);
        }
    }
}

/// The entries that a seed's steps come to.
fn real_log(seed: u64, entries: usize) -> Vec<Entry> {
    let mut pair = Pair::new();
    simulation::log(seed, entries).iter().map(|step| pair.step(step).expect("agreement is tested elsewhere")).collect()
}

fn replay(log: &[Entry], habits: Habits) -> Outcome {
    let (mut state, mut store, mut answers) = (State::default(), Store::default(), Vec::new());
    for (number, entry) in log.iter().enumerate() {
        answers.push(state.apply(&store, Index(number as u64 + 1), entry).answers);
        if (number + 1) % habits.store_every == 0 {
            store.take(state.take_changes());
        }
        if habits.restart_every.is_some_and(|every| (number + 1) % every == 0) {
            state = State::load(&store);
        }
    }
    store.take(state.take_changes());
    Outcome { answers, store }
}

fn same(once: &Outcome, other: &Outcome, seed: u64, habits: Habits) {
    let which = format!("seed {seed}, stored every {}, restarted every {:?}", habits.store_every, habits.restart_every);
    for (number, (one, two)) in once.answers.iter().zip(&other.answers).enumerate() {
        assert_eq!(one, two, "{which}: the answers to entry {number} differ");
    }
    for (key, row) in &once.store.rows {
        assert_eq!(Some(row), other.store.rows.get(key), "{which}: row {key:?}");
    }
    assert_eq!(once.store.rows.len(), other.store.rows.len(), "{which}: more rows than should be");
}
