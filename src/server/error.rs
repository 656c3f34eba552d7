//! Why a node did not start, or did not go on: one sentence each, and the exit code that tells a supervisor of services
//! whether trying again can help.

use std::{io, path::PathBuf};

use crate::{
    config::Address,
    raft::{OpenError, StopReason},
    storage::StorageError,
};

#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    #[error("{}", bind_refused(door, address, source))]
    Bind { door: &'static str, address: Address, source: io::Error },
    #[error("cannot start the runtime: {0}; check the limits of processes and open files (ulimit -u, ulimit -n)")]
    Runtime(io::Error),
    #[error("the data directory {} is in use by another node; stop that one first, or give this one its own", path.display())]
    DataDirInUse { path: PathBuf },
    #[error("cannot use the data directory {}: {source}; set data_dir to a directory that this user may write", path.display())]
    DataDirUnusable { path: PathBuf, source: io::Error },
    #[error("cannot start the supervisor of commands: {source}; check that {} can be written, and the limit of processes (ulimit -u)", scratch.display())]
    Supervisor { scratch: PathBuf, source: io::Error },
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error(transparent)]
    Stopped(StopReason),
}

impl ServerError {
    /// 2: started in the wrong way, the same start fails again. 1: something failed.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Bind { .. } | Self::DataDirInUse { .. } | Self::DataDirUnusable { .. } => 2,
            Self::Open(OpenError::Storage(error)) => storage_exit_code(error),
            Self::Open(OpenError::Removed { .. } | OpenError::Timers(_)) => 2,
            Self::Stopped(StopReason::Wiped(_) | StopReason::OtherCluster { .. } | StopReason::NewerLevel { .. }) => 2,
            Self::Runtime(_) | Self::Supervisor { .. } | Self::Open(_) | Self::Stopped(_) => 1,
        }
    }

    /// A port or the data directory, by another process, which may be on its way out.
    pub fn is_in_use(&self) -> bool {
        match self {
            Self::Bind { source, .. } => source.kind() == io::ErrorKind::AddrInUse,
            Self::DataDirInUse { .. } => true,
            _ => false,
        }
    }
}

fn storage_exit_code(error: &StorageError) -> u8 {
    match error {
        StorageError::Locked { .. }
        | StorageError::HalfMissing { .. }
        | StorageError::Mismatched { .. }
        | StorageError::OtherNode { .. }
        | StorageError::NewerFormat { .. } => 2,
        StorageError::Corrupt { .. } | StorageError::NoSpace { .. } | StorageError::Io { .. } => 1,
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
