//! Which of the things that are there a step means, and how urgent or late it is.

use proptest::{collection::vec, prelude::*, sample::select};

/// Which job is meant.
#[derive(Clone, Copy, Debug)]
pub enum Pick {
    Live(usize),
    Held(usize),
    Any(usize),
    /// The one that was submitted last.
    Newest,
    Unknown,
}

pub fn picks() -> impl Strategy<Value = Vec<Pick>> {
    vec(pick(), 1..4)
}

pub fn pick() -> impl Strategy<Value = Pick> {
    prop_oneof![
        8 => any::<usize>().prop_map(Pick::Live),
        3 => any::<usize>().prop_map(Pick::Held),
        6 => any::<usize>().prop_map(Pick::Any),
        1 => Just(Pick::Unknown),
    ]
}

pub fn queue() -> impl Strategy<Value = usize> {
    0..3usize
}

pub fn priority() -> impl Strategy<Value = i64> {
    prop_oneof![3 => -2..3i64, 1 => select(vec![-20i64, 20])]
}

pub fn delay_ms() -> impl Strategy<Value = u64> {
    prop_oneof![1 => Just(0u64), 3 => 1..200u64, 1 => 1000..100_000u64]
}
