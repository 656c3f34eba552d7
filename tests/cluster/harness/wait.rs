//! Waiting for what will become true: the only sleeps of these tests.

use std::time::{Duration, Instant};

/// Often enough that a test is not slowed down, seldom enough that two cores have something left for the nodes.
const POLL: Duration = Duration::from_millis(20);

/// Polls until `look` gives something; panics with `what` when it has not within `limit`.
#[track_caller]
pub fn eventually<T>(what: &str, limit: Duration, look: impl FnMut() -> Option<T>) -> T {
    within(limit, look).unwrap_or_else(|| panic!("not within {limit:?}: {what}"))
}

/// The same for who has more to say about it.
pub fn within<T>(limit: Duration, mut look: impl FnMut() -> Option<T>) -> Option<T> {
    let deadline = Instant::now() + limit;
    loop {
        let found = look();
        if found.is_some() || Instant::now() >= deadline {
            return found;
        }
        std::thread::sleep(POLL);
    }
}

/// Polls for all of `span`, and panics with `what` as soon as `holds` says no: for what must not happen.
#[track_caller]
pub fn stays(what: &str, span: Duration, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + span;
    while Instant::now() < end {
        assert!(holds(), "did not stay so for {span:?}: {what}");
        std::thread::sleep(POLL);
    }
}
