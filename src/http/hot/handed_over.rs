//! A connection with bytes that were taken from it and are to be read once more.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};

/// Reads what was taken, then the rest; nothing of the first is kept then.
#[derive(Debug)]
pub struct HandedOver {
    taken: Vec<u8>,
    /// How much of it is read again.
    read: usize,
    stream: TcpStream,
}

impl HandedOver {
    pub fn new(stream: TcpStream, taken: Vec<u8>) -> Self {
        Self { taken, read: 0, stream }
    }
}

impl AsyncRead for HandedOver {
    fn poll_read(mut self: Pin<&mut Self>, task: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.read == self.taken.len() {
            return Pin::new(&mut self.stream).poll_read(task, into);
        }
        let count = into.remaining().min(self.taken.len() - self.read);
        into.put_slice(&self.taken[self.read..self.read + count]);
        self.read += count;
        if self.read == self.taken.len() {
            (self.taken, self.read) = (Vec::new(), 0);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for HandedOver {
    fn poll_write(mut self: Pin<&mut Self>, task: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(task, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        task: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(task, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(task)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(task)
    }
}
