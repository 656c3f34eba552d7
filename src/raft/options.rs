//! How a node is told to run, and what that means to openraft.

use std::{path::PathBuf, time::Duration};

use openraft::{Config, SnapshotPolicy};

use super::feature::FeatureLevel;
use crate::clock::Clock;

/// What a node must know before it can start.
#[derive(Clone, Debug)]
pub struct NodeOptions {
    pub id: u64,
    pub data_dir: PathBuf,
    /// What others are told to reach this node at.
    pub api: String,
    pub peer: String,
    /// The founding members, this node among them; empty where the node waits to be added.
    pub founders: Vec<Founder>,
    pub raft: RaftOptions,
    pub clock: Clock,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Founder {
    pub id: u64,
    pub api: String,
    pub peer: String,
}

/// Timers and limits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RaftOptions {
    pub heartbeat_ms: u64,
    pub election_min_ms: u64,
    /// Also the leader lease: the longest that a leader without a quorum's answer believes in itself.
    pub election_max_ms: u64,
    /// A snapshot is due when this many bytes were applied since the last.
    pub snapshot_bytes: u64,
    /// A snapshot is due this long after the last, if anything was applied since.
    pub snapshot_interval: Duration,
    /// Entries of about this many bytes stay in the log behind a snapshot, so that a peer that was away for a moment
    /// needs no snapshot; eight times as many while one of them catches up.
    pub log_keep_bytes: u64,
    /// A leader whose disk or state machine made no progress for this long should not lead.
    pub stall_ms: u64,
    /// Whether a voter that sees the leader's process gone asks for the office at once, without waiting for its timer.
    pub crash_hint: bool,
    /// How often the members' state hashes are compared.
    pub hash_interval: Duration,
    /// The newest semantics that this node knows. Always [`FeatureLevel::NEWEST`], but in tests of other versions.
    pub feature_level: FeatureLevel,
    /// New work is refused below this much free space on a majority's disks, finishing below the second.
    pub space_low_bytes: u64,
    pub space_full_bytes: u64,
}

impl Default for RaftOptions {
    fn default() -> Self {
        Self::lan()
    }
}

impl RaftOptions {
    /// One network, fast disks. Fails over within a second.
    pub fn lan() -> Self {
        Self {
            heartbeat_ms: 100,
            election_min_ms: 200,
            election_max_ms: 320,
            snapshot_bytes: 128 << 20,
            snapshot_interval: Duration::from_secs(600),
            log_keep_bytes: 64 << 20,
            stall_ms: 2_000,
            crash_hint: true,
            hash_interval: Duration::from_secs(10),
            feature_level: FeatureLevel::NEWEST,
            space_low_bytes: 512 << 20,
            space_full_bytes: 128 << 20,
        }
    }

    /// Members in different places, or slow disks.
    pub fn wan() -> Self {
        Self { heartbeat_ms: 250, election_min_ms: 1_000, election_max_ms: 2_000, stall_ms: 6_000, ..Self::lan() }
    }

    /// Three nodes and their load on one small, busy machine.
    pub fn test() -> Self {
        Self { heartbeat_ms: 100, election_min_ms: 500, election_max_ms: 1_000, stall_ms: 5_000, ..Self::lan() }
    }

    /// How long an append may wait for the peer's disk before it is sent again.
    pub fn append_timeout(&self) -> Duration {
        Duration::from_millis(self.election_max_ms.max(1_000))
    }

    pub(super) fn openraft(&self) -> Config {
        Config {
            cluster_name: "raftq".to_owned(),
            heartbeat_interval: self.heartbeat_ms,
            election_timeout_min: self.election_min_ms,
            election_timeout_max: self.election_max_ms,
            enable_pre_vote: Some(true),
            // A restarted leader asks for votes like everybody else: its state may be behind what it once answered.
            enable_leader_restore: Some(false),
            // Without it a leader that lost its quorum can hold the one follower that the others need.
            quorum_loss_probe_interval: Some(self.election_max_ms * 2 + 1),
            // Entries carry many requests each.
            max_payload_entries: 64,
            max_append_entries: Some(1024),
            // openraft counts entries; we count bytes, and trigger and purge ourselves.
            snapshot_policy: SnapshotPolicy::Never,
            max_in_snapshot_log_to_keep: u64::MAX >> 1,
            replication_lag_threshold: u64::MAX >> 1,
            install_snapshot_timeout: 600_000,
            ..Config::default()
        }
    }
}
