//! The directory that a worker makes for itself, for the files of its commands.
//!
//! A worker that is killed leaves it behind, and the next one of the same user on this machine removes it. Whether its owner lives is told
//! by a lock that goes with the process: a pid may have gone to another since, or mean another process in another container. Commands of
//! one that was killed have half a second left then; what they write in it is nobody's.

use std::{
    ffi::OsStr,
    fs::{self, DirBuilder, File, OpenOptions},
    io,
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use nix::{libc::O_NOFOLLOW, unistd::geteuid};

/// Begins the names of all of them.
const NAME: &str = "raftq-worker-";
const LOCK: &str = "lock";

pub struct OwnDirectory {
    path: PathBuf,
    /// Held until the process ends.
    _lock: File,
}

impl OwnDirectory {
    /// A new one among the machine's temporary files.
    pub fn new() -> io::Result<Self> {
        Self::make_in(&std::env::temp_dir())
    }

    fn make_in(all: &Path) -> io::Result<Self> {
        remove_left_behind(all);
        let path = all.join(format!("{NAME}{}-{:08x}", std::process::id(), rand::random::<u32>()));
        DirBuilder::new().mode(0o700).create(&path)?;
        let lock = lock(&path)?;
        Ok(Self { path, _lock: lock })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn remove(&self) -> io::Result<()> {
        fs::remove_dir_all(&self.path)
    }
}

/// Locked before it has its name: whoever finds it is never the first to lock it while its owner lives.
fn lock(directory: &Path) -> io::Result<File> {
    let unnamed = directory.join("lock.new");
    let lock = File::create_new(&unnamed)?;
    lock.lock()?;
    fs::rename(unnamed, directory.join(LOCK))?;
    Ok(lock)
}

/// What cannot be told, or removed, stays: it is in nobody's way.
fn remove_left_behind(all: &Path) {
    for entry in fs::read_dir(all).into_iter().flatten().flatten() {
        if is_left_behind(&entry.path(), &entry.file_name()) {
            // The next worker tries again.
            drop(fs::remove_dir_all(entry.path()));
        }
    }
}

/// A directory of this user's, no link to one, whose owner has gone.
fn is_left_behind(path: &Path, name: &OsStr) -> bool {
    let is_ours = |found: fs::Metadata| found.is_dir() && found.uid() == geteuid().as_raw();
    let named_so = name.as_encoded_bytes().starts_with(NAME.as_bytes());
    if !named_so || !fs::symlink_metadata(path).is_ok_and(is_ours) {
        return false;
    }
    let lock = OpenOptions::new().read(true).custom_flags(O_NOFOLLOW).open(path.join(LOCK));
    lock.is_ok_and(|lock| lock.try_lock().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directories_of_workers_that_have_gone_are_removed_and_no_others() {
        let all = tempfile::tempdir().expect("a directory");
        let elsewhere = tempfile::tempdir().expect("a directory");
        fs::write(elsewhere.path().join(LOCK), "").expect("writes");
        let make = |name: &str| {
            let path = all.path().join(name);
            fs::create_dir(&path).expect("new");
            path
        };
        let living = OwnDirectory::make_in(all.path()).expect("makes one");
        let gone = OwnDirectory::make_in(all.path()).expect("makes another").path;
        fs::create_dir(gone.join("slot-0")).expect("new");
        let (unlocked, others) = (make("raftq-worker-17"), make("somebody-else"));
        fs::write(others.join(LOCK), "").expect("writes");
        let link = all.path().join("raftq-worker-18");
        std::os::unix::fs::symlink(elsewhere.path(), &link).expect("new");

        let next = OwnDirectory::make_in(all.path()).expect("makes a third");
        assert!(!gone.exists(), "its owner has gone");
        for path in [living.path(), next.path(), &unlocked, &others, &link, elsewhere.path()] {
            assert!(path.exists(), "{}", path.display());
        }
        living.remove().expect("removes its own");
        assert!(!living.path().exists());
    }
}
