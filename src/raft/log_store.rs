//! Raft's log on disk, for openraft.
//!
//! ```text
//!  openraft core ── append ──► Tail (readable at once) ──► channel ──► writer thread ── one batch, one sync ──► disk
//!        ▲                                                                 │ then
//!        └───────────────────────── "these are durable" ◄──────────────────┘
//! ```
//!
//! One thread writes, in the order of the calls: entries, votes, truncations and purges never overtake each other. While
//! it syncs, whatever comes gathers behind it, and the next sync covers all of that: group commit without a timer.
//! The [`Tail`] keeps the newest entries in memory, so that replication and apply read nothing from disk in steady state.

use std::{
    fmt::Debug,
    io,
    ops::{Bound, RangeBounds},
    sync::{Arc, Mutex, MutexGuard},
};

use futures::{Stream, stream};
use openraft::storage::{IOFlushed, LogState, RaftLogReader, RaftLogStorage};
use tokio::sync::{mpsc, oneshot, watch};

use super::{
    log_tail::Tail,
    log_writer::{self, DiskPace, Order},
    stop::Stop,
    types::{LogEntry, LogId, TypeConfig, Vote, entry_bytes},
};
use crate::{
    codec::{self, Format},
    storage::{Family, StorageError, Store, StoreUsage},
};

pub const ENTRIES: Family = Family::new("entries");
pub const META: Family = Family::new("meta");
pub const FAMILIES: &[Family] = &[ENTRIES, META];
pub(super) const VOTE_KEY: &[u8] = b"vote";
pub(super) const PURGED_KEY: &[u8] = b"purged";

/// One append request carries at most this much, or one entry.
const READ_BYTES_MAX: usize = 4 << 20;
/// Orders that may wait for the writer. The core waits when it is full.
const ORDERS_MAX: usize = 4096;

/// A handle on the log; clones share it.
#[derive(Clone)]
pub struct LogStore {
    store: Arc<Store>,
    tail: Arc<Mutex<Tail>>,
    orders: mpsc::Sender<Order>,
    pace: Arc<DiskPace>,
    newest: watch::Sender<u64>,
}

/// Owns the writer thread.
pub struct LogWriter {
    thread: std::thread::JoinHandle<()>,
    orders: mpsc::Sender<Order>,
}

impl LogStore {
    /// Reads the whole log once, so that what does not read back is found now and not in an election.
    ///
    /// # Errors
    /// A hole, or a record that does not read back.
    pub fn open(store: Arc<Store>, stop: Stop) -> Result<(Self, LogWriter), StorageError> {
        let tail = Arc::new(Mutex::new(load(&store)?));
        let pace = Arc::new(DiskPace::default());
        let (orders, waiting) = mpsc::channel(ORDERS_MAX);
        let writer = log_writer::Writer::new(Arc::clone(&store), Arc::clone(&tail), Arc::clone(&pace), stop);
        let thread = std::thread::Builder::new()
            .name("raft-log".to_owned())
            .spawn(move || writer.run(waiting))
            .map_err(|e| StorageError::Io { path: store.path().to_path_buf(), reason: e.to_string() })?;
        let writer = LogWriter { thread, orders: orders.clone() };
        Ok((Self { store, tail, orders, pace, newest: watch::Sender::new(0) }, writer))
    }

    pub(super) fn store_usage(&self) -> StoreUsage {
        self.store.usage()
    }

    /// How fast the disk syncs.
    pub fn pace(&self) -> &Arc<DiskPace> {
        &self.pace
    }

    /// The index of the entry that was appended last, on disk or not, since this node was started.
    pub fn newest(&self) -> watch::Receiver<u64> {
        self.newest.subscribe()
    }

    /// About how many bytes of entries the log holds.
    pub fn bytes(&self) -> u64 {
        self.tail().held_bytes()
    }

    /// The last index that can go so that about `keep_bytes` of entries stay; `None` where nothing need go.
    pub fn purge_point(&self, keep_bytes: u64) -> Option<u64> {
        self.tail().purge_point(keep_bytes)
    }

