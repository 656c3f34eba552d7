//! The property: after any log, the core and the model have answered alike and hold the same jobs, every promise is kept,
//! and every job can still be brought to its end.
//!
//! `PROPTEST_CASES=100000 cargo test --test model agree` for a long run; a failing case is shrunk and printed, and its
//! seed is kept in `proptest-regressions/`.

use proptest::{prelude::*, test_runner::Config};

use crate::{agreement::Pair, generate};

/// Few enough for every run of the tests; `PROPTEST_CASES` says otherwise.
const CASES: u32 = 500;

fn config() -> Config {
    let cases = if std::env::var_os("PROPTEST_CASES").is_some() { Config::default().cases } else { CASES };
    Config { cases, max_shrink_iters: 20_000, ..Config::default() }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn the_core_does_what_the_model_does(log in generate::log(1..60)) {
        let mut pair = Pair::new();
        for (number, seed) in log.iter().enumerate() {
            pair.step(seed).map_err(|what| TestCaseError::fail(format!("entry {number}: {what}")))?;
        }
        pair.check_memory().map_err(TestCaseError::fail)?;
        pair.run_dry().map_err(TestCaseError::fail)?;
    }
}
