//! What the entries of one batch changed, laid over the rows that are stored: apply reads what it wrote.

use std::{mem::discriminant, sync::Arc};

use super::{
    ids::{JobId, WallMs},
    rows::{Changes, Row, RowKey, Rows},
};

impl Changes {
    pub fn put(&mut self, key: RowKey, row: Row) {
        self.rows.insert(key, Some(row));
    }

    pub fn delete(&mut self, key: RowKey) {
        self.rows.insert(key, None);
    }

    /// The row as apply sees it.
    pub fn read(&self, rows: &dyn Rows, key: &RowKey) -> Option<Row> {
        match self.rows.get(key) {
            Some(changed) => changed.clone(),
            None if self.is_dropped(key) => None,
            None => rows.get(key),
        }
    }

    fn is_dropped(&self, key: &RowKey) -> bool {
        match key {
            RowKey::KeySlot(principal, name, _) if !self.dropped_names.is_empty() => {
                self.dropped_names.contains(&(principal.clone(), name.clone()))
            }
            _ => key.job().is_some_and(|id| self.dropped_jobs.contains(&id)),
        }
    }

    /// Rows of the kind of `from`, from it on, in key order, as apply sees them, for as long as `each` says true.
    pub fn scan(&self, rows: &dyn Rows, from: &RowKey, each: &mut dyn FnMut(&RowKey, &Row) -> bool) {
        let kind = discriminant(from);
        let mut changed = self.rows.range(from.clone()..).take_while(|(key, _)| discriminant(*key) == kind).peekable();
        let mut more = true;
        rows.scan(from, &mut |key, row| {
            while let Some((ahead, new)) = changed.next_if(|(ahead, _)| **ahead < key) {
                more = new.as_ref().is_none_or(|new| each(ahead, new));
                if !more {
                    return false;
                }
            }
            more = match changed.next_if(|(ahead, _)| **ahead == key) {
                Some((_, Some(new))) => each(&key, new),
                Some((_, None)) => true,
                None => each(&key, &row),
            };
            more
        });
        while let Some((key, new)) = changed.next().filter(|_| more) {
            more = new.as_ref().is_none_or(|new| each(key, new));
        }
    }

    /// Every row of a job goes, except those whose key does not begin with its id: whoever calls deletes those.
    pub fn drop_job(&mut self, id: JobId) {
        for (first, last) in job_ranges(id) {
            let gone: Vec<RowKey> = self.rows.range(first..=last).map(|(key, _)| key.clone()).collect();
            for key in gone {
                self.rows.remove(&key);
            }
        }
        self.dropped_jobs.insert(id);
    }

    /// An idempotency name and every answer kept under it go.
    pub fn drop_name(&mut self, principal: &Arc<str>, name: &Arc<str>) {
        let first = RowKey::KeySlot(principal.clone(), name.clone(), 0);
        let last = RowKey::KeySlot(principal.clone(), name.clone(), u32::MAX);
        let gone: Vec<RowKey> = self.rows.range(first..=last).map(|(key, _)| key.clone()).collect();
        for key in gone {
            self.rows.remove(&key);
        }
        self.delete(RowKey::KeyName(principal.clone(), name.clone()));
        self.dropped_names.insert((principal.clone(), name.clone()));
    }

    /// The end of the first job in an index by end.
    pub fn first_ended(&self, rows: &dyn Rows, from: &RowKey) -> Option<WallMs> {
        let mut first = None;
        self.scan(rows, from, &mut |key, _| {
            if let RowKey::EndedAt(at, _) | RowKey::ArchivedAt(at, _) = key {
                first = Some(*at);
            }
            false
        });
        first
    }
}

/// The ranges of keys that begin with a job's id.
fn job_ranges(id: JobId) -> [(RowKey, RowKey); 11] {
    const END: u32 = u32::MAX;
    [
        (RowKey::Live(id), RowKey::Live(id)),
        (RowKey::Ended(id), RowKey::Ended(id)),
        (RowKey::Archived(id), RowKey::Archived(id)),
        (RowKey::Spec(id), RowKey::Spec(id)),
        (RowKey::Result(id, 0), RowKey::Result(id, END)),
        (RowKey::Attempt(id, 0, 0), RowKey::Attempt(id, END, END)),
        (RowKey::Log(id, 0), RowKey::Log(id, u64::MAX)),
        (RowKey::Reason(id, 0), RowKey::Reason(id, END)),
        (RowKey::Checkpoint(id), RowKey::Checkpoint(id)),
        (RowKey::Progress(id), RowKey::Progress(id)),
        (RowKey::Waits(id), RowKey::Waits(id)),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::queue::testing::Memory;

    fn ended(at: u64) -> RowKey {
        RowKey::EndedAt(WallMs(at), 1)
    }

    fn scanned(changes: &Changes, rows: &Memory, from: u64, max: usize) -> Vec<u64> {
        let mut seen = Vec::new();
        changes.scan(rows, &ended(from), &mut |key, _| {
            let RowKey::EndedAt(at, _) = key else { panic!("another kind: {key:?}") };
            seen.push(at.0);
            seen.len() < max
        });
        seen
    }

    #[test]
    fn scan_merges_what_is_stored_with_what_changed() {
        let mut rows = Memory::default();
        for at in [2, 4, 6] {
            rows.rows.insert(ended(at), Row::Mark);
        }
        rows.rows.insert(RowKey::ArchivedAt(WallMs(9), 1), Row::Mark);
        let mut changes = Changes::default();
        for at in [1, 3, 4, 7, 8] {
            changes.put(ended(at), Row::Mark);
        }
        changes.delete(ended(6));
        changes.delete(ended(7));
        changes.put(RowKey::ArchivedAt(WallMs(3), 1), Row::Mark);
        assert_eq!(scanned(&changes, &rows, 0, 99), [1, 2, 3, 4, 8]);
        assert_eq!(scanned(&changes, &rows, 3, 99), [3, 4, 8]);
        for max in 1..5 {
            assert_eq!(scanned(&changes, &rows, 0, max), [1, 2, 3, 4, 8][..max], "stopped after {max}");
        }
    }
}
