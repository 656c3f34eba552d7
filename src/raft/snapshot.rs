//! Snapshots: pinned views of the state, written out for whoever takes one; installed beside the old state and then pointed at.
//!
//! What Raft needs a snapshot for is to cut the log, and for that the state store is enough: it is flushed, and the log behind what
//! was flushed may go. A file of all rows is only made when a peer or a backup takes it away. So a snapshot costs what has changed
//! since the last one, however many jobs are archived, and nothing on the disk is written twice.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use futures::{Stream, stream};
use openraft::storage::RaftSnapshotBuilder;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    apply::Applier,
    replica::{Hot, Replica},
    snapshot_file::{self, Header, SnapshotError},
    state_rows::FAMILIES,
    steady_file::SteadyFile,
    stop::node_stops,
    taken::{Taken, TakenAway},
    types::{LogId, SnapshotMeta, TypeConfig},
};
use crate::storage::{Batch, DataDir, Identity, Pinned, StateName, StorageError, Store, Synced};

/// Rows written at once while a snapshot is installed.
const INSTALL_BATCH_BYTES: usize = 4 << 20;
/// A snapshot is read in pieces of this size where it is sent.
const PIECE_BYTES: usize = 1 << 20;

/// A whole snapshot in a file of its own, which goes with the last user of this.
#[derive(Clone, Debug)]
pub struct SnapshotFile {
    file: Arc<File>,
    pub bytes: u64,
    incoming: Arc<Incoming>,
    /// Whoever takes a view of this node away will want the log behind it.
    _taken: Option<Arc<Taken>>,
}

/// What a snapshot is made of.
pub enum Contents {
    /// This node's state.
    Frozen(Frozen),
    /// The state of another node, whole and verified.
    File(SnapshotFile),
}

/// The state of this node as it was at one index.
pub struct Frozen {
    snapshots: Arc<Snapshots>,
    pinned: Pinned,
    taken: Option<Taken>,
}

pub type Snapshot = openraft::type_config::alias::SnapshotOf<TypeConfig, Contents>;

/// The node's snapshots and the state store they are installed into.
pub struct Snapshots {
    data: DataDir,
    identity: Arc<Mutex<Identity>>,
    pub(super) replica: Arc<Replica>,
    applier: Applier,
    state_name: Mutex<StateName>,
    /// How far the state store is on the disk for certain: the log may be cut up to here.
    flushed: Mutex<Option<LogId>>,
    pub(super) taken: TakenAway,
    incoming: AtomicU64,
    /// What is built or installed now, and how it hears that the node stops.
    work: TaskTracker,
    stopping: CancellationToken,
}

/// A file of a node's own that goes with this value, unless it got another name meanwhile.
#[derive(Debug)]
pub struct Incoming(PathBuf);

pub struct Builder {
    snapshot: Option<(SnapshotMeta, Frozen)>,
    bytes_before: u64,
}

impl SnapshotFile {
    /// The whole file, read off the runtime's threads.
    pub fn pieces(self) -> impl Stream<Item = io::Result<Bytes>> + use<> {
        stream::try_unfold(0, move |at| {
            let file = self.clone();
            async move {
                if at >= file.bytes {
                    return Ok(None);
                }
                let piece = tokio::task::spawn_blocking(move || file.piece(at)).await.map_err(io::Error::other)??;
                let next = at + piece.len() as u64;
                Ok::<_, io::Error>(Some((piece, next)))
            }
        })
    }

    fn piece(&self, at: u64) -> io::Result<Bytes> {
        use std::os::unix::fs::FileExt;
        let left = usize::try_from(self.bytes - at).unwrap_or(usize::MAX);
        let mut piece = vec![0; left.min(PIECE_BYTES)];
        self.file.read_exact_at(&mut piece, at)?;
        Ok(Bytes::from(piece))
    }

    pub(super) fn path(&self) -> &Path {
        self.incoming.path()
    }
}

impl Contents {
    /// A file to send.
    pub async fn into_file(self) -> io::Result<SnapshotFile> {
        match self {
            Contents::File(file) => Ok(file),
            Contents::Frozen(frozen) => frozen.into_file().await,
        }
    }
}

