//! The pipes of the commands, and what the loop waits for.

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};

use super::super::output::Capture;

/// Leases are below 2^53, as all numbers that JSON carries; this is where the packing of [`Source`] would end.
pub const LEASE_MAX: u64 = 1 << 61;
/// A pipe holds no more, whatever was asked of it without privilege.
const PIPE_BYTES_MAX: usize = 1024 * 1024;
const READ_BYTES: usize = 64 * 1024;

/// What there is news of. The kernel carries it in one number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    Node,
    Children,
    Stdout { lease: u64 },
    Stderr { lease: u64 },
}

impl Source {
    fn pack(self) -> u64 {
        match self {
            Self::Node => 0,
            Self::Children => 1,
            Self::Stdout { lease } => lease << 2 | 2,
            Self::Stderr { lease } => lease << 2 | 3,
        }
    }

    fn unpack(number: u64) -> Self {
        match (number & 3, number >> 2) {
            (0, _) => Self::Node,
            (1, _) => Self::Children,
            (2, lease) => Self::Stdout { lease },
            (_, lease) => Self::Stderr { lease },
        }
    }
}

/// Epoll, and the one buffer into which everything is read.
pub struct Plumbing {
    epoll: Epoll,
    buffer: Box<[u8]>,
}

impl Plumbing {
    pub fn new() -> nix::Result<Self> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        Ok(Self { epoll, buffer: vec![0; READ_BYTES].into_boxed_slice() })
    }

    pub fn listen(&self, to: impl AsFd, source: Source) -> nix::Result<()> {
        self.epoll.add(to, EpollEvent::new(EpollFlags::EPOLLIN, source.pack()))
    }

    /// Whether to say, besides, when it can be written to.
    pub fn listen_for_room(&self, to: impl AsFd, source: Source, is_wanted: bool) -> nix::Result<()> {
        let room = if is_wanted { EpollFlags::EPOLLOUT } else { EpollFlags::empty() };
        self.epoll.modify(to, &mut EpollEvent::new(EpollFlags::EPOLLIN | room, source.pack()))
    }

    /// Closing is not enough: until a process that was just started has become its command it holds copies of our
    /// descriptors, and epoll would go on reporting the end of a pipe that nobody here knows any more.
    pub fn forget(&self, what: impl AsFd) {
        let _is_known_to_be_there = self.epoll.delete(what);
    }

    pub fn wait(&self, timeout: EpollTimeout) -> nix::Result<Vec<Source>> {
        let mut events = [EpollEvent::empty(); 64];
        match self.epoll.wait(&mut events, timeout) {
            Ok(count) => Ok(events[..count].iter().map(|event| Source::unpack(event.data())).collect()),
            Err(nix::Error::EINTR) => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }
}

/// One output of a command.
pub struct Stream {
    pipe: Option<File>,
    source: Source,
    is_listened_to: bool,
    capture: Capture,
}

impl Stream {
    pub fn new(pipe: OwnedFd, source: Source) -> Self {
        Self { pipe: Some(pipe.into()), source, is_listened_to: false, capture: Capture::default() }
    }

    /// Without it the output waits in the pipe until the command ends, or the command waits for it to be read: if the
    /// kernel is out of watches that is bad, but no reason to disown a command that runs.
    pub fn listen(&mut self, plumbing: &Plumbing) {
        self.is_listened_to = self.pipe.as_ref().is_some_and(|pipe| plumbing.listen(pipe, self.source).is_ok());
    }

    pub fn capture(&self) -> &Capture {
        &self.capture
    }

    /// One read, so that no command keeps the loop from the others. Returns how much there was.
    pub fn read(&mut self, plumbing: &mut Plumbing, mut also: impl FnMut(&[u8])) -> usize {
        let Some(pipe) = &mut self.pipe else { return 0 };
        match pipe.read(&mut plumbing.buffer) {
            Ok(0) => self.close(plumbing),
            Ok(count) => {
                self.capture.push(&plumbing.buffer[..count]);
                also(&plumbing.buffer[..count]);
                return count;
            }
            // Nothing there, or interrupted: the loop comes again.
            Err(_) => {}
        }
        0
    }

    /// Reads what is still there, and closes.
    pub fn drain(&mut self, plumbing: &mut Plumbing, mut also: impl FnMut(&[u8])) {
        let mut read = 0;
        while read <= PIPE_BYTES_MAX {
            match self.read(plumbing, &mut also) {
                0 => break,
                count => read += count,
            }
        }
        self.close(plumbing);
    }

    fn close(&mut self, plumbing: &Plumbing) {
        if let Some(pipe) = self.pipe.take().filter(|_| self.is_listened_to) {
            plumbing.forget(&pipe);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_survive_packing() {
        for source in [Source::Node, Source::Children, Source::Stdout { lease: 1 }, Source::Stderr { lease: LEASE_MAX }]
        {
            assert_eq!(Source::unpack(source.pack()), source);
        }
    }
}
