//! Replicated settings: drain, pauses, pool, limit groups, policy.

use std::sync::Arc;

use raftq::queue::{
    applied::Answer,
    command::{PoolChange, SettingsChange},
    settings::Drain,
};

use super::Model;

impl Model {
    /// Draining twice keeps who, why and since when.
    pub(super) fn set_drain(&mut self, drained: bool, reason: Option<Box<str>>) -> Answer {
        if drained != self.drain.drained {
            let by = self.principal.as_ref().into();
            self.drain = Drain { drained, reason, by, since: Some(self.now.wall) };
        }
        Answer::Drain(self.drain.clone())
    }

    pub(super) fn set_pause(&mut self, queue: Option<Arc<str>>, paused: bool) -> Answer {
        let queue = queue.unwrap_or_else(|| Arc::from(""));
        match paused {
            true => self.paused.insert(queue),
            false => self.paused.remove(&queue),
        };
        Answer::Done
    }

    pub(super) fn set_pool(&mut self, change: &PoolChange) -> Answer {
        let pool = &mut self.pool;
        pool.active = change.active.unwrap_or(pool.active);
        pool.size = change.size.unwrap_or(pool.size);
        pool.queues = change.queues.clone().unwrap_or_else(|| pool.queues.clone());
        Answer::Pool(pool.clone())
    }

    pub(super) fn set_limit(&mut self, name: Arc<str>, max: Option<u32>) -> Answer {
        match max {
            Some(max) => self.limits.insert(name, max),
            None => self.limits.remove(&name),
        };
        Answer::Done
    }

    pub(super) fn set_settings(&mut self, change: &SettingsChange) -> Answer {
        let settings = &mut self.settings;
        settings.live_jobs_max = change.live_jobs_max.unwrap_or(settings.live_jobs_max);
        settings.archive_after_ms = change.archive_after_ms.unwrap_or(settings.archive_after_ms);
        settings.delete_after_ms = change.delete_after_ms.unwrap_or(settings.delete_after_ms);
        settings.bury_impossible = change.bury_impossible.unwrap_or(settings.bury_impossible);
        self.pool.timeout_ms = change.pool_timeout_ms.unwrap_or(self.pool.timeout_ms);
        Answer::Done
    }
}
