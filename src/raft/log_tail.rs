//! What the log store knows without asking the disk: vote, ends, and the newest entries.

use std::collections::VecDeque;

use super::types::{LogEntry, LogId, Vote, entry_bytes};

/// Entries kept in memory, in encoded bytes; those not yet on disk are kept beyond it. It serves followers that keep up:
/// what they lack is the newest second, not more.
const CACHE_BYTES_MAX: usize = 16 << 20;
/// One mark of log size for each so many bytes, to find a purge point without reading entries.
const MARK_BYTES: u64 = 1 << 20;

#[derive(Default)]
pub struct Tail {
    pub vote: Option<Vote>,
    pub purged: Option<LogId>,
    pub last: Option<LogId>,
    /// The index of the very first entry: 0 but in conformance tests.
    base: u64,
    /// The newest entries, without a gap, up to `last`.
    entries: VecDeque<LogEntry>,
    bytes: usize,
    /// Entries below this index are on disk.
    durable_below: u64,
    /// (index, bytes appended before it), about one for each [`MARK_BYTES`].
    marks: VecDeque<(u64, u64)>,
    appended_bytes: u64,
}

impl Tail {
    /// A log of which everything up to `purged` is gone, and nothing follows yet.
    pub fn new(vote: Option<Vote>, purged: Option<LogId>) -> Self {
        Self { vote, purged, last: purged, ..Self::default() }
    }

    pub fn first_index(&self) -> u64 {
        self.purged.map_or(self.base, |id| id.index + 1)
    }

    pub fn next_index(&self) -> u64 {
        self.last.map_or(0, |id| id.index + 1)
    }

    /// The part of `[start, end)` that the log has.
    pub fn clamp(&self, start: u64, end: u64) -> (u64, u64) {
        (start.max(self.first_index()), end.min(self.next_index()))
    }

    /// The index of the oldest entry in memory.
    pub fn cached_from(&self) -> u64 {
        self.next_index() - self.entries.len() as u64
    }

    /// What of `[start, end)` is in memory.
    pub fn cached(&self, start: u64, end: u64) -> Vec<LogEntry> {
        let base = self.cached_from();
        let from = usize::try_from(start.saturating_sub(base)).expect("the cache fits in memory");
        let to = usize::try_from(end.saturating_sub(base)).expect("the cache fits in memory");
        if from >= to {
            return Vec::new();
        }
        self.entries.range(from..to).cloned().collect()
    }

    pub fn append(&mut self, entries: &[LogEntry]) {
        for entry in entries {
            self.push(entry.clone());
        }
    }

    /// Takes in an entry that was read from disk.
    pub fn load(&mut self, entry: LogEntry) {
        self.push(entry);
        self.durable(self.next_index());
    }

    /// Entries below `index` are on disk now, and may leave memory.
    pub fn durable(&mut self, index: u64) {
        // What was cut off meanwhile does not count: other entries will stand at its indexes.
        self.durable_below = index.min(self.next_index());
        while self.bytes > CACHE_BYTES_MAX
            && let Some(front) = self.entries.front()
            && front.log_id.index < self.durable_below
        {
            self.bytes -= entry_bytes(front);
            self.entries.pop_front();
        }
    }

    pub fn truncate_after(&mut self, last: Option<LogId>) {
        let next = last.map_or(0, |id| id.index + 1);
        if next >= self.next_index() {
            return;
        }
        while self.entries.back().is_some_and(|entry| entry.log_id.index >= next) {
            let entry = self.entries.pop_back().expect("just seen");
            self.bytes -= entry_bytes(&entry);
        }
        while self.marks.back().is_some_and(|&(index, _)| index >= next) {
            self.marks.pop_back();
        }
        self.durable_below = self.durable_below.min(next);
        // What was purged is not truncated: `last` never falls below it.
        self.last = last.max(self.purged);
    }

    /// Forgets entries up to `upto`; gives the first index that the log had.
    pub fn purge(&mut self, upto: LogId) -> u64 {
        let from = self.first_index();
        while self.entries.front().is_some_and(|entry| entry.log_id.index <= upto.index) {
            let entry = self.entries.pop_front().expect("just seen");
            self.bytes -= entry_bytes(&entry);
        }
        while self.marks.front().is_some_and(|&(index, _)| index <= upto.index) {
            self.marks.pop_front();
        }
        self.purged = self.purged.max(Some(upto));
        self.last = self.last.max(Some(upto));
        from
    }

    /// About how many bytes of entries there are, on disk and in memory.
    pub fn held_bytes(&self) -> u64 {
        self.marks.front().map_or(0, |&(_, before)| self.appended_bytes - before)
    }

    /// The last index that can go so that about `keep_bytes` of entries stay; `None` where nothing need go.
    pub fn purge_point(&self, keep_bytes: u64) -> Option<u64> {
        let target = self.appended_bytes.checked_sub(keep_bytes)?;
        let at = self.marks.partition_point(|&(_, bytes)| bytes <= target);
        let (index, _) = self.marks.get(at.checked_sub(1)?)?;
        index.checked_sub(1)
    }

    fn push(&mut self, entry: LogEntry) {
        if self.last.is_none() {
            self.base = entry.log_id.index;
        }
        let bytes = entry_bytes(&entry);
        let marked = self.marks.back().map(|&(_, bytes)| bytes);
        if marked.is_none_or(|marked| self.appended_bytes >= marked + MARK_BYTES) {
            self.marks.push_back((entry.log_id.index, self.appended_bytes));
        }
        self.appended_bytes += bytes as u64;
        self.bytes += bytes;
        self.last = Some(entry.log_id);
        self.entries.push_back(entry);
    }
}
