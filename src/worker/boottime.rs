//! The clock on which proofs of leadership and of leases are counted: it includes suspend and never jumps, and two
//! processes of one machine read the same value, so the node can tell the supervisor *until when* and not *for how
//! long*: a message that lay in a socket while everything was frozen then grants nothing new.

use nix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

/// Milliseconds since the machine started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Boottime(u64);

impl Boottime {
    pub const ZERO: Self = Self(0);
    pub const NEVER: Self = Self(u64::MAX);

    pub fn now() -> Self {
        let time = clock_gettime(ClockId::CLOCK_BOOTTIME).expect("CLOCK_BOOTTIME is in every Linux since 2.6.39");
        Self(time.tv_sec() as u64 * 1000 + time.tv_nsec() as u64 / 1_000_000)
    }

    /// From a reading of the same clock, as [`crate::clock::Clock::monotonic_ms`] of a system clock is.
    pub fn from_ms(ms: u64) -> Self {
        Self(ms)
    }

    pub fn after_ms(self, ms: u64) -> Self {
        Self(self.0.saturating_add(ms))
    }

    /// 0 if `earlier` is the later one.
    pub fn ms_since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}
