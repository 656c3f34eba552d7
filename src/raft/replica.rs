//! This node's copy of the replicated state: the hot part in memory, the rows on disk, and the position both stand at.
//!
//! ```text
//!   apply thread ──write lock──► Hot { queue::State, store, Applied } ◄──read lock + pinned rows── readers
//!        │  one batch: rows, position, membership, hash
//!        ▼
//!   state store
//! ```
//!
//! The write lock is held while a chunk of entries is applied *and* its batch written, so whoever holds the read lock and
//! pins the store sees both at one index, whole entries only (P6).

use std::{
    cell::OnceCell,
    collections::BTreeSet,
    sync::{
        Arc, Mutex, RwLock, RwLockReadGuard, RwLockWriteGuard,
        atomic::{AtomicU64, Ordering},
    },
};

use serde::{Deserialize, Serialize};
use tokio::sync::{broadcast, watch};

use super::{
    feature::FeatureLevel,
    recent::RecentSpecs,
    state_rows::{META, PinnedRows, StoredRows},
    stop::Stop,
    types::{LogId, Membership, SnapshotMeta, StoredMembership},
};
use crate::{
    codec::{self, CodecError, Format},
    queue::{
        State,
        applied::Effect,
        command::Clocks,
        ids::JobId,
        job::Spec,
        rows::{Row, RowKey, Rows},
    },
    storage::{Batch, StorageError, Store},
};

pub const APPLIED_KEY: &[u8] = b"applied";
/// Chunks a slow listener may be behind before it is told that it missed some.
const BATCHES_MAX: usize = 1024;

/// Where a replica stands; stored in the same batch as the rows it describes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Applied {
    pub log_id: Option<LogId>,
    pub membership: StoredMembership,
    /// Rolling over all entries and answers (P9).
    pub hash: u128,
    /// The clocks of the last entry that had any.
    pub clocks: Clocks,
    /// The last entry that asked to remember the hash, and the hash then.
    pub mark: Option<(u64, u128)>,
    /// Ids of members that have gone; never given again.
    pub spent: BTreeSet<u64>,
    pub feature_level: FeatureLevel,
}

/// As it was written before there were feature levels.
#[derive(Serialize, Deserialize)]
pub(super) struct AppliedV1 {
    log_id: Option<LogId>,
    membership: StoredMembership,
    hash: u128,
    clocks: Clocks,
    mark: Option<(u64, u128)>,
    spent: BTreeSet<u64>,
}

impl From<AppliedV1> for Applied {
    fn from(old: AppliedV1) -> Self {
        let AppliedV1 { log_id, membership, hash, clocks, mark, spent } = old;
        Self { log_id, membership, hash, clocks, mark, spent, feature_level: FeatureLevel::FIRST }
    }
}

impl Applied {
    /// Takes over a new membership; whoever is not in it any more has spent its id.
    pub fn change_members(&mut self, log_id: LogId, membership: Membership) {
        let gone = self.membership.membership().nodes().map(|(&id, _)| id);
        self.spent.extend(gone.filter(|id| membership.get_node(id).is_none()));
        self.membership = StoredMembership::new(Some(log_id), membership);
    }

    pub fn index(&self) -> u64 {
        self.log_id.map_or(0, |id| id.index)
    }

    pub fn meta(&self) -> SnapshotMeta {
        SnapshotMeta { last_log_id: self.log_id, last_membership: self.membership.clone() }
    }

    pub fn summary(&self) -> Summary {
        Summary { index: self.index(), hash: self.hash, mark: self.mark, feature_level: self.feature_level }
    }

    pub fn load(store: &Store) -> Result<Self, StorageError> {
        match store.get(META, APPLIED_KEY)? {
            None => Ok(Self::default()),
            Some(bytes) => Self::decode(&bytes).map_err(|error| StorageError::undecodable(store.path(), &error)),
        }
    }

    pub fn decode(bytes: &[u8]) -> Result<Self, CodecError> {
        codec::decode_or_older::<Self, AppliedV1>(Format::POSITION, bytes)
    }

    pub fn put(&self, batch: &mut Batch) {
        batch.put(META, APPLIED_KEY, codec::encode(Format::POSITION, self));
    }
}

/// What a chunk of entries brought about, told after it is stored and its callers are answered.
#[derive(Debug)]
pub struct AppliedBatch {
    /// The index of the last entry of the chunk.
    pub index: u64,
    pub entries: Vec<AppliedEntry>,
    /// A snapshot took the place of the state: what came about up to `index` is not told.
    pub skipped: bool,
}

#[derive(Debug)]
pub struct AppliedEntry {
    pub index: u64,
    pub clocks: Clocks,
    pub effects: Vec<Effect>,
}

pub struct Hot {
    pub state: State,
    pub store: Arc<Store>,
    pub applied: Applied,
    pub recent: RecentSpecs,
}

/// What can be said without waiting for apply.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    pub index: u64,
    pub hash: u128,
    pub mark: Option<(u64, u128)>,
    pub feature_level: FeatureLevel,
}

