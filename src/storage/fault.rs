//! For tests: a process that dies just before one of its writes.

use std::sync::atomic::{AtomicU64, Ordering};

/// Writes until the abort, plus 1; 0: never.
static LEFT: AtomicU64 = AtomicU64::new(0);

/// Aborts the process at its `number`th write, flush or change of pointer from now on, counted from 1.
pub fn abort_at_write(number: u64) {
    LEFT.store(number + 1, Ordering::SeqCst);
}

pub(super) fn count_write() {
    let left = LEFT.load(Ordering::SeqCst);
    if left == 2 {
        std::process::abort();
    }
    if left > 2 {
        LEFT.fetch_sub(1, Ordering::SeqCst);
    }
}
