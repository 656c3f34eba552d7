//! What a command writes: bounded, whatever it writes. A [`Capture`] keeps the beginning and the end of one stream, the
//! [`Directives`] find the lines addressed to raftq in it.

use std::collections::VecDeque;

/// Bytes kept of each end of a stream in a report (design 2).
pub const END_BYTES: usize = 4096;
/// Bytes of the live tail of one stream. Two streams make 64 KiB a running job, the bound of what a chatty command costs.
pub const TAIL_BYTES: usize = 32 * 1024;
/// A log line is cut here (design 3, limits).
pub const LINE_BYTES: usize = 4096;

/// What a line begins with that is addressed to raftq (design 2.4).
macro_rules! prefix {
    () => {
        "::raftq "
    };
}
const PREFIX: &[u8] = prefix!().as_bytes();
/// The same of a line for the log.
pub const LOG_PREFIX: &str = concat!(prefix!(), "log ");

/// The first and the last bytes of a stream, and how many there were.
#[derive(Default)]
pub struct Capture {
    head: Vec<u8>,
    tail: VecDeque<u8>,
    total: u64,
}

impl Capture {
    pub fn push(&mut self, bytes: &[u8]) {
        let room = END_BYTES - self.head.len();
        self.head.extend_from_slice(&bytes[..bytes.len().min(room)]);
        self.total += bytes.len() as u64;
        self.tail.extend(&bytes[bytes.len().saturating_sub(TAIL_BYTES)..]);
        self.tail.drain(..self.tail.len().saturating_sub(TAIL_BYTES));
    }

    /// Both ends, with the exact number of bytes left out between them.
    pub fn both_ends(&self) -> String {
        let kept = 2 * END_BYTES as u64;
        if self.total <= kept {
            return self.last(2 * END_BYTES);
        }
        let omitted = self.total - kept;
        format!("{}\n... omitting {omitted} bytes ...\n{}", String::from_utf8_lossy(&self.head), self.last(END_BYTES))
    }

    pub fn last_end(&self) -> String {
        self.last(END_BYTES)
    }

    pub fn live_tail(&self) -> String {
        self.last(TAIL_BYTES)
    }

    /// Text, for it ends in JSON: what is not UTF-8, or was cut within a character, shows as U+FFFD.
    fn last(&self, count: usize) -> String {
        let from = self.tail.len().saturating_sub(count);
        let bytes: Vec<u8> = self.tail.range(from..).copied().collect();
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

/// Finds lines that begin with `::raftq ` in a stream that comes in pieces, without keeping any other line.
#[derive(Default)]
pub struct Directives {
    line: Vec<u8>,
    skipping: bool,
}

impl Directives {
    /// Calls `found` with what follows the prefix, for each complete line.
    pub fn push(&mut self, mut bytes: &[u8], found: &mut impl FnMut(String)) {
        while !bytes.is_empty() {
            let end = bytes.iter().position(|byte| *byte == b'\n');
            self.take(&bytes[..end.unwrap_or(bytes.len())]);
            let Some(end) = end else { return };
            self.end(found);
            bytes = &bytes[end + 1..];
        }
    }

    /// The stream is over: a last line may lack its newline.
    pub fn end(&mut self, found: &mut impl FnMut(String)) {
        if let Some(text) = self.line.strip_prefix(PREFIX) {
            found(String::from_utf8_lossy(text).into_owned());
        }
        self.line.clear();
        self.skipping = false;
    }

    fn take(&mut self, part: &[u8]) {
        if self.skipping {
            return;
        }
        let room = PREFIX.len() + LINE_BYTES - self.line.len();
        self.line.extend_from_slice(&part[..part.len().min(room)]);
        let compared = self.line.len().min(PREFIX.len());
        if self.line[..compared] != PREFIX[..compared] {
            self.skipping = true;
            self.line.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn captured(pieces: &[&[u8]]) -> Capture {
        let mut capture = Capture::default();
        pieces.iter().for_each(|piece| capture.push(piece));
        capture
    }

    /// Scenario 27.
    #[test]
    fn both_ends_of_long_output_counts_what_is_omitted() {
        let output: String = (1..=60).map(|line| format!("{}p\n", line.to_string().repeat(130))).collect();
        let capture = captured(&output.as_bytes().chunks(1000).collect::<Vec<_>>());
        assert_eq!(output.len(), 14_550);
        let expected = format!("{}\n... omitting 6358 bytes ...\n{}", &output[..4096], &output[14_550 - 4096..]);
        assert_eq!(capture.both_ends(), expected);
    }

    #[test]
    fn both_ends_of_short_output_is_all_of_it() {
        for length in [0, 1, 4096, 4097, 8192] {
            assert_eq!(captured(&[&vec![b'x'; length]]).both_ends(), "x".repeat(length));
        }
        let one_more = captured(&[&[b'x'; 8193]]).both_ends();
        assert!(one_more.contains("\n... omitting 1 bytes ...\n"), "{one_more}");
    }

    #[test]
    fn capture_of_endless_output_stays_small() {
        let mut capture = Capture::default();
        (0..2000).for_each(|_| capture.push(&[b'x'; 65536]));
        assert!(capture.tail.capacity() <= 4 * TAIL_BYTES, "{}", capture.tail.capacity());
        assert_eq!(capture.live_tail().len(), TAIL_BYTES);
        assert_eq!(capture.last_end().len(), END_BYTES);
    }

    fn directives(pieces: &[&str]) -> Vec<String> {
        let mut found = Vec::new();
        let mut scanner = Directives::default();
        pieces.iter().for_each(|piece| scanner.push(piece.as_bytes(), &mut |line| found.push(line)));
        scanner.end(&mut |line| found.push(line));
        found
    }

    #[test]
    fn directives_are_found_across_pieces_and_nowhere_else() {
        let pieces =
            ["a ::raftq log no\n::raf", "tq log yes\n", "::raftq progress 0.4 half\n::raft\n\n", "::raftq log last"];
        assert_eq!(directives(&pieces), ["log yes", "progress 0.4 half", "log last"]);
    }

    #[test]
    fn directives_cut_a_long_line() {
        let long = format!("::raftq {}\n::raftq log b\n", "x".repeat(100_000));
        assert_eq!(directives(&[&long]), ["x".repeat(LINE_BYTES), "log b".into()]);
    }
}
