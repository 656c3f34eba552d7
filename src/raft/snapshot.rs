//! Snapshots: pinned views of the state, written out for whoever takes one; installed beside the old state and then pointed at.
//!
//! What Raft needs a snapshot for is to cut the log, and for that the state store is enough: it is flushed, and the log behind what
//! was flushed may go. A file of all rows is only made when a peer or a backup takes it away. So a snapshot costs what has changed
//! since the last one, however many jobs are archived, and nothing on the disk is written twice.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures::{Stream, StreamExt, stream, stream::BoxStream};
use openraft::storage::RaftSnapshotBuilder;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    apply::Applier,
    outgoing::{self, PIECE_BYTES},
    replica::{Hot, Replica},
    snapshot_file::{self, Header, SnapshotError},
    state_rows::FAMILIES,
    steady_file::SteadyFile,
    stop::node_stops,
    taken::{Taken, TakenAway},
    types::{LogId, SnapshotMeta, TypeConfig},
};
use crate::storage::{DataDir, Identity, Pinned, StateName, StorageError, Store};

/// A file goes in pieces of this size: on a disk that is told of each block that is free, gigabytes at once hold up every fsync.
const REMOVED_BYTES: u64 = 64 << 20;
const BETWEEN_REMOVALS: Duration = Duration::from_millis(20);

/// A whole snapshot in a file of its own, which goes with the last user of this.
#[derive(Clone, Debug)]
pub struct SnapshotFile {
    file: Arc<File>,
    pub bytes: u64,
    incoming: Arc<Incoming>,
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
    /// Keeps the log behind it for whoever takes it away, until this is dropped: when it is installed, not when it is sent.
    pub fn keep_log(&self, meta: &SnapshotMeta) -> Option<Taken> {
        match self {
            Contents::File(_) => None,
            Contents::Frozen(frozen) => Some(frozen.snapshots.taken.add(meta.last_log_id?.index)),
        }
    }

    /// To send it.
    pub fn pieces(self) -> BoxStream<'static, io::Result<Bytes>> {
        match self {
            Contents::File(file) => file.pieces().boxed(),
            Contents::Frozen(frozen) => frozen.pieces().boxed(),
        }
    }

    /// To install it, or to hand it out to somebody who may take any time.
    pub async fn into_file(self) -> io::Result<SnapshotFile> {
        match self {
            Contents::File(file) => Ok(file),
            Contents::Frozen(frozen) => frozen.into_file().await,
        }
    }
}

impl Frozen {
    fn pieces(self) -> impl Stream<Item = io::Result<Bytes>> {
        let (tasks, stopping) = (self.snapshots.work.clone(), self.snapshots.stopping.clone());
        outgoing::pieces(tasks, stopping, move |out| self.write(out))
    }

    /// Gives up when nobody waits for it any more.
    async fn into_file(self) -> io::Result<SnapshotFile> {
        let incoming = self.snapshots.incoming();
        let mut file = self.snapshots.receiving(&incoming)?;
        let mut pieces = std::pin::pin!(self.pieces());
        while let Some(piece) = pieces.next().await {
            file = file.put(piece?).await?;
        }
        incoming.open()
    }

    fn write(&self, out: impl Write) -> io::Result<()> {
        snapshot_file::write(out, self.snapshots.cluster(), &self.pinned).map(drop).map_err(io::Error::other)
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
        Builder { snapshot: Some(self.frozen()), bytes_before }
    }

    /// The state as it is now, for somebody to take away; none before anything was applied.
    pub fn current(self: &Arc<Self>) -> Option<Snapshot> {
        let (meta, frozen) = self.frozen();
        meta.last_log_id?;
        Some(Snapshot { meta, snapshot: Contents::Frozen(frozen) })
    }

    fn frozen(self: &Arc<Self>) -> (SnapshotMeta, Frozen) {
        let hot = self.replica.hot();
        (hot.applied.meta(), Frozen { snapshots: Arc::clone(self), pinned: hot.store.pin() })
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

    /// A file for what arrives.
    pub fn receiving(&self, incoming: &Incoming) -> io::Result<SteadyFile> {
        Ok(SteadyFile::new(File::create(incoming.path())?, self.stopping.clone()))
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
        let mut loader = store.loader();
        let (header, _) = snapshot_file::read(path, &mut |family, key, value| {
            if self.stopping.is_cancelled() {
                return Err(node_stops().into());
            }
            loader.put(family, key, value).map_err(io_error)
        })?;
        loader.finish().map_err(io_error)?;
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
        Ok(SnapshotFile { file: Arc::new(file), bytes, incoming: Arc::new(self) })
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        let path = std::mem::take(&mut self.0);
        // It was installed or sent, or is of no use; if it stays, the next start removes it.
        let remove = move || drop(remove_in_pieces(&path));
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn_blocking(remove)),
            Err(_) => remove(),
        }
    }
}

fn remove_in_pieces(path: &Path) -> io::Result<()> {
    let file = File::options().write(true).open(path)?;
    let mut bytes = file.metadata()?.len();
    while bytes > REMOVED_BYTES {
        bytes -= REMOVED_BYTES;
        file.set_len(bytes)?;
        std::thread::sleep(BETWEEN_REMOVALS);
    }
    fs::remove_file(path)
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
