//! What can go wrong with the disk, each with what to do about it.

use std::path::{Path, PathBuf};

use crate::codec::CodecError;

#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    #[error("{path} is in use by another process; stop that node first, or give this one its own data directory")]
    Locked { path: PathBuf },
    #[error(
        "{path} is damaged ({reason}); nothing was deleted. Keep it for examination, and bring this node back \
         with an empty data directory and a new id: raftq cluster replace"
    )]
    Corrupt { path: PathBuf, reason: String },
    #[error("no space is left for {path} ({reason}); free some and start the node again")]
    NoSpace { path: PathBuf, reason: String },
    #[error("cannot read or write {path}: {reason}; check the disk and its permissions, then start the node again")]
    Io { path: PathBuf, reason: String },
    #[error(
        "half of the data directory {path} is gone: {missing} is missing and the rest is there. Put it back from where \
         it was moved; if it is lost, empty the directory and rejoin under a new id: raftq cluster replace"
    )]
    HalfMissing { path: PathBuf, missing: &'static str },
    #[error(
        "the two stores in {path} are not from one disk ({reason}). Restore the ones that belong together, or empty the \
         directory and rejoin under a new id: raftq cluster replace"
    )]
    Mismatched { path: PathBuf, reason: String },
    #[error("{path} belongs to node {found}, this is node {wanted}; give it the right data directory or id")]
    OtherNode { path: PathBuf, found: u64, wanted: u64 },
    #[error("{path} was written by a newer version of raftq ({what}); nothing was changed, run that version")]
    NewerFormat { path: PathBuf, what: String },
}

impl StorageError {
    /// Sorts a RocksDB error by what the operator should do.
    pub(super) fn from_rocksdb(path: &Path, error: &rocksdb::Error) -> Self {
        let (path, reason) = (path.to_path_buf(), error.to_string());
        if reason.contains("lock file") || reason.contains("LOCK") || reason.contains("lock hold") {
            return Self::Locked { path };
        }
        if reason.contains("Column families not opened") {
            return Self::NewerFormat { path, what: reason };
        }
        if reason.contains("No space left") {
            return Self::NoSpace { path, reason };
        }
        match error.kind() {
            rocksdb::ErrorKind::Corruption | rocksdb::ErrorKind::InvalidArgument | rocksdb::ErrorKind::NotSupported => {
                Self::Corrupt { path, reason }
            }
            _ => Self::Io { path, reason },
        }
    }

    /// A record at `path` that was read whole and means nothing here.
    pub fn undecodable(path: &Path, error: &CodecError) -> Self {
        let (path, reason) = (path.to_path_buf(), error.to_string());
        match error {
            CodecError::Newer { .. } => Self::NewerFormat { path, what: reason },
            CodecError::Empty { .. } | CodecError::TooLarge { .. } | CodecError::Malformed { .. } => {
                Self::Corrupt { path, reason }
            }
        }
    }

    pub(super) fn from_io(path: &Path, error: &std::io::Error) -> Self {
        let (path, reason) = (path.to_path_buf(), error.to_string());
        match error.kind() {
            std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => Self::NoSpace { path, reason },
            _ => Self::Io { path, reason },
        }
    }
}

impl From<StorageError> for std::io::Error {
    fn from(error: StorageError) -> Self {
        Self::other(error)
    }
}
