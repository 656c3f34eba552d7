//! Why a node did not start, or did not go on: one sentence each, and the exit code that tells a supervisor of services
//! whether trying again can help.

use std::io;

use crate::config::Address;

#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    #[error("{}", bind_refused(door, address, source))]
    Bind { door: &'static str, address: Address, source: io::Error },
    #[error("cannot start the runtime: {0}; check the limits of processes and open files (ulimit -u, ulimit -n)")]
    Runtime(io::Error),
}

impl ServerError {
    /// 2: started in the wrong way, the same start fails again. 1: something failed.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Bind { .. } => 2,
            Self::Runtime(_) => 1,
        }
    }
}

fn bind_refused(door: &str, address: &Address, error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => format!(
            "the {door} address {address} is in use by another process; stop that one (is this node running already?), \
             or set another address with --{door}"
        ),
        io::ErrorKind::AddrNotAvailable => {
            format!("the {door} address {address} is not one of this machine's; set --{door} to one that is")
        }
        io::ErrorKind::PermissionDenied => {
            format!("no permission to listen on the {door} address {address}; use a port above 1023")
        }
        _ => format!("cannot listen on the {door} address {address}: {error}; set another one with --{door}"),
    }
}
