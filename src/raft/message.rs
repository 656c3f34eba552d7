//! What peers say to each other: who talks to whom, and the questions beyond openraft's own.

use serde::{Deserialize, Serialize};

use super::{
    feature::FeatureLevel,
    types::{SnapshotMeta, Vote},
};
use crate::{
    queue::command::Request,
    storage::{ClusterId, DiskId},
};

/// Raised whenever a message changes its meaning. Peers of different protocols do not talk.
pub const PROTOCOL: u16 = 2;

/// Goes before the body of every question.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    pub envelope: Envelope,
    pub topic: Topic,
}

/// What a question is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Topic {
    Append,
    Vote,
    PreVote,
    Transfer,
    Snapshot,
    ReadIndex,
    Status,
    Probe,
    Invite,
    Removed,
    Propose,
}

/// Travels with every question. A node answers only what is meant for it: for this cluster, this id, and this very disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Envelope {
    pub protocol: u16,
    /// `None` only where the sender belongs to none yet, or asks a pristine node.
    pub cluster: Option<ClusterId>,
    pub from: u64,
    pub to: u64,
    /// The receiver's disk as the sender knows it; `None` only in a probe.
    pub disk: Option<DiskId>,
}

/// Why a peer does not answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum PeerRefusal {
    #[error("it speaks peer protocol {known}")]
    Protocol { known: u16 },
    #[error("it is node {id}")]
    OtherNode { id: u64 },
    #[error("it belongs to another cluster")]
    OtherCluster,
    #[error("its disk is not the one that is a member; if it was wiped: raftq cluster replace")]
    OtherDisk,
    #[error("it belongs to no cluster yet; if it was wiped: raftq cluster replace")]
    Pristine,
    /// The sender is no member in the receiver's eyes, whose membership is from the log entry `membership`.
    #[error("it does not know the sender as a member")]
    NotMember { membership: Option<u64> },
    #[error("it does not lead")]
    NotLeader { leader: Option<u64> },
    #[error("it failed: {0}")]
    Failed(String),
}

/// Comes before the bytes of a snapshot file.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SnapshotPrologue {
    pub vote: Vote,
    pub meta: SnapshotMeta,
}

/// Asks for the index that a linearizable read must wait for.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct ReadIndex;

/// Asks who is there, whatever cluster it belongs to.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Probe;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProbeReply {
    pub node: u64,
    pub disk: DiskId,
    pub cluster: Option<ClusterId>,
    /// Whether Raft has a membership there already.
    pub formed: bool,
    /// What others reach it at.
    pub api: String,
    pub peer: String,
    /// The disk that the receiver's membership records for the asker, if it is a member.
    pub your_disk: Option<DiskId>,
}

/// Makes a pristine node part of a cluster. Repeating it is harmless.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Invitation {
    pub cluster: ClusterId,
}

/// Tells a node that the membership at log index `membership` is without it.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Removed {
    pub membership: u64,
}

/// Asks the leader to propose for a member that has just lost the lead: what its pool held must be told to somebody.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Propose {
    pub request: Request,
    pub within_ms: u64,
}

/// Asks how a member is doing.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct StatusQuestion;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatusReply {
    pub applied: u64,
    /// The last hash mark it applied, and its state hash there.
    pub mark: Option<(u64, u128)>,
    pub disk_free: u64,
    pub disk_total: u64,
    pub wall_ms: u64,
    /// The newest feature level that it knows.
    pub knows: FeatureLevel,
}