    fn tail(&self) -> MutexGuard<'_, Tail> {
        self.tail.lock().expect("no holder of this lock panics")
    }

    async fn order(&self, order: Order) -> Result<(), io::Error> {
        self.orders.send(order).await.map_err(|_| io::Error::other("the log writer has ended"))
    }

    async fn order_and_wait(&self, order: impl FnOnce(Done) -> Order) -> Result<(), io::Error> {
        let (done, waiting) = oneshot::channel();
        self.order(order(done)).await?;
        waiting.await.map_err(|_| io::Error::other("the log writer has ended"))?
    }

    /// Entries from `start` to before `end`; stops early past `bytes_max`, but never before the first.
    async fn read(&self, start: u64, end: u64, bytes_max: usize) -> Result<Vec<LogEntry>, io::Error> {
        let (start, end, cached_from, cached) = {
            let tail = self.tail();
            let (start, end) = tail.clamp(start, end);
            (start, end, tail.cached_from(), tail.cached(start, end))
        };
        if start >= cached_from || start >= end {
            return Ok(limit(cached, bytes_max));
        }
        let store = Arc::clone(&self.store);
        let reading = tokio::task::spawn_blocking(move || read_range(&store, start, end.min(cached_from), bytes_max));
        let mut entries = reading.await.map_err(io::Error::other)??;
        if entries.last().is_some_and(|last| last.log_id.index + 1 == cached_from) {
            entries.extend(cached);
        }
        Ok(limit(entries, bytes_max))
    }
}

pub type Done = oneshot::Sender<Result<(), io::Error>>;

impl LogWriter {
    /// Ends the thread once it has written what waits.
    pub fn join(self) {
        // A full channel empties: the thread is alive until it reads this.
        drop(self.orders.blocking_send(Order::End));
        drop(self.orders);
        if self.thread.join().is_err() {
            tracing::error!("the log writer panicked");
        }
    }
}

impl RaftLogReader<TypeConfig> for LogStore {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + Send>(
        &mut self,
        range: RB,
    ) -> Result<Vec<LogEntry>, io::Error> {
        let (start, end) = bounds(&range);
        self.read(start, end, usize::MAX).await
    }

