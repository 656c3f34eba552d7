//! Bytes on disk; the only room that names RocksDB. It knows neither Raft nor the queue.
//!
//! A node keeps two stores, because they need opposite things (design 5, Disk):
//!
//! | store | holds | durable | a broken record |
//! |---|---|---|---|
//! | log | Raft's entries, vote | every write batch is synced before it is acknowledged | refuses to open, but for a torn tail |
//! | state | the rows that entries became | lags behind; flushed as a whole before the log is cut | refuses to open |
//!
//! ```text
//! DATA_DIR/
//!   CREATING            only while a first start makes the stores
//!   log/                the log store
//!   state/CURRENT       the name of the state store in use; replaced atomically when a snapshot is installed
//!   state/00000001/     the state store
//!   snapshot/           snapshots on their way from or to somebody
//! ```
//!
//! Nothing here is ever deleted because it could not be opened: what cannot be read stops the node, and a human decides.
//! Both stores carry the node's [`Identity`], which is how an empty or swapped disk is told from the real one.

mod data_dir;
mod error;
#[cfg(test)]
mod fault;
mod identity;
pub mod key;
mod loader;
mod options;
mod pinned;
mod store;

pub use data_dir::{DataDir, StateName, Stores};
pub use error::StorageError;
#[cfg(test)]
pub use fault::abort_at_write;
pub use identity::{ClusterId, DiskId, Identity};
pub use loader::Loader;
pub use options::StoreKind;
pub use pinned::Pinned;
pub use store::{Batch, Family, Store, StoreUsage, Synced};

/// Free and total bytes of the file system that holds `path`.
///
/// # Errors
/// The path does not exist or cannot be examined.
pub fn disk_space(path: &std::path::Path) -> std::io::Result<DiskSpace> {
    let stat = nix::sys::statvfs::statvfs(path)?;
    let unit = stat.fragment_size();
    Ok(DiskSpace { free: stat.blocks_available() * unit, total: stat.blocks() * unit })
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DiskSpace {
    pub free: u64,
    pub total: u64,
}
