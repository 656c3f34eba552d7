//! Snapshots: built from a pinned view, kept as one file, installed beside the old state and then pointed at.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
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
    types::{LogId, SnapshotMeta, TypeConfig},
};
use crate::storage::{Batch, DataDir, Identity, Pinned, StateName, StorageError, Store, Synced};

/// Rows written at once while a snapshot is installed.
const INSTALL_BATCH_BYTES: usize = 4 << 20;
/// A snapshot is read in pieces of this size where it is sent.
const PIECE_BYTES: usize = 1 << 20;
const CURRENT: &str = "current.snapshot";

/// A finished snapshot. The open file stays readable when a newer one takes its name.
#[derive(Clone, Debug)]
pub struct SnapshotFile {
    pub path: PathBuf,
    pub file: Arc<File>,
    pub bytes: u64,
}

pub type Snapshot = openraft::type_config::alias::SnapshotOf<TypeConfig, SnapshotFile>;

/// The node's snapshots and the state store they are installed into.
pub struct Snapshots {
    data: DataDir,
    identity: Arc<Mutex<Identity>>,
    pub(super) replica: Arc<Replica>,
    applier: Applier,
    state_name: Mutex<StateName>,
    /// How far the current snapshot reaches, as far as this process wrote it.
    kept: Mutex<Option<LogId>>,
    incoming: AtomicU64,
    /// What is built or installed now, and how it hears that the node stops.
    work: TaskTracker,
    stopping: CancellationToken,
}

/// A file of a node's own that goes with this value, unless it got another name meanwhile.
#[derive(Debug)]
pub struct Incoming(PathBuf);

pub struct Builder {
    snapshots: Arc<Snapshots>,
    pinned: Option<Pinned>,
    bytes_before: u64,
}

impl SnapshotFile {
    pub fn open(path: PathBuf) -> io::Result<Self> {
        let file = File::open(&path)?;
        let bytes = file.metadata()?.len();
        Ok(Self { path, file: Arc::new(file), bytes })
    }

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
}

impl Snapshots {
    pub fn new(
        data: DataDir,
        identity: Arc<Mutex<Identity>>,
        replica: Arc<Replica>,
        applier: Applier,
        state_name: StateName,
    ) -> Self {
        Self {
            data,
            identity,
            replica,
            applier,
            state_name: Mutex::new(state_name),
            kept: Mutex::default(),
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
        let hot = self.replica.hot();
        let bytes_before = self.replica.bytes_since_snapshot.load(Ordering::Relaxed);
        Builder { snapshots: Arc::clone(self), pinned: Some(hot.store.pin()), bytes_before }
    }

    /// A new file for a snapshot that is being received or built.
    pub fn incoming(&self) -> Incoming {
        let number = self.incoming.fetch_add(1, Ordering::Relaxed);
        Incoming(self.data.snapshots().join(format!("incoming-{}-{number}", std::process::id())))
    }

    /// The last finished snapshot.
    pub fn current(&self) -> io::Result<Option<Snapshot>> {
        let path = self.current_path();
        if !path.exists() {
            return Ok(None);
        }
        match snapshot_file::read_header(&path) {
            Ok(header) => Ok(Some(Snapshot { meta: header.meta(), snapshot: SnapshotFile::open(path)? })),
            Err(SnapshotError::Io(error)) => Err(error),
            Err(error) => {
                // The state is whole without it; another one is built when it is needed.
                tracing::error!(path = %path.display(), %error, "snapshot cannot be read and is set aside");
                fs::rename(&path, path.with_extension("damaged"))?;
                Ok(None)
            }
        }
    }

    /// Sets aside a snapshot that ends before the log begins: nothing can be made of the two, and the state is whole without
    /// it. Raft builds a new one at its start.
    pub fn set_aside_before(&self, purged: Option<LogId>) -> io::Result<()> {
        match self.current()? {
            Some(current) if current.meta.last_log_id < purged => {
                tracing::warn!(meta = %current.meta, ?purged, "outdated snapshot is set aside");
                fs::rename(self.current_path(), self.current_path().with_extension("outdated"))
            }
            _ => Ok(()),
        }
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
        let (this, meta, path) = (Arc::clone(self), meta.clone(), file.path);
        let loading = self.work.spawn_blocking(move || {
            let hot = this.load(&meta, &path)?;
            Ok::<_, io::Error>((hot, path))
        });
        let (hot, path) = loading.await.map_err(io::Error::other)??;
        self.applier.replace(hot).await?;
        let this = Arc::clone(self);
        self.work.spawn_blocking(move || this.keep(&path, reach)).await.map_err(io::Error::other)?.map(drop)
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

    /// Gives a finished file the name of the current snapshot, unless that one reaches further: a snapshot may arrive from
    /// the leader while an older one is being built, and the log is already cut behind the newer.
    fn keep(&self, path: &Path, reach: Option<LogId>) -> io::Result<SnapshotFile> {
        let finished = SnapshotFile::open(path.to_path_buf())?;
        let mut kept = self.kept.lock().expect("no holder of this lock panics");
        if reach < *kept {
            fs::remove_file(path)?;
            return Ok(finished);
        }
        if path != self.current_path() {
            fs::rename(path, self.current_path())?;
        }
        File::open(self.data.snapshots())?.sync_all()?;
        *kept = reach;
        Ok(SnapshotFile { path: self.current_path(), ..finished })
    }

    fn build(&self, pinned: &Pinned) -> io::Result<Snapshot> {
        let incoming = self.incoming();
        let mut file = SteadyFile::new(File::create(incoming.path())?, self.stopping.clone());
        let header = snapshot_file::write(&mut file, self.cluster(), pinned).map_err(io::Error::other)?;
        file.sync_all()?;
        // The rule that makes a state store without a write-ahead log safe: the log is only cut behind a snapshot, and
        // a snapshot only counts once everything it holds is in the store's own files.
        pinned.store().flush()?;
        let meta = header.meta();
        let snapshot = self.keep(incoming.path(), meta.last_log_id)?;
        Ok(Snapshot { meta, snapshot })
    }

    fn cluster(&self) -> crate::storage::ClusterId {
        self.identity.lock().expect("no holder of this lock panics").cluster.unwrap_or_default()
    }

    fn current_path(&self) -> PathBuf {
        self.data.snapshots().join(CURRENT)
    }

    /// Files that a crash left half-written.
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
}

impl Drop for Incoming {
    fn drop(&mut self) {
        // It was installed or kept, or is of no use; if it stays, the next start removes it.
        drop(fs::remove_file(&self.0));
    }
}

impl RaftSnapshotBuilder<TypeConfig> for Builder {
    type SnapshotData = SnapshotFile;

    async fn build_snapshot(&mut self) -> Result<Snapshot, io::Error> {
        let pinned = self.pinned.take().ok_or_else(|| io::Error::other("a builder builds once"))?;
        let snapshots = Arc::clone(&self.snapshots);
        let building = self.snapshots.work.spawn_blocking(move || snapshots.build(&pinned));
        let built = building.await.map_err(io::Error::other)?;
        let snapshot = built.inspect_err(|error| match self.snapshots.stopping.is_cancelled() {
            true => tracing::info!("snapshot given up: the node stops"),
            false => tracing::error!(%error, "snapshot not built"),
        })?;
        self.snapshots.replica.snapshot_covers(self.bytes_before);
        tracing::info!(meta = %snapshot.meta, bytes = snapshot.snapshot.bytes, "snapshot built");
        Ok(snapshot)
    }
}

fn io_error(error: StorageError) -> SnapshotError {
    SnapshotError::Io(error.into())
}