    async fn entries_stream<RB>(&mut self, range: RB) -> impl Stream<Item = Result<LogEntry, io::Error>> + Send
    where
        RB: RangeBounds<u64> + Clone + Debug + Send,
    {
        let (start, end) = bounds(&range);
        let reader = self.clone();
        let pieces = stream::try_unfold(start, move |at| {
            let reader = reader.clone();
            async move {
                if at >= end {
                    return Ok::<_, io::Error>(None);
                }
                let entries = reader.read(at, end, READ_BYTES_MAX).await?;
                let Some(last) = entries.last() else { return Ok(None) };
                let next = last.log_id.index + 1;
                Ok(Some((stream::iter(entries.into_iter().map(Ok)), next)))
            }
        });
        Box::pin(futures::TryStreamExt::try_flatten(pieces))
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, io::Error> {
        Ok(self.tail().vote)
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> Result<Vec<LogEntry>, io::Error> {
        self.read(start, end, READ_BYTES_MAX).await
    }
}

impl RaftLogStorage<TypeConfig> for LogStore {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<TypeConfig>, io::Error> {
        let tail = self.tail();
        Ok(LogState { last_purged_log_id: tail.purged, last_log_id: tail.last })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), io::Error> {
        let vote = *vote;
        self.tail().vote = Some(vote);
        self.order_and_wait(|done| Order::Vote { vote, done }).await
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<TypeConfig>) -> Result<(), io::Error>
    where
        I: IntoIterator<Item = LogEntry> + Send,
        I::IntoIter: Send,
    {
        let entries: Vec<_> = entries.into_iter().collect();
        self.tail().append(&entries);
        if let Some(last) = entries.last() {
            self.newest.send_replace(last.log_id.index);
        }
        self.order(Order::Append { entries, done: callback }).await
    }

    async fn truncate_after(&mut self, last_log_id: Option<LogId>) -> Result<(), io::Error> {
        let from = last_log_id.map_or(0, |id| id.index + 1);
        self.tail().truncate_after(last_log_id);
        self.order_and_wait(|done| Order::Truncate { from, done }).await
    }

    async fn purge(&mut self, log_id: LogId) -> Result<(), io::Error> {
        let from = self.tail().purge(log_id);
        self.order(Order::Purge { from, upto: log_id }).await
    }
}

pub(super) fn entry_key(index: u64) -> [u8; 8] {
    index.to_be_bytes()
}

fn load(store: &Store) -> Result<Tail, StorageError> {
    let mut tail = Tail::new(read_meta(store, VOTE_KEY)?, read_meta(store, PURGED_KEY)?);
    let mut wrong = None;
    let start = tail.first_index();
    store.scan_all(ENTRIES, &entry_key(start), &mut |key, value| {
        match decode_entry(value) {
            Ok(entry) if key == entry_key(tail.next_index()) && entry.log_id.index == tail.next_index() => {
                tail.load(entry);
            }
            Ok(entry) => {
                let reason = format!("entry {} stands where {} belongs", entry.log_id.index, tail.next_index());
                wrong = Some(StorageError::Corrupt { path: store.path().to_path_buf(), reason });
            }
            Err(error) => wrong = Some(StorageError::undecodable(store.path(), &error)),
        }
        wrong.is_none()
    })?;
    match wrong {
        Some(error) => Err(error),
        None => Ok(tail),
    }
}

fn read_meta<T: serde::de::DeserializeOwned>(store: &Store, key: &[u8]) -> Result<Option<T>, StorageError> {
    let bytes = store.get(META, key)?;
    bytes
        .map(|bytes| codec::decode(Format::META, &bytes))
        .transpose()
        .map_err(|error| StorageError::undecodable(store.path(), &error))
}

fn decode_entry(bytes: &[u8]) -> Result<LogEntry, codec::CodecError> {
    codec::decode(Format::LOG, bytes)
}

fn read_range(store: &Store, start: u64, end: u64, bytes_max: usize) -> Result<Vec<LogEntry>, io::Error> {
    let mut entries: Vec<LogEntry> = Vec::new();
    let mut bytes = 0;
    let mut wrong = None;
    store.scan(ENTRIES, &[], &entry_key(start), &mut |key, value| {
        if key >= entry_key(end).as_slice() || (bytes > bytes_max && !entries.is_empty()) {
            return false;
        }
        match decode_entry(value) {
            Ok(entry) if entries.last().is_none_or(|last| last.log_id.index + 1 == entry.log_id.index) => {
                bytes += entry_bytes(&entry);
                entries.push(entry);
            }
            Ok(entry) => wrong = Some(format!("the log has a hole before entry {}", entry.log_id.index)),
            Err(error) => wrong = Some(error.to_string()),
        }
        wrong.is_none()
    })?;
    match wrong {
        Some(reason) => Err(io::Error::other(reason)),
        None => Ok(entries),
    }
}

fn limit(mut entries: Vec<LogEntry>, bytes_max: usize) -> Vec<LogEntry> {
    let mut bytes = 0;
    let fitting = entries.iter().take_while(|entry| {
        bytes += entry_bytes(entry);
        bytes <= bytes_max
    });
    let keep = fitting.count().max(1);
    entries.truncate(keep);
    entries
}

fn bounds(range: &impl RangeBounds<u64>) -> (u64, u64) {
    let start = match range.start_bound() {
        Bound::Included(&at) => at,
        Bound::Excluded(&at) => at.saturating_add(1),
        Bound::Unbounded => 0,
    };
    let end = match range.end_bound() {
        Bound::Included(&at) => at.saturating_add(1),
        Bound::Excluded(&at) => at,
        Bound::Unbounded => u64::MAX,
    };
    (start, end)
}
