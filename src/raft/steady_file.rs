//! A large file that is written beside requests that may not wait for it.
//!
//! What is left in the page cache, hundreds of megabytes, the log's next fsync would have to wait for: so each stretch is on the disk
//! before the next is begun. A node that stops does not wait for the end of it: the next write fails.

use std::{
    fs::File,
    io::{self, Write},
    os::fd::AsRawFd,
};

use bytes::Bytes;
use tokio_util::sync::CancellationToken;

use super::stop::node_stops;

/// Bytes that may be on their way to the disk.
const STRETCH_BYTES: u64 = 1 << 20;

pub struct SteadyFile {
    file: File,
    written: u64,
    stretch: u64,
    stopping: CancellationToken,
}

impl SteadyFile {
    pub fn new(file: File, stopping: CancellationToken) -> Self {
        Self { file, written: 0, stretch: 0, stopping }
    }

    /// Writes off the runtime's threads.
    pub async fn put(mut self, piece: Bytes) -> io::Result<Self> {
        let writing = move || self.write(&piece).map(|()| self);
        tokio::task::spawn_blocking(writing).await.map_err(io::Error::other)?
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.stopping.is_cancelled() {
            return Err(node_stops());
        }
        self.file.write_all(bytes)?;
        self.written += bytes.len() as u64;
        self.stretch += bytes.len() as u64;
        if self.stretch >= STRETCH_BYTES {
            self.put_down();
            self.stretch = 0;
        }
        Ok(())
    }

    /// Has the stretch written to the disk. That does not make it durable: the file is read at once, and of no use after a crash.
    fn put_down(&self) {
        let flags = libc::SYNC_FILE_RANGE_WAIT_BEFORE | libc::SYNC_FILE_RANGE_WRITE | libc::SYNC_FILE_RANGE_WAIT_AFTER;
        let (from, bytes) = ((self.written - self.stretch).cast_signed(), self.stretch.cast_signed());
        // SAFETY: the descriptor is open for as long as `self.file` is, and no memory is involved. A hint: its failure is one of
        // the disk, which whoever reads the file will meet.
        unsafe { libc::sync_file_range(self.file.as_raw_fd(), from, bytes, flags) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn steady_file_holds_what_was_written() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("file");
        let mut file = SteadyFile::new(File::create(&path).expect("made"), CancellationToken::new());
        let piece: Vec<u8> = (0..=255).cycle().take(300_000).collect();
        for _ in 0..11 {
            file = file.put(piece.clone().into()).await.expect("written");
        }
        assert_eq!(std::fs::read(&path).expect("read"), piece.repeat(11));
    }

    #[tokio::test]
    async fn steady_file_of_a_node_that_stops_takes_no_more() {
        let stopping = CancellationToken::new();
        let file = SteadyFile::new(tempfile::tempfile().expect("a file"), stopping.clone());
        let file = file.put(Bytes::from_static(b"begun")).await.expect("written");
        stopping.cancel();
        let error = file.put(Bytes::from_static(b"more")).await.err().expect("the node stops");
        assert_eq!(error.to_string(), "the node stops");
    }
}
