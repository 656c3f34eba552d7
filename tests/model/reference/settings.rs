//! Replicated settings: drain, pauses, pool, limit groups, policy.

use std::sync::Arc;

use raftq::queue::{
    applied::Answer,
    command::{PoolChange, SettingsChange},
    refusal::Refusal,
    settings::Drain,
};

use super::Model;

const POOL_SIZE_MAX: u32 = 10_000;
/// Ten years.
const AGE_MS_MAX: u64 = 10 * 366 * 86_400_000;
const LIVE_JOBS_MAX_MAX: u64 = 1_000_000_000;

impl Model {
    /// Draining twice keeps who, why and since when.
    pub(super) fn set_drain(&mut self, drained: bool, reason: Option<Box<str>>) -> Answer {
        if drained != self.drain.drained {
            let by = self.principal.as_ref().into();
            self.told.settings = true;
            self.drain = Drain { drained, reason, by, since: Some(self.now.wall) };
        }
        Answer::Drain(self.drain.clone())
    }

    pub(super) fn set_pause(&mut self, queue: Option<Arc<str>>, paused: bool) -> Answer {
        let queue = queue.unwrap_or_else(|| Arc::from(""));
        self.told.settings |= match paused {
            true => self.paused.insert(queue),
            false => self.paused.remove(&queue),
        };
        Answer::Done
    }

    pub(super) fn forget_queue(&mut self, queue: &Arc<str>) -> Answer {
        let Some(ends) = self.totals.remove(queue) else {
            return Answer::Refused(Refusal::NoQueue { name: (&**queue).into() });
        };
        let forgotten = self.totals.entry("".into()).or_default();
        for (status, count) in ends {
            *forgotten.entry(status).or_default() += count;
        }
        Answer::Done
    }

    pub(super) fn set_pool(&mut self, change: &PoolChange) -> Answer {
        if change.size.is_some_and(|size| size > POOL_SIZE_MAX) {
            return Answer::Refused(Refusal::invalid("size", ""));
        }
        let before = self.pool.clone();
        let pool = &mut self.pool;
        pool.active = change.active.unwrap_or(pool.active);
        pool.size = change.size.unwrap_or(pool.size);
        pool.queues = change.queues.clone().unwrap_or_else(|| pool.queues.clone());
        self.told.settings |= *pool != before;
        Answer::Pool(pool.clone())
    }

    pub(super) fn set_limit(&mut self, name: Arc<str>, max: Option<u32>) -> Answer {
        let before = match max {
            Some(max) => self.limits.insert(name, max),
            None => self.limits.remove(&name),
        };
        self.told.settings |= before != max;
        Answer::Done
    }

    pub(super) fn set_settings(&mut self, change: &SettingsChange) -> Answer {
        if let Some(field) = wrong_field(change) {
            return Answer::Refused(Refusal::invalid(field, ""));
        }
        self.told.settings = true;
        let settings = &mut self.settings;
        settings.live_jobs_max = change.live_jobs_max.unwrap_or(settings.live_jobs_max);
        settings.archive_after_ms = change.archive_after_ms.unwrap_or(settings.archive_after_ms);
        settings.delete_after_ms = change.delete_after_ms.unwrap_or(settings.delete_after_ms);
        settings.bury_impossible = change.bury_impossible.unwrap_or(settings.bury_impossible);
        self.pool.timeout_ms = change.pool_timeout_ms.unwrap_or(self.pool.timeout_ms);
        Answer::Done
    }
}

fn wrong_field(change: &SettingsChange) -> Option<&'static str> {
    if change.live_jobs_max.is_some_and(|max| max > LIVE_JOBS_MAX_MAX) {
        return Some("live_jobs_max");
    }
    let ages = [("archive_after_ms", change.archive_after_ms), ("delete_after_ms", change.delete_after_ms)];
    if let Some((field, _)) = ages.into_iter().find(|(_, age)| age.flatten().is_some_and(|ms| ms > AGE_MS_MAX)) {
        return Some(field);
    }
    change.pool_timeout_ms.filter(|ms| !(100..=3_600_000).contains(ms)).map(|_| "pool_timeout_ms")
}