impl Frozen {
    /// Writes all of it to a file, beside whatever is served meanwhile.
    pub async fn into_file(self) -> io::Result<SnapshotFile> {
        let snapshots = Arc::clone(&self.snapshots);
        snapshots.work.spawn_blocking(move || self.write()).await.map_err(io::Error::other)?
    }

    fn write(self) -> io::Result<SnapshotFile> {
        let incoming = self.snapshots.incoming();
        let mut file = SteadyFile::new(File::create(incoming.path())?, self.snapshots.stopping.clone());
        snapshot_file::write(&mut file, self.snapshots.cluster(), &self.pinned).map_err(io::Error::other)?;
        Ok(SnapshotFile { _taken: self.taken.map(Arc::new), ..incoming.open()? })
    }
}

impl Snapshots {
    pub fn new(
        data: DataDir,
        identity: Arc<Mutex<Identity>>,
        replica: Arc<Replica>,
        applier: Applier,
        state_name: StateName,
    ) -> Self {
        let flushed = replica.hot().applied.log_id;
        Self {
            data,
            identity,
            replica,
            applier,
            state_name: Mutex::new(state_name),
            // It was read from the disk.
            flushed: Mutex::new(flushed),
            taken: TakenAway::default(),
            incoming: AtomicU64::new(0),
            work: TaskTracker::new(),
            stopping: CancellationToken::new(),
        }
    }

    /// Gives up what is built or installed, and returns once nothing of it uses a store any longer.
    pub async fn end(&self) {
        self.stopping.cancel();
        self.work.close();
        self.work.wait().await;
    }

    /// Pins the state as it is now, between two chunks of apply.
    pub fn builder(self: &Arc<Self>) -> Builder {
        let bytes_before = self.replica.bytes_since_snapshot.load(Ordering::Relaxed);
        Builder { snapshot: Some(self.frozen(false)), bytes_before }
    }

    /// The state as it is now, for somebody to take away; none before anything was applied.
    pub fn current(self: &Arc<Self>) -> Option<Snapshot> {
        let (meta, frozen) = self.frozen(true);
        meta.last_log_id?;
        Some(Snapshot { meta, snapshot: Contents::Frozen(frozen) })
    }

    fn frozen(self: &Arc<Self>, is_taken: bool) -> (SnapshotMeta, Frozen) {
        let hot = self.replica.hot();
        let taken = is_taken.then(|| self.taken.add(hot.applied.index()));
        (hot.applied.meta(), Frozen { snapshots: Arc::clone(self), pinned: hot.store.pin(), taken })
    }

    /// How far the state store is on the disk for certain. The rule that makes a store without a write-ahead log safe: the log
    /// is cut no further.
    pub fn flushed(&self) -> Option<LogId> {
        *self.lock_flushed()
    }

