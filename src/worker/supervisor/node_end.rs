//! This process's end of the socket to the node. Never waits: a node that does not read finds its reports later.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;

use super::super::protocol::{FromSupervisor, ToSupervisor, decode, encode};

/// Beyond this, lines and tails are dropped: a stopped node must not make this process grow. Ends are always kept: there
/// is one for each running command at most.
const OUTBOX_BYTES: usize = 1024 * 1024;

const READ_BYTES: usize = 64 * 1024;

pub struct NodeEnd {
    socket: UnixStream,
    piece: Box<[u8]>,
    inbox: Vec<u8>,
    outbox: Vec<u8>,
    is_open: bool,
}

impl NodeEnd {
    pub fn new(socket: UnixStream) -> Self {
        Self {
            socket,
            piece: vec![0; READ_BYTES].into_boxed_slice(),
            inbox: Vec::new(),
            outbox: Vec::new(),
            is_open: true,
        }
    }

    pub fn is_open(&self) -> bool {
        self.is_open
    }

    pub fn has_unsent(&self) -> bool {
        !self.outbox.is_empty()
    }

    pub fn is_full(&self) -> bool {
        self.outbox.len() > OUTBOX_BYTES
    }

    pub fn send(&mut self, message: &FromSupervisor) {
        if self.is_open {
            encode(message, &mut self.outbox);
        }
    }

    /// Whatever complete messages are there. An end that closed, or talks nonsense, is a node that is gone.
    pub fn receive(&mut self) -> Vec<ToSupervisor> {
        loop {
            match self.socket.read(&mut self.piece) {
                Ok(0) => self.is_open = false,
                Ok(count) => self.inbox.extend_from_slice(&self.piece[..count]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(_) => self.is_open = false,
            }
            if !self.is_open || self.inbox.len() > self.piece.len() {
                break;
            }
        }
        decode(&mut self.inbox).unwrap_or_else(|_nonsense| {
            self.is_open = false;
            Vec::new()
        })
    }

    pub fn flush(&mut self) {
        while self.is_open && !self.outbox.is_empty() {
            match self.socket.write(&self.outbox) {
                Ok(count) => drop(self.outbox.drain(..count)),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(_) => self.is_open = false,
            }
        }
    }
}

impl AsFd for NodeEnd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
