//! A large file that is written beside requests that may not wait for it.
//!
//! Writing the whole state costs others in two ways. It takes a core for seconds: so it rests between stretches. And it leaves
//! hundreds of megabytes in the page cache, which the log's next fsync would have to wait for: so each stretch is on the disk
//! before the next is begun. A node that stops does not wait for the end of it: the next write fails.

use std::{
    fs::File,
    io::{self, Write},
    os::fd::AsRawFd,
    time::{Duration, Instant},
};

use tokio_util::sync::CancellationToken;

use super::stop::node_stops;

/// Bytes between two rests.
const STRETCH_BYTES: u64 = 1 << 20;
/// For each moment at work so many at rest: a third of a core at most.
const RESTS: u32 = 2;
/// A stretch that took long was itself made to wait.
const REST_MAX: Duration = Duration::from_millis(100);

pub struct SteadyFile {
    file: File,
    written: u64,
    stretch: u64,
    since: Instant,
    stopping: CancellationToken,
}

impl SteadyFile {
    pub fn new(file: File, stopping: CancellationToken) -> Self {
        Self { file, written: 0, stretch: 0, since: Instant::now(), stopping }
    }

    fn rest(&mut self) {
        let worked = self.since.elapsed();
        self.put_down();
        std::thread::sleep((worked * RESTS).min(REST_MAX));
        (self.stretch, self.since) = (0, Instant::now());
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

impl Write for SteadyFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.stopping.is_cancelled() {
            return Err(node_stops());
        }
        let count = self.file.write(bytes)?;
        self.written += count as u64;
        self.stretch += count as u64;
        if self.stretch >= STRETCH_BYTES {
            self.rest();
        }
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steady_file_holds_what_was_written() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("file");
        let mut file = SteadyFile::new(File::create(&path).expect("made"), CancellationToken::new());
        let piece: Vec<u8> = (0..=255).cycle().take(300_000).collect();
        for _ in 0..11 {
            file.write_all(&piece).expect("written");
        }
        assert_eq!(std::fs::read(&path).expect("read"), piece.repeat(11));
    }

    #[test]
    fn steady_file_of_a_node_that_stops_takes_no_more() {
        let stopping = CancellationToken::new();
        let mut file = SteadyFile::new(tempfile::tempfile().expect("a file"), stopping.clone());
        file.write_all(b"begun").expect("written");
        stopping.cancel();
        let error = file.write_all(b"more").expect_err("the node stops");
        assert_eq!(error.to_string(), "the node stops");
    }
}
