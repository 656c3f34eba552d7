//! One process to a data directory.
//!
//! RocksDB locks each store by itself, but the supervisor comes before the stores and empties the scratch directory: a node
//! started twice by mistake would take the files of the first one's commands. So the directory itself is locked, before
//! anything in it is touched.

use std::{fs::File, io, path::Path};

use nix::{
    errno::Errno,
    fcntl::{Flock, FlockArg},
};

use super::error::ServerError;

/// Held as long as the node runs; the kernel lets go of it however the process ends.
pub struct DataLock {
    _directory: Flock<File>,
}

impl DataLock {
    /// Makes the directory if it is not there.
    pub fn take(data_dir: &Path) -> Result<Self, ServerError> {
        let path = || data_dir.to_path_buf();
        let unusable = |source: io::Error| ServerError::DataDirUnusable { path: path(), source };
        std::fs::create_dir_all(data_dir).map_err(unusable)?;
        let directory = File::open(data_dir).map_err(unusable)?;
        match Flock::lock(directory, FlockArg::LockExclusiveNonblock) {
            Ok(locked) => Ok(Self { _directory: locked }),
            Err((_, Errno::EWOULDBLOCK)) => Err(ServerError::DataDirInUse { path: path() }),
            Err((_, errno)) => Err(unusable(errno.into())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn take_twice_is_refused_until_let_go() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("data");
        let first = DataLock::take(&path).expect("free");
        let error = DataLock::take(&path).err().expect("taken");
        assert!(matches!(error, ServerError::DataDirInUse { .. }), "{error}");
        drop(first);
        DataLock::take(&path).expect("free again");
    }

    #[test]
    fn take_of_a_file_says_what_to_do() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        let error = DataLock::take(file.path()).err().expect("no directory");
        assert_eq!(error.exit_code(), 2);
        assert!(error.to_string().contains("set data_dir to a directory"), "{error}");
    }
}
