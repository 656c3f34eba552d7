//! The files through which a command is told what came before it and talks back, in a private directory.
//!
//! Most commands write none. So the directories are kept and given to one attempt after another: making and removing one
//! costs the file system's journal a write each, which the replicated log would have to wait for.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Read};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::json;

/// With both ends of both streams these stay below the 2 MiB that a job may have in all (design 3, limits).
pub const RESULT_BYTES_MAX: u64 = 512 * 1024;
pub const JOBS_BYTES_MAX: u64 = 1024 * 1024;
pub const CHECKPOINT_BYTES_MAX: u64 = 256 * 1024;

/// Begins the names of all directories made here, so that those of a node that was killed can be told and removed.
const NAME: &str = "slot-";
const RESULT: &str = "result";
const JOBS: &str = "jobs";
const CHECKPOINT: &str = "checkpoint";
const RESULTS: &str = "results";

/// All directories of a runner: as many as attempts ran at the same time.
pub struct Scratches {
    all: PathBuf,
    made: AtomicU64,
    idle: Mutex<Vec<Scratch>>,
}

/// One directory, for one attempt.
pub struct Scratch {
    directory: PathBuf,
    variables: [(&'static str, String); 4],
}

/// What a command left in its files.
#[derive(Debug, Default, PartialEq)]
pub struct Written {
    /// JSON.
    pub result: Option<String>,
    /// One JSON text each.
    pub jobs: Vec<String>,
}

impl Scratches {
    pub fn new(all: PathBuf) -> Self {
        Self { all, made: AtomicU64::new(0), idle: Mutex::default() }
    }

    /// An empty one, at no cost, if there is one.
    pub fn idle(&self) -> Option<Scratch> {
        self.idle.lock().expect("nothing panics while it is held").pop()
    }

    pub fn create(&self) -> io::Result<Scratch> {
        let number = self.made.fetch_add(1, Ordering::Relaxed);
        let scratch = Scratch::new(self.all.join(format!("{NAME}{number}")));
        DirBuilder::new().mode(0o700).create(&scratch.directory)?;
        Ok(scratch)
    }

    /// Must be empty.
    pub fn give_back(&self, scratch: Scratch) {
        self.idle.lock().expect("nothing panics while it is held").push(scratch);
    }
}

/// Makes the directory for all, and empties it: only one node uses it, and the commands of the one before are dead.
pub fn prepare(all: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(all)?;
    remove_all(all)
}

pub fn remove_all(all: &Path) -> io::Result<()> {
    for entry in fs::read_dir(all)?.flatten() {
        if entry.file_name().to_string_lossy().starts_with(NAME) {
            fs::remove_dir_all(entry.path())?;
        }
    }
    Ok(())
}

impl Scratch {
    fn new(directory: PathBuf) -> Self {
        let path = |name: &str| directory.join(name).to_string_lossy().into_owned();
        let variables = [
            ("RAFTQ_RESULT_FILE", path(RESULT)),
            ("RAFTQ_JOBS_FILE", path(JOBS)),
            ("RAFTQ_CHECKPOINT_FILE", path(CHECKPOINT)),
            ("RAFTQ_RESULTS_FILE", path(RESULTS)),
        ];
        Self { directory, variables }
    }

    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// How a command is told of its files.
    pub fn variables(&self) -> &[(&'static str, String)] {
        &self.variables
    }

    pub fn result_file(&self) -> PathBuf {
        self.directory.join(RESULT)
    }

    pub fn jobs_file(&self) -> PathBuf {
        self.directory.join(JOBS)
    }

    pub fn checkpoint_file(&self) -> PathBuf {
        self.directory.join(CHECKPOINT)
    }

    pub fn results_file(&self) -> PathBuf {
        self.directory.join(RESULTS)
    }

    /// Removes whatever was written, with the directory itself: a command can have done anything to it.
    pub fn empty(&self) -> io::Result<()> {
        match fs::remove_dir_all(&self.directory) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        DirBuilder::new().mode(0o700).create(&self.directory)
    }

    /// What a success wrote. An error says which file breaks its contract, and how.
    pub fn written(&self) -> Result<Written, String> {
        let result = read_text("result file", &self.result_file(), RESULT_BYTES_MAX)?.filter(|text| !is_blank(text));
        if let Some(text) = &result {
            json::check(text).map_err(|error| format!("result file: {error}"))?;
        }
        let jobs = read_text("jobs file", &self.jobs_file(), JOBS_BYTES_MAX)?.unwrap_or_default();
        Ok(Written { result, jobs: jobs.lines().filter(|line| !is_blank(line)).map(str::to_owned).collect() })
    }

    /// The checkpoint, if there is one that keeps the limit: one that does not is no reason to stop a command.
    pub fn checkpoint(&self) -> Option<Vec<u8>> {
        read(&self.checkpoint_file(), CHECKPOINT_BYTES_MAX).ok().flatten()
    }
}

fn is_blank(text: &str) -> bool {
    text.trim().is_empty()
}

fn read_text(name: &str, path: &Path, limit: u64) -> Result<Option<String>, String> {
    let bytes = read(path, limit).map_err(|error| format!("{name}: {error}"))?;
    bytes.map(String::from_utf8).transpose().map_err(|_| format!("{name}: not UTF-8"))
}

/// `None` if there is no such file. Only regular files: a FIFO in its place would wait for ever.
fn read(path: &Path, limit: u64) -> io::Result<Option<Vec<u8>>> {
    match fs::metadata(path) {
        Ok(metadata) if metadata.is_file() => {}
        Ok(_) => return Err(io::Error::other("not a regular file")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    }
    let mut bytes = Vec::new();
    File::open(path)?.take(limit + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit { Err(io::Error::other(format!("over {limit} bytes"))) } else { Ok(Some(bytes)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scratches() -> (tempfile::TempDir, Scratches) {
        let all = tempfile::tempdir().unwrap();
        let scratches = Scratches::new(all.path().into());
        (all, scratches)
    }

    fn written(result: &[u8], jobs: &[u8]) -> Result<Written, String> {
        let (_all, scratches) = scratches();
        let scratch = scratches.create().unwrap();
        fs::write(scratch.result_file(), result).unwrap();
        fs::write(scratch.jobs_file(), jobs).unwrap();
        scratch.written()
    }

    #[test]
    fn written_reads_what_keeps_the_contract() {
        let expected = Written { result: Some("{\"a\": 1}\n".into()), jobs: vec!["{}".into(), "not JSON".into()] };
        assert_eq!(written(b"{\"a\": 1}\n", b"{}\n\nnot JSON\n"), Ok(expected));
        assert_eq!(written(b" \n", b""), Ok(Written::default()));
    }

    #[test]
    fn written_refuses_what_breaks_it() {
        for (result, jobs, because) in [
            (&b"{"[..], &b""[..], "result file: EOF"),
            (b"1e400", b"", "result file: number out of range"),
            (b"\xff", b"", "result file: not UTF-8"),
            (&[b'1'; RESULT_BYTES_MAX as usize + 1], b"", "result file: over"),
            (b"", &[b'1'; JOBS_BYTES_MAX as usize + 1], "jobs file: over"),
        ] {
            let error = written(result, jobs).unwrap_err();
            assert!(error.starts_with(because), "{error}");
        }
    }

    #[test]
    fn scratch_is_private_and_empty_for_the_next() {
        use std::os::unix::fs::PermissionsExt;
        let (all, scratches) = scratches();
        let scratch = scratches.create().unwrap();
        assert_eq!(scratch.directory.metadata().unwrap().permissions().mode() & 0o777, 0o700);
        fs::create_dir(scratch.result_file()).unwrap();
        scratch.empty().unwrap();
        assert_eq!(fs::read_dir(&scratch.directory).unwrap().count(), 0);
        fs::remove_dir(&scratch.directory).unwrap();
        scratch.empty().unwrap();
        scratches.give_back(scratch);
        assert!(scratches.idle().is_some() && scratches.idle().is_none());
        assert_eq!(fs::read_dir(all.path()).unwrap().count(), 1);
    }

    #[test]
    fn prepare_removes_what_a_killed_node_left() {
        let (all, scratches) = scratches();
        fs::write(scratches.create().unwrap().jobs_file(), "{}").unwrap();
        fs::write(all.path().join("other"), "").unwrap();
        prepare(all.path()).unwrap();
        assert_eq!(fs::read_dir(all.path()).unwrap().count(), 1);
    }
}
