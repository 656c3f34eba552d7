//! A snapshot as it is sent: made from pinned rows in the moment it leaves, so that nothing of it is on this node's disk.
//!
//! To make it takes a core for seconds, beside requests that may not wait for it: so it rests between pieces. It is no further
//! ahead of the wire than a few of them, and ends when nobody takes them any more, or the node stops.

use std::{
    io::{self, Write},
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures::{Stream, StreamExt, future::ready, stream};
use tokio::{runtime::Handle, sync::mpsc};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::stop::node_stops;

/// It leaves in pieces of this size.
pub const PIECE_BYTES: usize = 1 << 20;
/// Made and not taken yet.
const AHEAD: usize = 4;
/// For each moment at work so many at rest: a third of a core at most.
const RESTS: u32 = 2;
/// A piece that took long was itself made to wait.
const REST_MAX: Duration = Duration::from_millis(100);

/// Gathers what is written into pieces.
pub struct Outgoing {
    pieces: mpsc::Sender<Bytes>,
    piece: Vec<u8>,
    since: Instant,
    stopping: CancellationToken,
    runtime: Handle,
}

/// The pieces that `write` makes, off the runtime's threads; it begins when the first is asked for. Ends with an error unless all of
/// it was written.
pub fn pieces(
    tasks: TaskTracker,
    stopping: CancellationToken,
    write: impl FnOnce(&mut Outgoing) -> io::Result<()> + Send + 'static,
) -> impl Stream<Item = io::Result<Bytes>> {
    let begun = async move {
        let (pieces, mut taken) = mpsc::channel(AHEAD);
        let runtime = Handle::current();
        let mut out = Outgoing { pieces, piece: Vec::new(), since: Instant::now(), stopping, runtime };
        let writing = tasks.spawn_blocking(move || write(&mut out).and_then(|()| out.send()));
        let end = async move { writing.await.map_err(io::Error::other).flatten().err().map(Err) };
        stream::poll_fn(move |context| taken.poll_recv(context)).map(Ok).chain(stream::once(end).filter_map(ready))
    };
    stream::once(begun).flatten()
}

impl Outgoing {
    fn send(&mut self) -> io::Result<()> {
        // The wire ends with an empty piece.
        if self.piece.is_empty() {
            return Ok(());
        }
        let worked = self.since.elapsed();
        let piece = std::mem::replace(&mut self.piece, Vec::with_capacity(PIECE_BYTES)).into();
        self.runtime.block_on(async {
            tokio::select! {
                biased;
                () = self.stopping.cancelled() => Err(node_stops()),
                sent = self.pieces.send(piece) => {
                    sent.map_err(|_| io::Error::new(io::ErrorKind::BrokenPipe, "nobody takes it any more"))
                }
            }
        })?;
        std::thread::sleep((worked * RESTS).min(REST_MAX));
        self.since = Instant::now();
        Ok(())
    }
}

impl Write for Outgoing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = bytes.len().min(PIECE_BYTES - self.piece.len());
        self.piece.extend_from_slice(&bytes[..count]);
        if self.piece.len() == PIECE_BYTES {
            self.send()?;
        }
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use futures::TryStreamExt;

    use super::*;

    const BYTES: usize = 5 * PIECE_BYTES / 2;

    fn written(out: &mut Outgoing) -> io::Result<()> {
        (0..BYTES / 100).try_for_each(|number| out.write_all(&[number as u8; 100]))
    }

    #[tokio::test]
    async fn pieces_are_all_that_was_written_in_order() {
        let sent = pieces(TaskTracker::new(), CancellationToken::new(), written);
        let sent: Vec<Bytes> = sent.try_collect().await.expect("sent");
        assert!(sent.iter().all(|piece| (1..=PIECE_BYTES).contains(&piece.len())));
        let expect: Vec<u8> = (0..BYTES / 100).flat_map(|number| [number as u8; 100]).collect();
        assert_eq!(sent.concat(), expect);
    }

    #[tokio::test]
    async fn pieces_that_nobody_takes_end_the_writer() {
        let tasks = TaskTracker::new();
        let mut endless = Box::pin(pieces(tasks.clone(), CancellationToken::new(), |out| {
            loop {
                out.write_all(&[0; 1000])?;
            }
        }));
        endless.next().await.expect("a piece").expect("written");
        drop(endless);
        tasks.close();
        tokio::time::timeout(Duration::from_secs(20), tasks.wait()).await.expect("it ends");
    }

    #[tokio::test]
    async fn pieces_of_a_node_that_stops_end_with_an_error() {
        let stopping = CancellationToken::new();
        stopping.cancel();
        let sent: io::Result<Vec<Bytes>> = pieces(TaskTracker::new(), stopping, written).try_collect().await;
        assert_eq!(sent.expect_err("the node stops").to_string(), "the node stops");
    }

    #[tokio::test]
    async fn pieces_that_nobody_takes_do_not_hold_up_a_node_that_stops() {
        let (tasks, stopping) = (TaskTracker::new(), CancellationToken::new());
        let mut sent = Box::pin(pieces(tasks.clone(), stopping.clone(), |out| {
            (0..2 * AHEAD * PIECE_BYTES / 1000).try_for_each(|_| out.write_all(&[0; 1000]))
        }));
        sent.next().await.expect("a piece").expect("written");
        stopping.cancel();
        tasks.close();
        tokio::time::timeout(Duration::from_secs(20), tasks.wait())
            .await
            .expect("it ends, with its reader still there");
        let rest: Vec<io::Result<Bytes>> = sent.collect().await;
        assert!(rest.last().is_some_and(Result::is_err), "what is cut short does not pass for the whole");
    }
}
