//! Replication.

mod apply;
mod batch;
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
mod peer;
mod reads;
mod replica;
mod rpc;
mod snapshot;
mod snapshot_file;
mod state_machine;
mod state_rows;
mod status;
mod stop;
mod types;
mod upkeep;

pub use batch::{Committed, ProposeError};
pub use inner::Leader;
pub use membership::MembershipError;
pub use node::{Node, OpenError, View};
pub use options::{Founder, NodeOptions, RaftOptions};
pub use reads::{Consistency, ReadError};
pub use replica::{AppliedBatch, AppliedEntry, Reading};
pub use state_rows::PinnedRows;
pub use status::{LeaderInfo, Leadership, MemberStatus, Role, Space, Status, SyncStatus};
pub use stop::StopReason;
pub use types::Member;

#[cfg(test)]
mod cluster_test;
#[cfg(test)]
mod suite_test;
