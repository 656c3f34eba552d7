//! Fills an empty store with rows that come in order, as all those of a snapshot do: they are written as files of the store's own kind,
//! which it takes over as they are. Through memtables each row would be written three times, and the store would be compacting for
//! minutes after, with its writers waiting.

use std::path::PathBuf;

use rocksdb::{IngestExternalFileOptions, SstFileWriter};

use super::{
    error::StorageError,
    store::{Family, Store},
};

/// The rows of a file, about.
const FILE_BYTES: usize = 32 << 20;

pub struct Loader<'a> {
    store: &'a Store,
    file: Option<Loading<'a>>,
    files: u64,
}

/// A file that is being written.
struct Loading<'a> {
    family: Family,
    path: PathBuf,
    writer: SstFileWriter<'a>,
    bytes: usize,
}

impl<'a> Loader<'a> {
    pub(super) fn new(store: &'a Store) -> Self {
        Self { store, file: None, files: 0 }
    }

    /// The rows of a family come in the order of their keys, one family behind the other.
    ///
    /// # Errors
    /// The disk failed, or the rows are not in order.
    pub fn put(&mut self, family: Family, key: &[u8], value: &[u8]) -> Result<(), StorageError> {
        if self.file.as_ref().is_some_and(|file| file.family != family || file.bytes >= FILE_BYTES) {
            self.hand_over()?;
        }
        let mut file = match self.file.take() {
            Some(file) => file,
            None => self.begin(family)?,
        };
        file.bytes += key.len() + value.len();
        file.writer.put(key, value).map_err(|e| self.store.error(&e))?;
        self.file = Some(file);
        Ok(())
    }

    /// Every row is in the store, and on the disk.
    pub fn finish(mut self) -> Result<(), StorageError> {
        self.hand_over()
    }

    fn begin(&mut self, family: Family) -> Result<Loading<'a>, StorageError> {
        self.files += 1;
        let path = self.store.path().join(format!("loading-{}", self.files));
        let writer = SstFileWriter::create(self.store.options());
        writer.open(&path).map_err(|e| self.store.error(&e))?;
        Ok(Loading { family, path, writer, bytes: 0 })
    }

    fn hand_over(&mut self) -> Result<(), StorageError> {
        let Some(mut file) = self.file.take() else { return Ok(()) };
        #[cfg(test)]
        super::fault::count_write();
        file.writer.finish().map_err(|e| self.store.error(&e))?;
        let mut options = IngestExternalFileOptions::default();
        options.set_move_files(true);
        let family = self.store.handle(file.family);
        let taken = self.store.db().ingest_external_file_cf_opts(family, &options, vec![file.path]);
        taken.map_err(|e| self.store.error(&e))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::{Batch, StoreKind, Synced};

    const ONE: Family = Family::new("one");
    const OTHER: Family = Family::new("other");
    const ROWS: u32 = 50_000;
    const VALUE: [u8; 1000] = [7; 1000];

    #[test]
    fn loader_leaves_a_store_that_reads_and_writes_as_any_other() {
        let directory = tempfile::tempdir().expect("a directory");
        let open = || Store::open(directory.path(), StoreKind::State, &[ONE, OTHER]).expect("opens");
        let store = open();
        let mut loader = store.loader();
        for family in [ONE, OTHER] {
            for number in 0..ROWS {
                loader.put(family, &number.to_be_bytes(), &VALUE).expect("writes");
            }
        }
        loader.finish().expect("takes over");
        let mut batch = Batch::new();
        batch.put(ONE, 7_u32.to_be_bytes(), b"newer");
        batch.delete(OTHER, 0_u32.to_be_bytes());
        store.write(batch, Synced::No).expect("writes");
        store.flush().expect("flushes");
        drop(store);

        let store = open();
        let count = |family| {
            let mut rows = 0;
            store
                .scan(family, &[], &[], &mut |_, _| {
                    rows += 1;
                    true
                })
                .expect("reads");
            rows
        };
        assert_eq!((count(ONE), count(OTHER)), (ROWS, ROWS - 1));
        assert_eq!(store.get(ONE, &7_u32.to_be_bytes()).expect("reads").as_deref(), Some(&b"newer"[..]));
        assert_eq!(store.get(OTHER, &(ROWS - 1).to_be_bytes()).expect("reads").as_deref(), Some(&VALUE[..]));
        let left: Vec<_> =
            std::fs::read_dir(directory.path()).expect("reads").flatten().map(|file| file.file_name()).collect();
        assert!(left.iter().all(|name| !name.to_string_lossy().starts_with("loading")), "{left:?}");
    }

    #[test]
    fn loader_refuses_rows_out_of_order() {
        let directory = tempfile::tempdir().expect("a directory");
        let store = Store::open(directory.path(), StoreKind::State, &[ONE]).expect("opens");
        let mut loader = store.loader();
        loader.put(ONE, b"b", b"").expect("writes");
        assert!(loader.put(ONE, b"a", b"").is_err());
    }
}
