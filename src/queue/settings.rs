//! Replicated settings: what an operator turns, and every leader obeys.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::ids::WallMs;

/// Whether submissions are closed, and by whom.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drain {
    pub drained: bool,
    pub reason: Option<Box<str>>,
    pub by: Box<str>,
    pub since: Option<WallMs>,
}

/// The built-in worker pool, which runs on whichever node leads.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pool {
    pub active: bool,
    pub size: u32,
    pub queues: Vec<Arc<str>>,
    /// After a change of leader, an old pool's leases end this long after the new leader's first entry.
    pub timeout_ms: u64,
}

/// The rest of what an operator sets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    pub live_jobs_max: u64,
    pub archive_after_ms: Option<u64>,
    pub delete_after_ms: Option<u64>,
    pub bury_impossible: bool,
}

pub const LIVE_JOBS_MAX_DEFAULT: u64 = 1_000_000;
pub const ARCHIVE_AFTER_MS_DEFAULT: u64 = 6 * 3600 * 1000;
pub const POOL_TIMEOUT_MS_DEFAULT: u64 = 2_000;

impl Default for Settings {
    fn default() -> Self {
        Self {
            live_jobs_max: LIVE_JOBS_MAX_DEFAULT,
            archive_after_ms: Some(ARCHIVE_AFTER_MS_DEFAULT),
            delete_after_ms: None,
            bury_impossible: false,
        }
    }
}

impl Default for Pool {
    fn default() -> Self {
        Self {
            active: false,
            size: 0,
            queues: vec![Arc::from(super::job::QUEUE_DEFAULT)],
            timeout_ms: POOL_TIMEOUT_MS_DEFAULT,
        }
    }
}
