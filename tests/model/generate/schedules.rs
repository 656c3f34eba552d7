//! What becomes of schedules.

use proptest::{option, prelude::*};

use super::specs::{SpecSeed, spec};

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

pub fn schedule() -> impl Strategy<Value = ScheduleSeed> {
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
