//! The files through which a command talks back: a private directory for each attempt, removed with it.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Read};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

/// With both ends of both streams these stay below the 2 MiB that a job may have in all (design 3, limits).
pub const RESULT_BYTES_MAX: u64 = 512 * 1024;
pub const JOBS_BYTES_MAX: u64 = 1024 * 1024;
pub const CHECKPOINT_BYTES_MAX: u64 = 256 * 1024;

/// Begins the names of all directories made here, so that those of a node that was killed can be told and removed.
const NAME: &str = "attempt-";

pub struct Scratch {
    directory: PathBuf,
}

/// What a command left in its files.
#[derive(Debug, Default, PartialEq)]
pub struct Written {
    /// JSON.
    pub result: Option<String>,
    /// One JSON text each.
    pub jobs: Vec<String>,
}

/// Makes the directory for all attempts, and empties it: only one node uses it, and its commands are dead.
pub fn prepare(all: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(all)?;
    for entry in fs::read_dir(all)?.flatten() {
        if entry.file_name().to_string_lossy().starts_with(NAME) {
            fs::remove_dir_all(entry.path())?;
        }
    }
    Ok(())
}

impl Scratch {
    pub fn create(all: &Path, lease: u64, checkpoint: Option<&[u8]>) -> io::Result<Self> {
        let scratch = Self { directory: all.join(format!("{NAME}{lease}")) };
        DirBuilder::new().mode(0o700).create(&scratch.directory)?;
        if let Some(checkpoint) = checkpoint {
            fs::write(scratch.checkpoint_file(), checkpoint)?;
        }
        Ok(scratch)
    }

    pub fn result_file(&self) -> PathBuf {
        self.directory.join("result")
    }

    pub fn jobs_file(&self) -> PathBuf {
        self.directory.join("jobs")
    }

    pub fn checkpoint_file(&self) -> PathBuf {
        self.directory.join("checkpoint")
    }

    /// What a success wrote. An error says which file breaks its contract, and how.
    pub fn written(&self) -> Result<Written, String> {
        let result = read_text("result file", &self.result_file(), RESULT_BYTES_MAX)?.filter(|text| !is_blank(text));
        if let Some(text) = &result {
            serde_json::from_str::<serde::de::IgnoredAny>(text).map_err(|error| format!("result file: {error}"))?;
        }
        let jobs = read_text("jobs file", &self.jobs_file(), JOBS_BYTES_MAX)?.unwrap_or_default();
        Ok(Written { result, jobs: jobs.lines().filter(|line| !is_blank(line)).map(str::to_owned).collect() })
    }

    /// The checkpoint, if there is one that keeps the limit: one that does not is no reason to stop a command.
    pub fn checkpoint(&self) -> Option<Vec<u8>> {
        read(&self.checkpoint_file(), CHECKPOINT_BYTES_MAX).ok().flatten()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.directory) {
            tracing::warn!(directory = %self.directory.display(), %error, "scratch directory not removed");
        }
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

    fn written(result: &[u8], jobs: &[u8]) -> Result<Written, String> {
        let all = tempfile::tempdir().unwrap();
        let scratch = Scratch::create(all.path(), 7, None).unwrap();
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
            (b"\xff", b"", "result file: not UTF-8"),
            (&[b'1'; RESULT_BYTES_MAX as usize + 1], b"", "result file: over"),
            (b"", &[b'1'; JOBS_BYTES_MAX as usize + 1], "jobs file: over"),
        ] {
            let error = written(result, jobs).unwrap_err();
            assert!(error.starts_with(because), "{error}");
        }
    }

    #[test]
    fn scratch_is_private_and_goes_with_its_attempt() {
        use std::os::unix::fs::PermissionsExt;
        let all = tempfile::tempdir().unwrap();
        let scratch = Scratch::create(all.path(), 7, Some(b"half")).unwrap();
        assert_eq!(scratch.checkpoint().as_deref(), Some(&b"half"[..]));
        assert_eq!(scratch.directory.metadata().unwrap().permissions().mode() & 0o777, 0o700);
        drop(scratch);
        assert_eq!(fs::read_dir(all.path()).unwrap().count(), 0);
    }

    #[test]
    fn prepare_removes_what_a_killed_node_left() {
        let all = tempfile::tempdir().unwrap();
        std::mem::forget(Scratch::create(all.path(), 7, Some(b"half")).unwrap());
        fs::write(all.path().join("other"), "").unwrap();
        prepare(all.path()).unwrap();
        assert_eq!(fs::read_dir(all.path()).unwrap().count(), 1);
    }
}
