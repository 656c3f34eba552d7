//! Jobs that have ended: only counts and the oldest end stay in memory, the jobs themselves are rows.
//!
//! Archiving by age answers how many are left to do (design 2.2). Ends are counted by the minute, so that the answer
//! costs the minutes before the cutoff plus the jobs within the one that the cutoff splits, never all jobs.

use std::collections::BTreeMap;

use super::{
    ids::{JobId, WallMs},
    rows::{Changes, Row, RowKey, Rows},
    settings::Settings,
    span,
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
        (history.oldest_ended, history.oldest_archived) = (Some(WallMs(0)), Some(WallMs(0)));
        history.stale = true;
        history.refresh(&Changes::default(), rows);
        history
    }

    pub fn add_ended(&mut self, changes: &mut Changes, rows: &dyn Rows, end: WallMs, id: JobId) {
        add(changes, rows, RowKey::EndedAt, end, id);
        self.oldest_ended = Some(self.oldest_ended.map_or(end, |oldest| oldest.min(end)));
        let minute = end.0 / MINUTE_MS;
        let jobs = self.minutes.entry(minute).or_default();
        *jobs += 1;
        changes.put(RowKey::EndedMinute(minute), Row::Count(*jobs));
    }

    pub fn remove_ended(&mut self, changes: &mut Changes, rows: &dyn Rows, end: WallMs, id: JobId) {
        remove(changes, rows, RowKey::EndedAt, end, id);
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

    pub fn add_archived(&mut self, changes: &mut Changes, rows: &dyn Rows, end: WallMs, id: JobId) {
        add(changes, rows, RowKey::ArchivedAt, end, id);
        self.oldest_archived = Some(self.oldest_archived.map_or(end, |oldest| oldest.min(end)));
    }

    pub fn remove_archived(&mut self, changes: &mut Changes, rows: &dyn Rows, end: WallMs, id: JobId) {
        remove(changes, rows, RowKey::ArchivedAt, end, id);
        self.stale |= self.oldest_archived == Some(end);
    }

    /// Finds the oldest again, once per command: one by one, each would step over all that went before it. Nothing is older than
    /// what was the oldest; to look from the beginning would step over all that went in earlier commands.
    pub fn refresh(&mut self, changes: &Changes, rows: &dyn Rows) {
        if !std::mem::take(&mut self.stale) {
            return;
        }
        let first = |oldest: Option<WallMs>, from: fn(WallMs) -> RowKey| changes.first_ended(rows, &from(oldest?));
        self.oldest_ended = first(self.oldest_ended, |at| RowKey::EndedAt(at, 0));
        self.oldest_archived = first(self.oldest_archived, |at| RowKey::ArchivedAt(at, 0));
    }

    /// How many not archived jobs ended before `cutoff`.
    pub fn ended_before(&self, changes: &Changes, rows: &dyn Rows, cutoff: WallMs) -> u64 {
        let split = cutoff.0 / MINUTE_MS;
        let mut jobs: u64 = self.minutes.range(..split).map(|(_, jobs)| jobs).sum();
        if !self.minutes.contains_key(&split) {
            return jobs;
        }
        changes.scan(rows, &RowKey::EndedAt(WallMs(split * MINUTE_MS), 0), &mut |key, row| {
            let (end, _, bits) = named(key, row);
            if end < cutoff {
                jobs += u64::from(bits.count_ones());
            }
            end < cutoff
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

/// By moment and number of the span.
type Index = fn(WallMs, u64) -> RowKey;

fn add(changes: &mut Changes, rows: &dyn Rows, index: Index, end: WallMs, id: JobId) {
    let (span, bit) = span::place(id);
    let key = index(end, span);
    let bits = bits(changes, rows, &key) | bit;
    changes.put(key, Row::Count(bits));
}

fn remove(changes: &mut Changes, rows: &dyn Rows, index: Index, end: WallMs, id: JobId) {
    let (span, bit) = span::place(id);
    let key = index(end, span);
    match bits(changes, rows, &key) {
        bits if bits & bit == 0 => changes.delete(index(end, id.0)),
        bits if bits == bit => changes.delete(key),
        bits => changes.put(key, Row::Count(bits & !bit)),
    }
}

fn bits(changes: &Changes, rows: &dyn Rows, key: &RowKey) -> u64 {
    match changes.read(rows, key) {
        Some(Row::Count(bits)) => bits,
        _ => 0,
    }
}

/// What a row of an index by end says: a moment, a span, and which of it ended then. Rows that only mark are of a time when each job
/// had one of its own, under its own number.
pub fn named(key: &RowKey, row: &Row) -> (WallMs, u64, u64) {
    let (RowKey::EndedAt(end, number) | RowKey::ArchivedAt(end, number)) = key else {
        panic!("a scan stays within its kind")
    };
    let (span, bits) = match row {
        Row::Count(bits) => (*number, *bits),
        _ => span::place(JobId(*number)),
    };
    (*end, span, bits)
}

fn due(oldest: Option<WallMs>, after_ms: Option<u64>) -> Option<WallMs> {
    let (oldest, after_ms) = (oldest?, after_ms?);
    Some(WallMs(oldest.0.saturating_add(after_ms).saturating_add(1)))
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;
    use crate::queue::testing::Memory;

    /// Counts the rows that are read.
    #[derive(Default)]
    struct Counted {
        rows: Memory,
        read: Cell<u64>,
    }

    impl Rows for Counted {
        fn get(&self, key: &RowKey) -> Option<Row> {
            self.rows.get(key)
        }

        fn scan(&self, from: &RowKey, each: &mut dyn FnMut(RowKey, Row) -> bool) {
            self.rows.scan(from, &mut |key, row| {
                self.read.set(self.read.get() + 1);
                each(key, row)
            });
        }
    }

    const JOBS: u64 = 1000;

    /// Jobs 1 to [`JOBS`] have ended, one each millisecond, and are stored.
    fn ended() -> (History, Counted) {
        let (mut history, mut rows, mut changes) = (History::default(), Counted::default(), Changes::default());
        (1..=JOBS).for_each(|at| history.add_ended(&mut changes, &rows, WallMs(at), JobId(at)));
        rows.rows.store(changes);
        (history, rows)
    }

    #[test]
    fn oldest_end_is_found_without_stepping_over_what_went_before() {
        const PIECE: u64 = 10;
        let (mut history, rows) = ended();
        // One batch of entries may hold all the pieces, as it does when a log is applied anew.
        let mut changes = Changes::default();
        for first in (1..=JOBS).step_by(PIECE as usize) {
            (first..first + PIECE).for_each(|at| history.remove_ended(&mut changes, &rows, WallMs(at), JobId(at)));
            history.refresh(&changes, &rows);
            assert_eq!(history.oldest_ended, (first + PIECE <= JOBS).then_some(WallMs(first + PIECE)));
        }
        let pieces = JOBS / PIECE;
        assert!(rows.read.get() <= JOBS + pieces, "{} rows read for {JOBS} jobs", rows.read.get());
    }

    #[test]
    fn history_that_is_loaded_is_the_one_that_was_stored() {
        let (mut history, mut rows) = ended();
        let mut changes = Changes::default();
        history.remove_ended(&mut changes, &rows, WallMs(1), JobId(1));
        history.add_archived(&mut changes, &rows, WallMs(1), JobId(1));
        history.refresh(&changes, &rows);
        rows.rows.store(changes);
        assert_eq!(History::load(&rows), history);
        assert_eq!((history.oldest_ended, history.oldest_archived), (Some(WallMs(2)), Some(WallMs(1))));
        assert_eq!(History::load(&Memory::default()), History::default());
    }

    #[test]
    fn jobs_before_a_cutoff_are_read_only_in_the_minute_that_it_splits() {
        let (mut history, mut rows) = ended();
        let mut changes = Changes::default();
        let late = 2 * MINUTE_MS;
        for (at, id) in [(late, 2001), (late + 5, 2002), (late + 9, 2003)] {
            history.add_ended(&mut changes, &rows, WallMs(at), JobId(id));
        }
        rows.rows.store(changes);
        let before = |cutoff| history.ended_before(&Changes::default(), &rows, WallMs(cutoff));
        assert_eq!((before(0), before(MINUTE_MS), before(late), before(late + 1)), (0, JOBS, JOBS, JOBS + 1));
        rows.read.set(0);
        assert_eq!((before(late + 9), before(late + 10)), (JOBS + 2, JOBS + 3));
        assert!(rows.read.get() <= 6, "{} rows read", rows.read.get());
    }

    /// As it was before jobs that ended at one moment shared rows.
    #[test]
    fn ends_with_a_row_each_are_read_and_removed() {
        let (mut history, mut rows, mut changes) = (History::default(), Counted::default(), Changes::default());
        history.add_ended(&mut changes, &rows, WallMs(5), JobId(700));
        changes.delete(RowKey::EndedAt(WallMs(5), span::place(JobId(700)).0));
        changes.put(RowKey::EndedAt(WallMs(5), 700), Row::Mark);
        rows.rows.store(changes);
        let mut changes = Changes::default();
        history.add_ended(&mut changes, &rows, WallMs(6), JobId(701));
        let named: Vec<_> = {
            let mut named = Vec::new();
            changes.scan(&rows, &RowKey::EndedAt(WallMs(0), 0), &mut |key, row| {
                let (end, span, bits) = super::named(key, row);
                named.extend(span::ids(span, bits).map(|id| (end.0, id.0)));
                true
            });
            named
        };
        assert_eq!(named, [(5, 700), (6, 701)]);
        assert_eq!(history.ended_before(&changes, &rows, WallMs(6)), 1);
        history.remove_ended(&mut changes, &rows, WallMs(5), JobId(700));
        history.refresh(&changes, &rows);
        assert_eq!(history.oldest_ended, Some(WallMs(6)));
    }
}
