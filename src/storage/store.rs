//! One RocksDB: families of ordered keys, batches that are written whole, flushes.

use std::{
    ops::Range,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use rocksdb::{ColumnFamily, DB, FlushOptions, Options, WriteBatch, WriteOptions};

use super::{
    error::StorageError,
    loader::Loader,
    options::{StoreKind, of_family},
    pinned::{self, Pinned},
};

/// A named, ordered key space of a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Family {
    pub name: &'static str,
    /// How many first bytes of a key tell one growing run of keys from another; none where keys come in one order.
    pub(super) run_bytes: Option<usize>,
    /// Whether its files say what they do not hold.
    pub(super) filtered: bool,
}

/// Whether a write waits for the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Synced {
    /// On disk when the call returns.
    Yes,
    /// Not even in the write-ahead log: durable with the next [`Store::flush`].
    No,
}

pub struct Store {
    db: DB,
    options: Options,
    path: PathBuf,
    families: &'static [Family],
    // Declared after `db`: fields drop in this order, and the files go when the database is closed.
    superseded: Superseded,
}

/// What a store takes beside its files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StoreUsage {
    /// Rows that are not in files yet.
    pub memtable_bytes: u64,
    /// Blocks of files that were read lately.
    pub cache_bytes: u64,
    /// Indexes and filters of the files.
    pub index_bytes: u64,
    /// Files that compaction has not sorted into the rest; writes slow down at twenty.
    pub level_0_files: u64,
    pub compaction_bytes_due: u64,
}

/// Set once another store has taken this one's place; the directory then goes with its last user.
struct Superseded {
    path: PathBuf,
    set: AtomicBool,
}

/// Changes that are written all together or not at all.
#[derive(Default)]
pub struct Batch {
    changes: Vec<Change>,
    /// The keys and values of all changes, one behind the other: a batch has thousands of them, most of a few bytes.
    bytes: Vec<u8>,
}

struct Change {
    family: Family,
    kind: ChangeKind,
    /// Where in `bytes` the key is.
    key: Range<usize>,
    /// Where the value is, or the end of a range of keys.
    value: Range<usize>,
}

enum ChangeKind {
    Put,
    Delete,
    DeleteRange,
}

impl Family {
    pub const fn new(name: &'static str) -> Self {
        Self { name, run_bytes: None, filtered: true }
    }

    /// For keys that grow at many places at once, each place known by the first `run_bytes` of its keys: an insert then
    /// begins to look where the last one of its run ended, instead of at the top of the whole table.
    pub const fn of_runs(name: &'static str, run_bytes: usize) -> Self {
        Self { name, run_bytes: Some(run_bytes), filtered: true }
    }

    /// For keys that whoever looks for them finds: filters would be made with each flush and spare no look.
    pub const fn unfiltered(self) -> Self {
        Self { filtered: false, ..self }
    }
}

impl Store {
    /// Opens the store in directory `path`, making it if it is not there.
    ///
    /// # Errors
    /// In use, damaged, or unreadable; nothing is repaired or deleted.
    pub fn open(path: &Path, kind: StoreKind, families: &'static [Family]) -> Result<Self, StorageError> {
        let options = kind.options();
        let descriptors = families
            .iter()
            .map(|family| rocksdb::ColumnFamilyDescriptor::new(family.name, of_family(&options, *family)))
            .chain([rocksdb::ColumnFamilyDescriptor::new("default", options.clone())]);
        let db = DB::open_cf_descriptors(&options, path, descriptors)
            .map_err(|error| StorageError::from_rocksdb(path, &error))?;
        let superseded = Superseded { path: path.to_path_buf(), set: AtomicBool::new(false) };
        Ok(Self { db, options, path: path.to_path_buf(), families, superseded })
    }

