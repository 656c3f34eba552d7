//! Newtypes for what is counted: ids, indexes, leases, priorities and the two clocks.
//!
//! Every number that a client sees stays below 2^53, so that JSON readers which know only doubles read it exactly.

use serde::{Deserialize, Serialize};

/// The first number that JSON readers can no longer tell from its neighbour.
pub const NUMBER_LIMIT: u64 = 1 << 53;

macro_rules! number {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub u64);

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

number! {
    /// A job, from 1, in the order of commitment, never reused (P2).
    JobId
}
number! {
    /// One grant of one op to one holder. Rises for ever, across failovers and restores (P3).
    LeaseId
}
number! {
    /// A position in the replicated log.
    Index
}
number! {
    /// Milliseconds on the cluster clock, which never jumps and stands still while there is no leader (design 2.1).
    ClusterMs
}
number! {
    /// Milliseconds since the Unix epoch, as the leader's wall clock said when it proposed the entry (design 2.1).
    WallMs
}

impl ClusterMs {
    pub const NEVER: ClusterMs = ClusterMs(u64::MAX);

    /// The moment `ms` later. Saturates: a deadline that far away never comes.
    pub fn after(self, ms: u64) -> Self {
        Self(self.0.saturating_add(ms))
    }
}

/// Lower goes first, as nice, Ganeti and beanstalkd have it. Default 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Priority(pub i64);

impl std::fmt::Display for Priority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// A wall time or none, in eight bytes: no event of a job happened at the Unix epoch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Stamp(u64);

impl Stamp {
    pub const NONE: Stamp = Stamp(0);

    pub fn at(time: WallMs) -> Self {
        Self(time.0.max(1))
    }

    pub fn time(self) -> Option<WallMs> {
        (self.0 != 0).then_some(WallMs(self.0))
    }
}
