//! How what peers say lies on a connection: frames, each behind its length.
//!
//! ```text
//! question: head · pieces of the body · an empty frame          answer: one frame
//! ```
//!
//! One question at a time on a connection, asked and answered by the tasks that care: every entry crosses here four times,
//! and each task that stood between would be woken for each of them.

use std::{io, time::Duration};

use bytes::{Bytes, BytesMut};
use futures::{SinkExt, StreamExt};
use nix::sys::socket::{
    setsockopt,
    sockopt::{KeepAlive, TcpKeepCount, TcpKeepIdle, TcpKeepInterval, TcpUserTimeout},
};
use tokio::{io::AsyncWriteExt, net::TcpStream};
use tokio_util::codec::{Framed, LengthDelimitedCodec};

/// The largest frame: one append of the largest entry and what goes with it.
const FRAME_BYTES_MAX: usize = 64 << 20;
/// The head of a question is all that a node takes from somebody before it knows that the question is meant for it.
const HEAD_BYTES_MAX: usize = 4 << 10;
/// What is gathered before it is written: most messages leave in one call.
const GATHER_BYTES: usize = 1 << 20;
/// Buffers that had to grow further are given back once a question is answered: a connection is idle most of its life.
const BUFFER_BYTES_KEPT: usize = 1 << 20;
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
pub struct Wire {
    frames: Framed<TcpStream, LengthDelimitedCodec>,
    /// The largest frame since the buffers were last looked at.
    largest: usize,
}

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
        let mut frames = Framed::new(stream, codec);
        frames.set_backpressure_boundary(GATHER_BYTES);
        Ok(Self { frames, largest: 0 })
    }

    /// Adds a frame to what [`Self::end`] writes. The empty frame ends a question, so a piece must not be empty.
    pub async fn feed(&mut self, frame: Bytes) -> io::Result<()> {
        debug_assert!(!frame.is_empty(), "an empty frame means the end");
        self.largest = self.largest.max(frame.len());
        self.frames.feed(frame).await
    }

    /// Ends a question.
    pub async fn end(&mut self) -> io::Result<()> {
        self.frames.send(Bytes::new()).await
    }

    /// Answers a question.
    pub async fn answer(&mut self, frame: Bytes) -> io::Result<()> {
        self.largest = self.largest.max(frame.len());
        self.frames.send(frame).await
    }

    /// The head of the next question; `None` once the other side has closed the connection.
    ///
    /// # Errors
    /// [`io::ErrorKind::InvalidData`] if the other side speaks something else.
    pub async fn head(&mut self) -> io::Result<Option<Bytes>> {
        self.give_back();
        self.frames.codec_mut().set_max_frame_length(HEAD_BYTES_MAX);
        let head = self.next().await;
        self.frames.codec_mut().set_max_frame_length(FRAME_BYTES_MAX);
        head
    }

    /// The next frame; `None` once the other side has closed the connection between two frames.
    ///
    /// # Errors
    /// [`io::ErrorKind::InvalidData`] if the other side speaks something else.
    pub async fn next(&mut self) -> io::Result<Option<Bytes>> {
        let frame = self.frames.next().await.transpose()?;
        self.largest = self.largest.max(frame.as_ref().map_or(0, BytesMut::len));
        Ok(frame.map(Into::into))
    }

    /// Between two questions: lets go of what a large one took. Frames that were read share the buffer for as long as they live.
    pub fn give_back(&mut self) {
        let is_quiet = self.frames.read_buffer().is_empty() && self.frames.write_buffer().is_empty();
        if self.largest > BUFFER_BYTES_KEPT && is_quiet {
            *self.frames.read_buffer_mut() = BytesMut::new();
            *self.frames.write_buffer_mut() = BytesMut::new();
            self.largest = 0;
        }
    }

    /// Tells whoever speaks HTTP which door this is.
    pub async fn refuse_http(&mut self) -> io::Result<()> {
        self.frames.get_mut().write_all(NOT_HTTP).await
    }

    /// Returns once the other side has closed it, or says something before it was answered. Cancel-safe.
    pub async fn hung_up(&self) {
        // Whatever comes, bytes or an end, the question is nobody's any more.
        _ = self.frames.get_ref().peek(&mut [0]).await;
    }

    /// Whether the other side has closed it, or says what nobody asked for.
    pub fn is_over(&self) -> bool {
        let nothing_yet = |error: &io::Error| error.kind() == io::ErrorKind::WouldBlock;
        let is_silent = self.frames.get_ref().try_read(&mut [0]).as_ref().is_err_and(nothing_yet);
        !is_silent || !self.frames.read_buffer().is_empty()
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
        for wire in [&mut near, &mut far] {
            wire.give_back();
            let kept = [wire.frames.read_buffer().capacity(), wire.frames.write_buffer().capacity()];
            assert_eq!(kept, [0, 0], "an idle connection holds no large buffer");
        }
        near.end().await.expect("written");
        assert_eq!(far.next().await.expect("read"), Some(Bytes::new()), "and works all the same");
    }

    #[tokio::test]
    async fn head_of_a_question_is_small() {
        let (mut near, mut far) = pair().await;
        far.write_all(&u32::try_from(HEAD_BYTES_MAX + 1).expect("small").to_be_bytes()).await.expect("written");
        let error = near.head().await.expect_err("too long for a head");
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    }

    #[tokio::test]
    async fn body_behind_a_head_may_be_large() {
        let (mut near, far) = pair().await;
        let mut far = Wire::new(far).expect("open");
        let body = Bytes::from(vec![7; 2 * HEAD_BYTES_MAX]);
        let asking = async {
            near.feed(Bytes::from_static(b"head")).await?;
            near.feed(body.clone()).await?;
            near.end().await
        };
        let reading = async { (far.head().await.expect("a head"), far.next().await.expect("a body")) };
        let (asked, read) = tokio::join!(asking, reading);
        asked.expect("written");
        assert_eq!(read, (Some(Bytes::from_static(b"head")), Some(body)));
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
