//! Replication: the only room that names openraft. [`Node`] is all that the others see of it.
//!
//! ```text
//!            propose                    view                                 other nodes
//!               │                        │                                        │ TCP, bincode
//!        ┌──────▼──────┐          ┌──────▼──────┐    read index, probes     ┌─────▼─────┐
//!        │ batch       │          │ reads       │◄─────────────────────────►│ peer, rpc │
//!        └──────┬──────┘          └──────┬──────┘                           └─────▲─────┘
//!               │ one entry, many requests                                        │ network
//!        ┌──────▼────────────────────────┼────────────────────────────────────────▼─────┐
//!        │ openraft                      │                                              │
//!        └──┬────────────────────────────┼───────────────────────┬──────────────────────┘
//!           │ append, vote, purge        │ committed entries     │ snapshot
//!    ┌──────▼──────┐              ┌──────▼──────┐         ┌──────▼──────┐
//!    │ log_store   │              │ apply       │────────►│ snapshot    │
//!    │ log_writer  │              │ replica     │  pinned │ _file       │
//!    └──────┬──────┘              └──────┬──────┘         └──────┬──────┘
//!           ▼ synced                     ▼ flushed in whole      ▼ verified to its end
//!        log store                    state store             snapshot file
//! ```
//!
//! # What holds
//!
//! - **An acknowledgement follows a majority's sync.** One thread writes the log, in the order of the calls; callers are
//!   answered on the apply thread, after the entry is committed and its rows are written.
//! - **The log is cut only behind a snapshot, and a snapshot counts only once the state store is flushed.** So the state
//!   store needs no write-ahead log: a crash loses a suffix of whole batches, and the log gives them back.
//! - **A promise belongs to a disk.** Every question between nodes names cluster, sender, receiver and the receiver's disk;
//!   a node answers only its own, and one without a cluster answers nothing but a probe and an invitation.
//! - **A request is proposed at most once**, and in the office it was stamped in. What became of it is committed, never
//!   proposed, or unknown, and nothing in between.
//! - **Rows and hot state are seen at one index.** A reader holds the read lock while it pins the rows.
//! - **Nothing is repaired by guessing.** A disk that fails, a log that does not read back, a state that differs from the
//!   majority's: each stops the node ([`StopReason`]) with its data kept.
//!
//! # What it does not do
//!
//! It knows no verb of the queue (but which commands may pass when disks are full), starts no tick (the leader's duties do),
//! and forwards nothing: a node that does not lead says who does.

mod apply;
mod backup;
mod batch;
mod belonging;
mod crash_hint;
mod feature;
mod held_commit;
mod inner;
mod lease;
mod log_store;
mod log_tail;
mod log_writer;
mod membership;
mod message;
mod network;
mod node;
mod options;
mod outgoing;
mod peer;
mod reads;
mod recent;
mod replica;
mod restore;
mod room;
mod rpc;
mod snapshot;
mod snapshot_file;
mod state_machine;
mod state_rows;
mod status;
mod steady_file;
mod stop;
mod taken;
mod types;
mod upkeep;
mod wall_clock;
mod wire;

/// Where the Raft library logs.
pub const RAFT_LOG_TARGET: &str = "openraft";

pub use backup::{Backup, BackupError, BackupSummary, examine};
pub use batch::{Committed, ProposeError};
pub use feature::FeatureLevel;
pub use inner::Leader;
pub use membership::MembershipError;
pub use node::{Node, OpenError, View};
pub use options::{Founder, NodeOptions, RaftOptions};
pub use reads::{Consistency, ReadError};
pub use replica::{AppliedBatch, AppliedEntry, Reading};
pub use restore::{RestoreError, RestoreOptions, Restored};
pub use snapshot::{Incoming, SnapshotFile};
pub use snapshot_file::SnapshotError;
pub use state_rows::PinnedRows;
pub use status::{LeaderInfo, Leadership, MemberStatus, Role, Space, Status, SyncStatus};
pub use stop::StopReason;
pub use types::Member;

#[cfg(test)]
mod tests;