    fn lock_flushed(&self) -> MutexGuard<'_, Option<LogId>> {
        self.flushed.lock().expect("no holder of this lock panics")
    }

    /// A new file for a snapshot that is received or written out.
    pub fn incoming(&self) -> Incoming {
        let number = self.incoming.fetch_add(1, Ordering::Relaxed);
        Incoming(self.data.snapshots().join(format!("incoming-{}-{number}", std::process::id())))
    }

    /// Checks a received file to its end.
    pub fn verify(&self, path: &Path) -> Result<Header, SnapshotError> {
        let (header, _) = snapshot_file::read(path, &mut |_, _, _| Ok(()))?;
        let wanted = self.cluster();
        if header.cluster != wanted {
            return Err(SnapshotError::OtherCluster { found: header.cluster, wanted });
        }
        Ok(header)
    }

    /// Replaces the state by that of `file`: a new store beside the old one, filled, verified and flushed, then pointed at.
    pub async fn install(self: &Arc<Self>, meta: &SnapshotMeta, file: SnapshotFile) -> io::Result<()> {
        let reach = meta.last_log_id;
        let (this, meta) = (Arc::clone(self), meta.clone());
        let hot = self.work.spawn_blocking(move || this.load(&meta, file.path())).await.map_err(io::Error::other)??;
        self.applier.replace(hot).await?;
        self.flushed_to(reach);
        Ok(())
    }

    fn flushed_to(&self, reach: Option<LogId>) {
        let mut flushed = self.lock_flushed();
        // A newer state may have been installed while this one was flushed.
        *flushed = (*flushed).max(reach);
    }

    fn load(&self, meta: &SnapshotMeta, path: &Path) -> io::Result<Hot> {
        let mut state_name = self.state_name.lock().expect("no holder of this lock panics");
        let next = state_name.next();
        let mut identity = self.identity.lock().expect("no holder of this lock panics").clone();
        // A pristine node that installs one restores a backup: from the moment that this store counts it belongs there.
        identity.cluster =
            identity.cluster.or(Some(snapshot_file::read_header(path).map_err(io::Error::other)?.cluster));
        let store = self.data.create_state(next, &identity, FAMILIES)?;
        let header = self.fill(&store, path).map_err(io::Error::other)?;
        if header.meta() != *meta {
            return Err(io::Error::other("the snapshot's rows are not at the index it was sent for"));
        }
        store.flush()?;
        let hot = Hot::load(Arc::new(store), self.replica.knows)?;
        self.data.point_at(next)?;
        *state_name = next;
        Ok(hot)
    }

    /// Puts the rows of a file into an empty store.
    pub(super) fn fill(&self, store: &Store, path: &Path) -> Result<Header, SnapshotError> {
        let (mut batch, mut bytes) = (Batch::new(), 0);
        let write = |batch: Batch| store.write(batch, Synced::No).map_err(io_error);
        let (header, _) = snapshot_file::read(path, &mut |family, key, value| {
            batch.put(family, key, value);
            bytes += key.len() + value.len();
            if bytes < INSTALL_BATCH_BYTES {
                return Ok(());
            }
            if self.stopping.is_cancelled() {
                return Err(node_stops().into());
            }
            bytes = 0;
            write(std::mem::take(&mut batch))
        })?;
        write(batch)?;
        Ok(header)
    }

    /// An empty state store that takes no part in anything; the next start would remove what is left of it.
    pub(super) fn scratch_store(&self) -> Result<Store, StorageError> {
        let name = self.state_name.lock().expect("no holder of this lock panics").next();
        let identity = self.identity.lock().expect("no holder of this lock panics").clone();
        self.data.create_state(name, &identity, FAMILIES)
    }

    fn cluster(&self) -> crate::storage::ClusterId {
        self.identity.lock().expect("no holder of this lock panics").cluster.unwrap_or_default()
    }

    /// Files that a crash left behind.
    pub fn remove_unfinished(&self) {
        let Ok(entries) = fs::read_dir(self.data.snapshots()) else { return };
        for entry in entries.flatten() {
            if entry.file_name().to_string_lossy().starts_with("incoming-") {
                drop(fs::remove_file(entry.path()));
            }
        }
    }
}

impl Incoming {
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// To read what was written to it.
    pub fn open(self) -> io::Result<SnapshotFile> {
        let file = File::open(&self.0)?;
        let bytes = file.metadata()?.len();
        Ok(SnapshotFile { file: Arc::new(file), bytes, incoming: Arc::new(self), _taken: None })
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        // It was installed or sent, or is of no use; if it stays, the next start removes it.
        drop(fs::remove_file(&self.0));
    }
}

impl RaftSnapshotBuilder<TypeConfig> for Builder {
    type SnapshotData = Contents;

    /// Whatever was pinned is in the store's own files afterwards.
    async fn build_snapshot(&mut self) -> Result<Snapshot, io::Error> {
        let (meta, frozen) = self.snapshot.take().ok_or_else(|| io::Error::other("a builder builds once"))?;
        let snapshots = Arc::clone(&frozen.snapshots);
        let flushing = snapshots.work.spawn_blocking(move || frozen.pinned.store().flush().map(|()| frozen));
        let frozen = flushing.await.map_err(io::Error::other)?.inspect_err(|error| {
            tracing::error!(%error, "state not flushed");
        })?;
        snapshots.flushed_to(meta.last_log_id);
        snapshots.replica.snapshot_covers(self.bytes_before);
        tracing::debug!(%meta, "state flushed");
        Ok(Snapshot { meta, snapshot: Contents::Frozen(frozen) })
    }
}

fn io_error(error: StorageError) -> SnapshotError {
    SnapshotError::Io(error.into())
}
