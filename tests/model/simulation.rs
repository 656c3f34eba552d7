//! Long lives from one seed: hundreds of entries on one state, where the short ones of `agree` cannot get.
//!
//! `RAFTQ_SEEDS=5000 cargo test --test model simulation` runs more of them; `RAFTQ_SEED=17` runs that one again.

use proptest::{
    strategy::{Strategy, ValueTree},
    test_runner::{Config, RngAlgorithm, TestRng, TestRunner},
};

use crate::{
    agreement::Pair,
    generate::{self, EntrySeed},
};

/// Few enough for every run of the tests.
const SEEDS: u64 = 20;
pub const ENTRIES: usize = 400;

#[test]
fn long_lives_agree_with_the_model() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let seeds = match number("RAFTQ_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("RAFTQ_SEEDS").unwrap_or(SEEDS),
    };
    for seed in seeds {
        if let Err(what) = live(seed) {
            panic!("{what}\n\nagain: RAFTQ_SEED={seed} cargo test --test model simulation");
        }
    }
}

fn live(seed: u64) -> Result<(), String> {
    let mut pair = Pair::new();
    for (number, entry) in log(seed, ENTRIES).iter().enumerate() {
        pair.step(entry).map_err(|what| format!("entry {number}: {what}"))?;
        if number % 25 == 0 {
            pair.check_memory()?;
        }
    }
    pair.run_dry()
}

/// The log that a seed stands for.
pub fn log(seed: u64, entries: usize) -> Vec<EntrySeed> {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    generate::log(entries..entries + 1).new_tree(&mut runner).expect("the strategy refuses nothing").current()
}
