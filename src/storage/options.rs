//! RocksDB's settings for the two kinds of store.

use rocksdb::{BlockBasedIndexType, BlockBasedOptions, Cache, DBCompressionType, DBRecoveryMode, LogLevel, Options};

use super::store::Family;

const MIB: usize = 1 << 20;
/// Memory for blocks read from disk; each store has its own.
const STATE_CACHE_BYTES: usize = 64 * MIB;
/// The log is read from the disk once at start, and by followers that catch up: each of them reads an entry once.
const LOG_CACHE_BYTES: usize = 8 * MIB;
const LOG_MEMTABLE_BYTES: usize = 64 * MIB;
const STATE_MEMTABLE_BYTES: usize = 32 * MIB;
/// The `meta` family is hardly ever flushed by itself and would pin every old write-ahead file.
const LOG_WAL_BYTES_MAX: u64 = 256 << 20;
/// A file in which so many of so many neighbouring entries are deletions is compacted at once.
const DELETIONS_WINDOW: usize = 8192;
const DELETIONS_MAX: usize = 4096;
/// How long what a released snapshot had kept may stay, if nothing else has its file rewritten.
const REMAINS_S: u64 = 24 * 3600;
/// A file goes to the disk in pieces of this size while it is written.
const PIECE_BYTES: u64 = 1 << 20;
/// RocksDB's own information log, which helps after the fact; bounded.
const INFO_LOG_FILES: usize = 4;
const INFO_LOG_BYTES: usize = 4 * MIB;

/// Which of the two a store is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreKind {
    /// Every batch is synced; refuses to open if anything but a torn tail is wrong.
    Log,
    /// No write-ahead log: a crash loses a suffix of whole batches, which the Raft log gives back.
    State,
}

impl StoreKind {
    pub(super) fn options(self) -> Options {
        match self {
            Self::Log => log(common(LOG_CACHE_BYTES)),
            Self::State => state(common(STATE_CACHE_BYTES)),
        }
    }
}

/// The options of a store's family.
pub(super) fn of_family(options: &Options, family: Family) -> Options {
    let mut options = options.clone();
    if let Some(run_bytes) = family.run_bytes {
        options =
            with(&options, &format!("memtable_insert_with_hint_prefix_extractor=rocksdb.CappedPrefix.{run_bytes}"));
    }
    if !family.filtered {
        options = with(&options, "block_based_table_factory={filter_policy=nullptr}");
    }
    options
}

/// For options that the library has no call of its own for.
fn with(options: &Options, setting: &str) -> Options {
    options.clone().get_options_from_string(setting).expect("RocksDB knows its own option")
}

fn common(cache_bytes: usize) -> Options {
    let mut options = Options::default();
    options.create_if_missing(true);
    options.create_missing_column_families(true);
    options.set_paranoid_checks(true);
    options.set_compression_type(DBCompressionType::None);
    options.set_max_background_jobs(2);
    // Each store has one writer; without this its memtables would be made for several.
    options.set_allow_concurrent_memtable_write(false);
    options.set_keep_log_file_num(INFO_LOG_FILES);
    options.set_max_log_file_size(INFO_LOG_BYTES);
    options.set_log_level(LogLevel::Warn);
    let mut table = BlockBasedOptions::default();
    table.set_block_cache(&Cache::new_lru_cache(cache_bytes));
    table.set_bloom_filter(10.0, false);
    // Or they would take memory for each job that was ever archived. In pieces: those of a whole file are hundreds of kilobytes,
    // and beside ten million archived jobs every read would bring some of them into the cache and push others out.
    table.set_cache_index_and_filter_blocks(true);
    table.set_index_type(BlockBasedIndexType::TwoLevelIndexSearch);
    table.set_partition_filters(true);
    table.set_pin_l0_filter_and_index_blocks_in_cache(true);
    options.set_block_based_table_factory(&table);
    // Left to its end, a flush leaves tens of megabytes to the disk at once, and the log's next sync behind them.
    options.set_bytes_per_sync(PIECE_BYTES);
    with(&options, "strict_bytes_per_sync=true")
}

/// RocksDB's default recovery stops at a bad record and opens at that point in time: the vote and acknowledged entries
/// would go back silently. This mode refuses everything but a torn tail, which no acknowledgement ever covered.
fn log(mut options: Options) -> Options {
    options.set_wal_recovery_mode(DBRecoveryMode::TolerateCorruptedTailRecords);
    options.set_track_and_verify_wals_in_manifest(true);
    options.set_max_total_wal_size(LOG_WAL_BYTES_MAX);
    options.set_write_buffer_size(LOG_MEMTABLE_BYTES);
    options.set_max_write_buffer_number(4);
    options
}

/// One flush takes all families to one point, so that what survives a crash is a whole number of batches.
fn state(mut options: Options) -> Options {
    // Indexes by time are eaten from the front: files that are mostly deletions go soon, before scans have to wade through.
    options.add_compact_on_deletion_collector_factory(DELETIONS_WINDOW, DELETIONS_MAX, 0.0);
    options.set_atomic_flush(true);
    options.set_write_buffer_size(STATE_MEMTABLE_BYTES);
    options.set_max_write_buffer_number(4);
    // Every look pins a snapshot. Without a delay each file at the bottom would be written once more as soon as a snapshot is
    // released that is younger than the file, to drop what it might have kept: on the leader, which looks with each entry,
    // at once.
    with(&options, &format!("bottommost_file_compaction_delay={REMAINS_S}"))
}