pub struct Replica {
    /// The newest feature level that this node knows.
    pub knows: FeatureLevel,
    hot: RwLock<Hot>,
    /// The store of `hot`, for those who must not wait for apply.
    store: Mutex<Arc<Store>>,
    summary: watch::Sender<Summary>,
    index: watch::Sender<u64>,
    batches: broadcast::Sender<Arc<AppliedBatch>>,
    stop: Stop,
    /// Bytes of entries applied since the last snapshot.
    pub bytes_since_snapshot: AtomicU64,
    /// Ended jobs that were archived or deleted since the last snapshot was begun.
    pub left_since_snapshot: AtomicU64,
}

/// Both parts of the state at one index. Holds up apply while it lives: look and let go, or take the rows along.
pub struct Reading<'a> {
    hot: RwLockReadGuard<'a, Hot>,
    stop: &'a Stop,
    /// Pinned for whoever asks for them: most looks are at the state alone.
    rows: OnceCell<Arc<PinnedRows>>,
}

impl Replica {
    pub fn load(store: Arc<Store>, knows: FeatureLevel, stop: Stop) -> Result<Self, StorageError> {
        let hot = Hot::load(Arc::clone(&store), knows)?;
        let index = watch::Sender::new(hot.applied.index());
        let summary = watch::Sender::new(hot.applied.summary());
        let batches = broadcast::Sender::new(BATCHES_MAX);
        let (hot, store) = (RwLock::new(hot), Mutex::new(store));
        Ok(Self {
            knows,
            hot,
            store,
            summary,
            index,
            batches,
            stop,
            bytes_since_snapshot: AtomicU64::new(0),
            left_since_snapshot: AtomicU64::new(0),
        })
    }

    /// Looks at the state as it stands now.
    pub fn read(&self) -> Reading<'_> {
        Reading { hot: self.hot(), stop: &self.stop, rows: OnceCell::new() }
    }

    /// The last applied index, as it moves.
    pub fn index(&self) -> watch::Receiver<u64> {
        self.index.subscribe()
    }

    pub fn batches(&self) -> broadcast::Receiver<Arc<AppliedBatch>> {
        self.batches.subscribe()
    }

    pub fn hot(&self) -> RwLockReadGuard<'_, Hot> {
        self.hot.read().expect("a panic under the write lock ends the process")
    }

    pub(super) fn hot_mut(&self) -> RwLockWriteGuard<'_, Hot> {
        self.hot.write().expect("a panic under the write lock ends the process")
    }

    /// Where the replica stood after its last chunk. Unlike [`Replica::read`] it never waits, so a stuck apply is seen.
    pub fn summary(&self) -> Summary {
        *self.summary.borrow()
    }

    /// The state store in use. Never waits for apply either.
    pub fn store(&self) -> Arc<Store> {
        Arc::clone(&self.store.lock().expect("no holder of this lock panics"))
    }

    /// Puts another state in the place of this one; gives the old one.
    pub(super) fn replace(&self, hot: Hot) -> Hot {
        *self.store.lock().expect("no holder of this lock panics") = Arc::clone(&hot.store);
        std::mem::replace(&mut *self.hot_mut(), hot)
    }

    pub(super) fn moved_to(&self, summary: Summary) {
        self.summary.send_replace(summary);
        self.index.send_replace(summary.index);
    }

    /// A snapshot that covers this many bytes of entries is there.
    pub(super) fn snapshot_covers(&self, bytes: u64) {
        let less = |since: u64| Some(since.saturating_sub(bytes));
        // The closure never refuses.
        _ = self.bytes_since_snapshot.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
    }

    pub(super) fn announce(&self, batch: AppliedBatch) {
        // Nobody may be listening.
        drop(self.batches.send(Arc::new(batch)));
    }
}

impl Hot {
    pub fn load(store: Arc<Store>, knows: FeatureLevel) -> Result<Self, StorageError> {
        let applied = Applied::load(&store)?;
        if applied.feature_level > knows {
            let what = format!("feature level {}, this one knows up to {knows}", applied.feature_level);
            return Err(StorageError::NewerFormat { path: store.path().to_path_buf(), what });
        }
        let state = State::load(&StoredRows(Arc::clone(&store)));
        Ok(Self { state, store, applied, recent: RecentSpecs::default() })
    }
}

impl Reading<'_> {
    pub fn index(&self) -> u64 {
        self.hot.applied.index()
    }

    /// The members, learners among them, by the last committed change.
    pub fn members(&self) -> BTreeSet<u64> {
        self.hot.applied.membership.membership().nodes().map(|(&id, _)| id).collect()
    }

    pub fn state(&self) -> &State {
        &self.hot.state
    }

    /// The spec of a live job, if it is at hand; else it is among the rows.
    pub fn recent_spec(&self, id: JobId) -> Option<Arc<Spec>> {
        self.hot.recent.get(id).cloned()
    }

    /// Rows at the same index; they may be kept after the reading ends.
    pub fn rows(&self) -> &Arc<PinnedRows> {
        self.rows.get_or_init(|| Arc::new(PinnedRows::new(self.hot.store.pin(), self.stop.clone())))
    }
}

/// Looked up at once; none are pinned before one is.
impl Rows for Reading<'_> {
    fn get(&self, key: &RowKey) -> Option<Row> {
        self.rows().get(key)
    }

    fn scan(&self, from: &RowKey, each: &mut dyn FnMut(RowKey, Row) -> bool) {
        self.rows().scan(from, each);
    }
}