    /// Says that another store has taken this one's place for good: its files go once nobody reads it any more.
    pub fn supersede(&self) {
        self.superseded.set.store(true, Ordering::Relaxed);
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn get(&self, family: Family, key: &[u8]) -> Result<Option<Vec<u8>>, StorageError> {
        self.db.get_cf(self.handle(family), key).map_err(|e| self.error(&e))
    }

    /// Writes the whole batch. With [`Synced::Yes`] it is one record of the write-ahead log and one sync.
    ///
    /// # Errors
    /// The disk failed; what is on it is then unknown, and the only safe course is to stop.
    pub fn write(&self, batch: Batch, synced: Synced) -> Result<(), StorageError> {
        let mut write = WriteBatch::with_capacity_bytes(batch.written_bytes());
        // Neighbours are mostly of one family: it is looked up once for them.
        for run in batch.changes.chunk_by(|one, next| one.family == next.family) {
            self.append(&mut write, run, &batch.bytes);
        }
        #[cfg(test)]
        super::fault::count_write();
        let mut options = WriteOptions::default();
        match synced {
            Synced::Yes => options.set_sync(true),
            Synced::No => options.disable_wal(true),
        }
        self.db.write_opt(write, &options).map_err(|e| self.error(&e))
    }

    /// Changes of one family.
    fn append(&self, write: &mut WriteBatch, changes: &[Change], bytes: &[u8]) {
        let Some(first) = changes.first() else { return };
        let handle = self.handle(first.family);
        for Change { kind, key, value, .. } in changes {
            let (key, value) = (&bytes[key.clone()], &bytes[value.clone()]);
            match kind {
                ChangeKind::Put => write.put_cf(handle, key, value),
                ChangeKind::Delete => write.delete_cf(handle, key),
                ChangeKind::DeleteRange => write.delete_range_cf(handle, key, value),
            }
        }
    }

    /// Entries of `family` whose key begins with `prefix`, from `from` on, in order, for as long as `each` says true.
    pub fn scan(
        &self,
        family: Family,
        prefix: &[u8],
        from: &[u8],
        each: &mut dyn FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<(), StorageError> {
        pinned::walk(self.db.raw_iterator_cf_opt(self.handle(family), pinned::within(prefix)), from, each)
            .map_err(|e| self.error(&e))
    }

    /// All entries of `family` from `from` on, as [`Store::scan`] does; past the cache, which what is in use would leave.
    pub fn scan_all(
        &self,
        family: Family,
        from: &[u8],
        each: &mut dyn FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<(), StorageError> {
        pinned::walk(self.db.raw_iterator_cf_opt(self.handle(family), pinned::past_the_cache()), from, each)
            .map_err(|e| self.error(&e))
    }

    /// A view that later writes do not change.
    pub fn pin(self: &Arc<Self>) -> Pinned {
        Pinned::new(Arc::clone(self))
    }

    /// For the rows that an empty store begins with.
    pub fn loader(&self) -> Loader<'_> {
        Loader::new(self)
    }

    /// Everything written before is durable afterwards, all families at one point.
    pub fn flush(&self) -> Result<(), StorageError> {
        #[cfg(test)]
        super::fault::count_write();
        let mut options = FlushOptions::default();
        options.set_wait(true);
        let handles: Vec<_> = self.families.iter().map(|&family| self.handle(family)).collect();
        self.db.flush_cfs_opt(&handles, &options).map_err(|e| self.error(&e))
    }

    /// Drops the files that hold only keys in the range; what remains of it must be deleted by a batch.
    pub fn drop_files_in_range(&self, family: Family, from: &[u8], to: &[u8]) -> Result<(), StorageError> {
        self.db.delete_file_in_range_cf(self.handle(family), from, to).map_err(|e| self.error(&e))
    }

    /// What the store holds in memory, and how far its compactions are behind.
    pub fn usage(&self) -> StoreUsage {
        let of = |family: &Family, property: &str| {
            self.db.property_int_value_cf(self.handle(*family), property).ok().flatten().unwrap_or(0)
        };
        let sum = |property: &str| self.families.iter().map(|family| of(family, property)).sum();
        StoreUsage {
            memtable_bytes: sum("rocksdb.size-all-mem-tables"),
            // All families share one.
            cache_bytes: self.families.first().map_or(0, |family| of(family, "rocksdb.block-cache-usage")),
            index_bytes: sum("rocksdb.estimate-table-readers-mem"),
            level_0_files: sum("rocksdb.num-files-at-level0"),
            compaction_bytes_due: sum("rocksdb.estimate-pending-compaction-bytes"),
        }
    }

    /// Ends the background threads: if they outlived the process's main thread, they would abort it. Nothing is flushed or
    /// compacted from now on.
    pub fn quiesce(&self) {
        self.db.cancel_all_background_work(true);
    }

    pub(super) fn options(&self) -> &Options {
        &self.options
    }

    pub(super) fn db(&self) -> &DB {
        &self.db
    }

    pub(super) fn handle(&self, family: Family) -> &ColumnFamily {
        self.db.cf_handle(family.name).expect("the store was opened with all of its families")
    }

    pub(super) fn error(&self, error: &rocksdb::Error) -> StorageError {
        StorageError::from_rocksdb(&self.path, error)
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.quiesce();
    }
}

impl Drop for Superseded {
    fn drop(&mut self) {
        if self.set.load(Ordering::Relaxed)
            && let Err(error) = std::fs::remove_dir_all(&self.path)
        {
            tracing::warn!(path = %self.path.display(), %error, "superseded store stays until the next start");
        }
    }
}

impl Batch {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn put(&mut self, family: Family, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) {
        self.put_with(family, key, |bytes| bytes.extend_from_slice(value.as_ref()));
    }

    /// As [`Batch::put`], with a value that `write` appends to what it is given.
    pub fn put_with(&mut self, family: Family, key: impl AsRef<[u8]>, write: impl FnOnce(&mut Vec<u8>)) {
        let key = self.hold(key.as_ref());
        let start = self.bytes.len();
        write(&mut self.bytes);
        let value = start..self.bytes.len();
        self.changes.push(Change { family, kind: ChangeKind::Put, key, value });
    }

    pub fn delete(&mut self, family: Family, key: impl AsRef<[u8]>) {
        let key = self.hold(key.as_ref());
        self.changes.push(Change { family, kind: ChangeKind::Delete, key, value: 0..0 });
    }

    /// Deletes from `from` to before `to`.
    pub fn delete_range(&mut self, family: Family, from: impl AsRef<[u8]>, to: impl AsRef<[u8]>) {
        let (key, value) = (self.hold(from.as_ref()), self.hold(to.as_ref()));
        self.changes.push(Change { family, kind: ChangeKind::DeleteRange, key, value });
    }

    fn hold(&mut self, bytes: &[u8]) -> Range<usize> {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(bytes);
        start..self.bytes.len()
    }

    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// What it takes as RocksDB writes it, at most: a head, and for each change its kind, its family, and two lengths.
    fn written_bytes(&self) -> usize {
        const HEAD: usize = 12;
        const CHANGE: usize = 16;
        HEAD + self.bytes.len() + self.changes.len() * CHANGE
    }
}
