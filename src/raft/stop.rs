//! How a node stops itself: the first reason counts, and whoever owns the process acts on it.

use std::{io, path::PathBuf, sync::Arc};

use tokio::sync::watch;

use super::feature::FeatureLevel;
use crate::storage::ClusterId;

/// Why a node must not go on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StopReason {
    #[error("the disk failed: {0}")]
    Disk(String),
    #[error("raft stopped: {0}")]
    Raft(String),
    #[error("this node was removed from the cluster; its id is spent, a new node needs a new one")]
    Removed,
    #[error("{0}")]
    Wiped(String),
    #[error(
        "the data directory {} belongs to cluster {own}, but {at} belong to cluster {other}. Give this node the data directory \
         it had among them, or correct its [[member]] entries; if that directory is lost, start it with an empty one under a \
         new id: raftq cluster replace", path.display()
    )]
    OtherCluster { path: PathBuf, own: ClusterId, other: ClusterId, at: String },
    #[error(
        "this node's state differs from the other members' at index {index}; its data is kept for examination. Bring it back with an empty data directory under a new id: raftq cluster replace"
    )]
    Diverged { index: u64 },
    #[error(
        "the cluster is at feature level {level} and this version knows up to {knows}: it must not guess what the log says \
         from there on. Nothing was lost; start the node with the version that the other members run"
    )]
    NewerLevel { level: FeatureLevel, knows: FeatureLevel },
    #[error(
        "this node led while its disk or its state machine made no progress for {stalled_ms} ms, and nobody could take over"
    )]
    Stalled { stalled_ms: u64 },
}

/// The one place where a reason to stop is put down.
#[derive(Clone, Debug)]
pub struct Stop(Arc<watch::Sender<Option<StopReason>>>);

impl Stop {
    pub fn new() -> Self {
        Self(Arc::new(watch::Sender::new(None)))
    }

    /// Notes the reason; a later one changes nothing.
    pub fn because(&self, reason: StopReason) {
        self.0.send_if_modified(|first| {
            if first.is_some() {
                return false;
            }
            tracing::error!(%reason, "node stops");
            *first = Some(reason);
            true
        });
    }

    pub fn watch(&self) -> watch::Receiver<Option<StopReason>> {
        self.0.subscribe()
    }

    pub fn is_set(&self) -> bool {
        self.0.borrow().is_some()
    }
}

/// What becomes of file work that is under way when the node ends: no fault, and told as none.
pub fn node_stops() -> io::Error {
    io::Error::other("the node stops")
}

impl Default for Stop {
    fn default() -> Self {
        Self::new()
    }
}
