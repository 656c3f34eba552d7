//! Jobs that have ended: only counts and the oldest end stay in memory, the jobs themselves are rows.
//!
//! Archiving by age answers how many are left to do (design 2.2). Ends are counted by the minute, so that the answer
//! costs the minutes before the cutoff plus the jobs within the one that the cutoff splits, never all jobs.

use std::collections::BTreeMap;

use super::{
    ids::{JobId, WallMs},
    rows::{Changes, Row, RowKey, Rows},
    settings::Settings,
};

const MINUTE_MS: u64 = 60_000;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct History {
    /// Jobs that have ended and are not archived, by minute of their end.
    minutes: BTreeMap<u64, u64>,
    /// The first end among those, and among the archived ones.
    oldest_ended: Option<WallMs>,
    oldest_archived: Option<WallMs>,
    /// An oldest one went in this command: look again at its end.
    stale: bool,
}

impl History {
    pub fn load(rows: &dyn Rows) -> Self {
        let mut history = History::default();
        rows.scan(&RowKey::EndedMinute(0), &mut |key, row| {
            let (RowKey::EndedMinute(minute), Row::Count(jobs)) = (key, row) else {
                panic!("a minute's row holds a count")
            };
            history.minutes.insert(minute, jobs);
            true
        });
        history.stale = true;
        history.refresh(&Changes::default(), rows);
        history
    }

    pub fn add_ended(&mut self, changes: &mut Changes, end: WallMs, id: JobId) {
        changes.put(RowKey::EndedAt(end, id), Row::Mark);
        self.oldest_ended = Some(self.oldest_ended.map_or(end, |oldest| oldest.min(end)));
        let minute = end.0 / MINUTE_MS;
        let jobs = self.minutes.entry(minute).or_default();
        *jobs += 1;
        changes.put(RowKey::EndedMinute(minute), Row::Count(*jobs));
    }

    pub fn remove_ended(&mut self, changes: &mut Changes, end: WallMs, id: JobId) {
        changes.delete(RowKey::EndedAt(end, id));
        self.stale |= self.oldest_ended == Some(end);
        let minute = end.0 / MINUTE_MS;
        let jobs = self.minutes.get_mut(&minute).expect("a job that ended was counted");
        *jobs -= 1;
        if *jobs > 0 {
            changes.put(RowKey::EndedMinute(minute), Row::Count(*jobs));
            return;
        }
        self.minutes.remove(&minute);
        changes.delete(RowKey::EndedMinute(minute));
    }

    pub fn add_archived(&mut self, changes: &mut Changes, end: WallMs, id: JobId) {
        changes.put(RowKey::ArchivedAt(end, id), Row::Mark);
        self.oldest_archived = Some(self.oldest_archived.map_or(end, |oldest| oldest.min(end)));
    }

    pub fn remove_archived(&mut self, changes: &mut Changes, end: WallMs, id: JobId) {
        changes.delete(RowKey::ArchivedAt(end, id));
        self.stale |= self.oldest_archived == Some(end);
    }

    /// Finds the oldest again, once per command: one by one, each would step over all that went before it.
    pub fn refresh(&mut self, changes: &Changes, rows: &dyn Rows) {
        if !std::mem::take(&mut self.stale) {
            return;
        }
        self.oldest_ended = changes.first_ended(rows, &RowKey::EndedAt(WallMs(0), JobId(0)));
        self.oldest_archived = changes.first_ended(rows, &RowKey::ArchivedAt(WallMs(0), JobId(0)));
    }

    /// How many not archived jobs ended before `cutoff`.
    pub fn ended_before(&self, changes: &Changes, rows: &dyn Rows, cutoff: WallMs) -> u64 {
        let split = cutoff.0 / MINUTE_MS;
        let mut jobs: u64 = self.minutes.range(..split).map(|(_, jobs)| jobs).sum();
        if !self.minutes.contains_key(&split) {
            return jobs;
        }
        changes.scan(rows, &RowKey::EndedAt(WallMs(split * MINUTE_MS), JobId(0)), &mut |key, _| {
            let RowKey::EndedAt(end, _) = key else { panic!("a scan stays within its kind") };
            jobs += u64::from(*end < cutoff);
            *end < cutoff
        });
        jobs
    }

    /// Jobs that have ended and are not archived.
    pub fn ended(&self) -> u64 {
        self.minutes.values().sum()
    }

    /// When the settings next want something archived or deleted: strictly after that age.
    pub fn next_deadline(&self, settings: &Settings) -> Option<WallMs> {
        let archive = due(self.oldest_ended, settings.archive_after_ms);
        let delete = due(self.oldest_archived, settings.delete_after_ms);
        [archive, delete].into_iter().flatten().min()
    }
}

fn due(oldest: Option<WallMs>, after_ms: Option<u64>) -> Option<WallMs> {
    let (oldest, after_ms) = (oldest?, after_ms?);
    Some(WallMs(oldest.0.saturating_add(after_ms).saturating_add(1)))
}
