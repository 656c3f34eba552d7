//! A view of a store that stands still while the store moves on.

use std::sync::Arc;

use rocksdb::{DB, DBRawIteratorWithThreadMode, ReadOptions, Snapshot};

use super::{
    error::StorageError,
    key::after_prefix,
    store::{Family, Store},
};

/// Whoever reads everything reads the files in pieces of this size.
const READ_AHEAD_BYTES: usize = 1 << 20;

/// The store as it was when this was made, for as long as this lives.
pub struct Pinned {
    // Declared before `store`: fields drop in this order, so the snapshot goes before the database it points into.
    snapshot: Snapshot<'static>,
    store: Arc<Store>,
}

impl Pinned {
    pub(super) fn new(store: Arc<Store>) -> Self {
        let snapshot = store.db().snapshot();
        // SAFETY: the snapshot borrows the `DB` inside the `Arc`, whose address never changes and which this value keeps
        // alive; `snapshot` is never handed out and drops before `store`.
        let snapshot = unsafe { std::mem::transmute::<Snapshot<'_>, Snapshot<'static>>(snapshot) };
        Self { snapshot, store }
    }

    pub fn store(&self) -> &Arc<Store> {
        &self.store
    }

    pub fn get(&self, family: Family, key: &[u8]) -> Result<Option<Vec<u8>>, StorageError> {
        self.snapshot.get_cf(self.store.handle(family), key).map_err(|e| self.store.error(&e))
    }

    /// All entries of `family`, in order, for as long as `each` says true; past the cache, which what is in use would leave.
    pub fn scan_all(&self, family: Family, each: &mut dyn FnMut(&[u8], &[u8]) -> bool) -> Result<(), StorageError> {
        self.walk(family, past_the_cache(), &[], each)
    }

    /// Entries of `family` from `from` to before `to`, in order, for as long as `each` says true. What was deleted behind `to` is not
    /// stepped over.
    pub fn scan_to(
        &self,
        family: Family,
        from: &[u8],
        to: &[u8],
        each: &mut dyn FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<(), StorageError> {
        let mut options = ReadOptions::default();
        options.set_iterate_upper_bound(to);
        self.walk(family, options, from, each)
    }

    /// Entries of `family` whose key begins with `prefix`, from `from` on, in order, for as long as `each` says true.
    pub fn scan(
        &self,
        family: Family,
        prefix: &[u8],
        from: &[u8],
        each: &mut dyn FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<(), StorageError> {
        self.walk(family, within(prefix), from, each)
    }

    fn walk(
        &self,
        family: Family,
        options: ReadOptions,
        from: &[u8],
        each: &mut dyn FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<(), StorageError> {
        let entries = self.snapshot.raw_iterator_cf_opt(self.store.handle(family), options);
        walk(entries, from, each).map_err(|e| self.store.error(&e))
    }
}

/// For whoever reads everything, once.
pub(super) fn past_the_cache() -> ReadOptions {
    let mut options = ReadOptions::default();
    options.fill_cache(false);
    options.set_readahead_size(READ_AHEAD_BYTES);
    options
}

/// Ends an iterator behind `prefix`. Without a bound it would look for the next entry through everything that was deleted
/// behind the prefix and is not compacted yet, before it could be told to stop.
pub(super) fn within(prefix: &[u8]) -> ReadOptions {
    let mut options = ReadOptions::default();
    if let Some(end) = after_prefix(prefix) {
        options.set_iterate_upper_bound(end);
    }
    options
}

pub(super) fn walk(
    mut entries: DBRawIteratorWithThreadMode<'_, DB>,
    from: &[u8],
    each: &mut dyn FnMut(&[u8], &[u8]) -> bool,
) -> Result<(), rocksdb::Error> {
    entries.seek(from);
    while let Some((key, value)) = entries.item() {
        if !each(key, value) {
            return Ok(());
        }
        entries.next();
    }
    entries.status()
}

#[cfg(test)]
mod tests {
    use rocksdb::perf::{PerfContext, PerfMetric, PerfStatsLevel, set_perf_stats};

    use super::*;
    use crate::storage::{Batch, StoreKind, Synced};

    const ROWS: Family = Family::new("rows");
    const DELETED: u32 = 20_000;

    /// What lies behind a prefix was deleted and is not compacted yet: history that retention has just eaten. A scan of
    /// the prefix once waded through all of it, each time, before it found that nothing more was its own.
    #[test]
    fn scan_of_a_prefix_never_reads_what_was_deleted_behind_it() {
        let directory = tempfile::tempdir().expect("a directory");
        let store = Arc::new(Store::open(directory.path(), StoreKind::State, &[ROWS]).expect("opens"));
        let mut batch = Batch::new();
        batch.put(ROWS, b"a1", b"kept");
        for number in 0..DELETED {
            batch.put(ROWS, [b"b", &number.to_be_bytes()[..]].concat(), b"gone soon");
        }
        store.write(batch, Synced::No).expect("writes");
        let mut batch = Batch::new();
        for number in 0..DELETED {
            batch.delete(ROWS, [b"b", &number.to_be_bytes()[..]].concat());
        }
        store.write(batch, Synced::No).expect("writes");

        let pinned = store.pin();
        assert_eq!(skipped(|each| pinned.scan(ROWS, b"a", b"a", each)), (1, 0));
        assert_eq!(skipped(|each| store.scan(ROWS, b"a", b"a1", each)), (1, 0));
        assert_eq!(skipped(|each| pinned.scan_to(ROWS, b"a", b"b", each)), (1, 0));
        let (rows, waded) = skipped(|each| store.scan(ROWS, b"", b"a", each));
        assert!(rows == 1 && waded >= u64::from(DELETED), "nothing was there to wade through: {waded}");
    }

    /// A node that had read its log at its start kept the cache full of it for as long as it ran.
    #[test]
    fn scan_of_everything_leaves_the_cache_to_what_is_in_use() {
        let directory = tempfile::tempdir().expect("a directory");
        let open = || Arc::new(Store::open(directory.path(), StoreKind::State, &[ROWS]).expect("opens"));
        let store = open();
        let mut batch = Batch::new();
        (0..10_000_u32).for_each(|number| batch.put(ROWS, number.to_be_bytes(), [7; 400]));
        store.write(batch, Synced::No).expect("writes");
        store.flush().expect("flushes");
        drop(store);

        let (store, mut rows) = (open(), 0);
        let before = store.usage().cache_bytes;
        let mut count = |_: &[u8], _: &[u8]| {
            rows += 1;
            true
        };
        store.scan_all(ROWS, &5_000_u32.to_be_bytes(), &mut count).expect("reads");
        store.pin().scan_all(ROWS, &mut count).expect("reads");
        let kept = store.usage().cache_bytes - before;
        store.scan(ROWS, &[], &[], &mut count).expect("reads");
        assert_eq!(rows, 5_000 + 10_000 + 10_000);
        assert!(kept < 100_000, "{kept} bytes of what was read once are kept");
        assert!(store.usage().cache_bytes - before > 2_000_000, "another scan would have filled it");
    }

    /// The rows that a scan gave, and the deleted ones that it read past.
    fn skipped(scan: impl FnOnce(&mut dyn FnMut(&[u8], &[u8]) -> bool) -> Result<(), StorageError>) -> (usize, u64) {
        set_perf_stats(PerfStatsLevel::EnableCount);
        let mut context = PerfContext::default();
        context.reset();
        let mut rows = 0;
        let scanned = scan(&mut |_, _| {
            rows += 1;
            true
        });
        scanned.expect("reads");
        (rows, context.metric(PerfMetric::InternalDeleteSkippedCount))
    }
}
