//! The two listeners, bound before anything else happens.

use std::{io, net::TcpListener};

use nix::sys::socket::{Backlog, listen};

use super::error::ServerError;
use crate::config::{Address, Addresses};

/// Connections that may wait to be accepted; the standard library's 128 drop some when a thousand clients find a new leader.
const BACKLOG: i32 = 4096;

pub struct Doors {
    pub api: TcpListener,
    pub peer: TcpListener,
}

impl Doors {
    pub fn open(listen: &Addresses) -> Result<Self, ServerError> {
        Ok(Self { api: bind("api", &listen.api)?, peer: bind("peer", &listen.peer)? })
    }
}

fn bind(door: &'static str, address: &Address) -> Result<TcpListener, ServerError> {
    TcpListener::bind(address.as_str())
        .and_then(|listener| prepare(&listener).map(|()| listener))
        .map_err(|source| ServerError::Bind { door, address: address.clone(), source })
}

/// Ready for the runtime, which takes only listeners that do not block, and for every client coming back at once.
fn prepare(listener: &TcpListener) -> io::Result<()> {
    listen(listener, Backlog::new(BACKLOG)?)?;
    listener.set_nonblocking(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn open_with_port_in_use_says_which_and_what_to_do() {
        let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = taken.local_addr().expect("bound").to_string();
        let listen =
            Addresses { api: "127.0.0.1:0".parse().expect("an address"), peer: address.parse().expect("an address") };
        let error = Doors::open(&listen).err().expect("refused");
        assert_eq!(
            error.to_string(),
            format!(
                "the peer address {address} is in use by another process; stop that one (is this node running already?), \
                 or set another address with --peer"
            )
        );
        assert_eq!(error.exit_code(), 2);
    }
}
