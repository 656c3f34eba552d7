//! The data directory: which stores are where, and whether they belong together.

use std::{
    fs::{self, File},
    io::Write,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{
    error::StorageError,
    identity::Identity,
    options::StoreKind,
    store::{Family, Store, Synced},
};

const CREATING: &str = "CREATING";
const CURRENT: &str = "CURRENT";

/// Paths inside a node's data directory.
#[derive(Clone, Debug)]
pub struct DataDir(PathBuf);

/// The number of a state store; each installed snapshot makes a new one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct StateName(pub u64);

/// Both stores, opened and found to belong together.
pub struct Stores {
    pub log: Arc<Store>,
    pub state: Arc<Store>,
    pub state_name: StateName,
    pub identity: Identity,
}

impl DataDir {
    pub fn new(path: &Path) -> Self {
        Self(path.to_path_buf())
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    pub fn log(&self) -> PathBuf {
        self.0.join("log")
    }

    pub fn state(&self, name: StateName) -> PathBuf {
        self.states().join(format!("{:08}", name.0))
    }

    pub fn snapshots(&self) -> PathBuf {
        self.0.join("snapshot")
    }

    /// Opens both stores as those of `node`, making them at the first start of all.
    ///
    /// # Errors
    /// One of them is missing, they do not belong together or to this node, or one cannot be read. Nothing was changed.
    pub fn open(
        &self,
        node: u64,
        log_families: &'static [Family],
        state_families: &'static [Family],
    ) -> Result<Stores, StorageError> {
        self.make(&self.0)?;
        self.prepare_creation()?;
        let state_name = self.current_state()?.unwrap_or(StateName(1));
        let log = Store::open(&self.log(), StoreKind::Log, log_families)?;
        self.make(&self.states())?;
        let state = Store::open(&self.state(state_name), StoreKind::State, state_families)?;
        let identity = self.identify(&log, &state, node)?;
        self.make(&self.snapshots())?;
        self.finish_creation(state_name)?;
        self.remove_superseded(state_name);
        Ok(Stores { log: Arc::new(log), state: Arc::new(state), state_name, identity })
    }

    /// Writes a changed identity into both stores. The log store goes first: it is the one that votes.
    pub fn identify_as(&self, log: &Store, state: &Store, identity: &Identity) -> Result<(), StorageError> {
        identity.write(log, Synced::Yes)?;
        identity.write(state, Synced::No)
    }

    /// Makes an empty state store beside the one in use, for a snapshot to be read into.
    pub fn create_state(
        &self,
        name: StateName,
        identity: &Identity,
        families: &'static [Family],
    ) -> Result<Store, StorageError> {
        let path = self.state(name);
        if path.exists() {
            // Left by an install that did not finish: it was never pointed at.
            fs::remove_dir_all(&path).map_err(|e| StorageError::from_io(&path, &e))?;
        }
        let store = Store::open(&path, StoreKind::State, families)?;
        identity.write(&store, Synced::No)?;
        Ok(store)
    }

    /// From now on, and after every restart, `name` is the state store. Atomic: a crash leaves the one or the other.
    pub fn point_at(&self, name: StateName) -> Result<(), StorageError> {
        #[cfg(test)]
        super::fault::count_write();
        let pointer = self.states().join(CURRENT);
        let io = |error: std::io::Error| StorageError::from_io(&pointer, &error);
        let incoming = self.states().join("CURRENT.new");
        let mut file = File::create(&incoming).map_err(io)?;
        writeln!(file, "{:08}", name.0).map_err(io)?;
        file.sync_all().map_err(io)?;
        fs::rename(&incoming, &pointer).map_err(io)?;
        sync_dir(&self.states()).map_err(io)
    }

    fn states(&self) -> PathBuf {
        self.0.join("state")
    }

    /// Neither store: this is a first start, marked so that its own interruption is not taken for a lost store.
    fn prepare_creation(&self) -> Result<(), StorageError> {
        let marker = self.0.join(CREATING);
        let (log, state) = (self.log().exists(), self.states().join(CURRENT).exists());
        if log && state || marker.exists() {
            return Ok(());
        }
        if log || self.states().exists() {
            let missing = if log { "the state store (state/)" } else { "the log store (log/)" };
            return Err(StorageError::HalfMissing { path: self.0.clone(), missing });
        }
        File::create(&marker).and_then(|file| file.sync_all()).map_err(|e| StorageError::from_io(&marker, &e))?;
        sync_dir(&self.0).map_err(|e| StorageError::from_io(&self.0, &e))
    }

    fn finish_creation(&self, state: StateName) -> Result<(), StorageError> {
        let marker = self.0.join(CREATING);
        if !marker.exists() {
            return Ok(());
        }
        self.point_at(state)?;
        fs::remove_file(&marker).map_err(|e| StorageError::from_io(&marker, &e))?;
        sync_dir(&self.0).map_err(|e| StorageError::from_io(&self.0, &e))
    }

    fn identify(&self, log: &Store, state: &Store, node: u64) -> Result<Identity, StorageError> {
        let path = self.0.clone();
        let identity = match (Identity::read(log)?, Identity::read(state)?) {
            // A snapshot that was installed into a pristine node brought the cluster along; the log store was to hear it next.
            (Some(log), Some(state)) if log.disk == state.disk && log.cluster.is_none() => state,
            (Some(log), Some(state)) if log.disk == state.disk => log,
            (Some(_), Some(_)) => {
                let reason = "they carry different disk ids".to_owned();
                return Err(StorageError::Mismatched { path, reason });
            }
            (log_identity, state_identity) => {
                if !self.0.join(CREATING).exists() {
                    let missing =
                        if log_identity.is_none() { "the log store's identity" } else { "the state store's identity" };
                    return Err(StorageError::HalfMissing { path, missing });
                }
                log_identity.or(state_identity).unwrap_or_else(|| Identity::fresh(node))
            }
        };
        identity.check_node(&self.0, node)?;
        if Identity::read(state)?.as_ref() != Some(&identity) || Identity::read(log)?.as_ref() != Some(&identity) {
            self.identify_as(log, state, &identity)?;
        }
        Ok(identity)
    }

    fn current_state(&self) -> Result<Option<StateName>, StorageError> {
        let pointer = self.states().join(CURRENT);
        let text = match fs::read_to_string(&pointer) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(StorageError::from_io(&pointer, &error)),
        };
        let name = text.trim().parse().map(StateName).map_err(|_| StorageError::Corrupt {
            path: pointer,
            reason: format!("it names the state store {:?}", text.trim()),
        })?;
        if !self.state(name).exists() {
            return Err(StorageError::HalfMissing {
                path: self.0.clone(),
                missing: "the state store that state/CURRENT names",
            });
        }
        Ok(Some(name))
    }

    /// State stores that a later snapshot replaced, and half-built ones that never counted.
    fn remove_superseded(&self, current: StateName) {
        let Ok(entries) = fs::read_dir(self.states()) else { return };
        for entry in entries.flatten() {
            let name = entry.file_name().to_string_lossy().parse().map(StateName);
            if name.is_ok_and(|name| name != current)
                && let Err(error) = fs::remove_dir_all(entry.path())
            {
                tracing::warn!(path = %entry.path().display(), %error, "superseded state store stays");
            }
        }
    }

    fn make(&self, path: &Path) -> Result<(), StorageError> {
        fs::create_dir_all(path).map_err(|e| StorageError::from_io(path, &e))
    }
}

impl StateName {
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

fn sync_dir(path: &Path) -> std::io::Result<()> {
    File::open(path)?.sync_all()
}
