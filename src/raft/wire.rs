//! How what peers say lies on a connection: frames, each behind its length.
//!
//! ```text
//! question: head · pieces of the body · an empty frame          answer: one frame
//! ```
//!
//! One question at a time on a connection, asked and answered by the tasks that care: every entry crosses here four times,
//! and each task that stood between would be woken for each of them.

use std::{io, time::Duration};

use bytes::Bytes;
use futures::{SinkExt, StreamExt};
use nix::sys::socket::{
    setsockopt,
    sockopt::{KeepAlive, TcpKeepCount, TcpKeepIdle, TcpKeepInterval, TcpUserTimeout},
};
use tokio::{io::AsyncWriteExt, net::TcpStream};
use tokio_util::codec::{Framed, LengthDelimitedCodec};

/// The largest frame: one append of the largest entry and what goes with it.
const FRAME_BYTES_MAX: usize = 64 << 20;
/// What is gathered before it is written: most messages leave in one call.
const GATHER_BYTES: usize = 1 << 20;
/// The system asks a peer that has been silent for so many seconds, every so many, so many times: one whose machine has vanished
/// holds up a snapshot, or takes a place, no longer.
const SILENCE_S: u32 = 5;
const ASKED_EVERY_S: u32 = 2;
const ASKED_TIMES: u32 = 3;
/// The same for bytes that nobody acknowledges; a peer that is frozen for a while acknowledges them and makes no room.
const UNHEARD: Duration = Duration::from_secs(20);
/// For whoever comes with a browser. HTTP's first bytes, read as a length, are beyond any frame.
const NOT_HTTP: &[u8] = b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-type: text/plain\r\n\r\n\
    this is the door for raftq nodes; clients use the api address\n";

/// One connection; cancelling any call leaves it in the middle of something, and it must be dropped.
pub struct Wire(Framed<TcpStream, LengthDelimitedCodec>);

impl Wire {
    /// # Errors
    /// The socket takes no options: it is closed already.
    pub fn new(stream: TcpStream) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        setsockopt(&stream, KeepAlive, &true)?;
        setsockopt(&stream, TcpKeepIdle, &SILENCE_S)?;
        setsockopt(&stream, TcpKeepInterval, &ASKED_EVERY_S)?;
        setsockopt(&stream, TcpKeepCount, &ASKED_TIMES)?;
        setsockopt(&stream, TcpUserTimeout, &u32::try_from(UNHEARD.as_millis()).expect("seconds"))?;
        let codec = LengthDelimitedCodec::builder().max_frame_length(FRAME_BYTES_MAX).new_codec();
        let mut framed = Framed::new(stream, codec);
        framed.set_backpressure_boundary(GATHER_BYTES);
        Ok(Self(framed))
    }

    /// Adds a frame to what [`Self::end`] writes. The empty frame ends a question, so a piece must not be empty.
    pub async fn feed(&mut self, frame: Bytes) -> io::Result<()> {
        debug_assert!(!frame.is_empty(), "an empty frame means the end");
        self.0.feed(frame).await
    }

    /// Ends a question.
    pub async fn end(&mut self) -> io::Result<()> {
        self.0.send(Bytes::new()).await
    }

    /// Answers a question.
    pub async fn answer(&mut self, frame: Bytes) -> io::Result<()> {
        self.0.send(frame).await
    }

    /// The next frame; `None` once the other side has closed the connection between two frames.
    ///
    /// # Errors
    /// [`io::ErrorKind::InvalidData`] if the other side speaks something else.
    pub async fn next(&mut self) -> io::Result<Option<Bytes>> {
        Ok(self.0.next().await.transpose()?.map(Into::into))
    }

    /// Tells whoever speaks HTTP which door this is.
    pub async fn refuse_http(&mut self) -> io::Result<()> {
        self.0.get_mut().write_all(NOT_HTTP).await
    }

    /// Returns once the other side has closed it, or says something before it was answered. Cancel-safe.
    pub async fn hung_up(&self) {
        // Whatever comes, bytes or an end, the question is nobody's any more.
        _ = self.0.get_ref().peek(&mut [0]).await;
    }

    /// Whether the other side has closed it, or says what nobody asked for.
    pub fn is_over(&self) -> bool {
        let nothing_yet = |error: &io::Error| error.kind() == io::ErrorKind::WouldBlock;
        let is_silent = self.0.get_ref().try_read(&mut [0]).as_ref().is_err_and(nothing_yet);
        !is_silent || !self.0.read_buffer().is_empty()
    }
}

#[cfg(test)]
mod tests {
    use tokio::{io::AsyncReadExt, net::TcpListener};

    use super::*;

    /// Both ends of one connection.
    async fn pair() -> (Wire, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("listening");
        let other = TcpStream::connect(listener.local_addr().expect("an address")).await.expect("connected");
        let (stream, _) = listener.accept().await.expect("accepted");
        (Wire::new(stream).expect("open"), other)
    }

    #[tokio::test]
    async fn frames_arrive_whole_and_apart() {
        let (mut near, far) = pair().await;
        let mut far = Wire::new(far).expect("open");
        let long = Bytes::from(vec![7; 3 * GATHER_BYTES]);
        let asking = async {
            near.feed(Bytes::from_static(b"head")).await?;
            near.feed(long.clone()).await?;
            near.end().await
        };
        let reading = async { [far.next().await, far.next().await, far.next().await].map(|f| f.unwrap().unwrap()) };
        let (asked, read) = tokio::join!(asking, reading);
        asked.expect("written");
        assert_eq!(read, [Bytes::from_static(b"head"), long, Bytes::new()]);
    }

    #[tokio::test]
    async fn is_over_once_the_other_side_has_hung_up() {
        let (mut near, far) = pair().await;
        assert!(!near.is_over());
        drop(far);
        assert_eq!(near.next().await.expect("hung up between frames"), None);
        assert!(near.is_over());
        near.hung_up().await;
    }

    #[tokio::test]
    async fn browser_is_told_which_door_this_is() {
        let (mut near, mut far) = pair().await;
        far.write_all(b"GET / HTTP/1.1\r\n\r\n").await.expect("written");
        let error = near.next().await.expect_err("no frame is that long");
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        near.refuse_http().await.expect("written");
        drop(near);
        let mut told = String::new();
        // What was not read of the request may reset the connection behind the answer.
        _ = far.read_to_string(&mut told).await;
        assert!(told.starts_with("HTTP/1.1 400 ") && told.contains("clients use the api address"), "{told}");
    }
}
