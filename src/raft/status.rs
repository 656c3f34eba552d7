//! What a node knows about itself and its cluster, for whoever looks from outside.

use std::sync::atomic::Ordering;

use openraft::{Instant, LogIdOptionExt, ServerState};

use super::{feature::FeatureLevel, inner::Inner};
use crate::storage::{ClusterId, DiskSpace};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    Leader,
    Follower,
    Candidate,
    Learner,
    /// Belongs to no cluster yet.
    Pristine,
    /// Raft has ended.
    Stopped,
}

/// What changes when leadership does; cheap to watch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leadership {
    pub role: Role,
    pub term: u64,
    pub leader: Option<LeaderInfo>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaderInfo {
    pub id: u64,
    pub api: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    pub id: u64,
    pub cluster: Option<ClusterId>,
    pub role: Role,
    pub term: u64,
    pub leader: Option<LeaderInfo>,
    /// Why this node does not serve, where it knows.
    pub problem: Option<String>,
    pub applied: u64,
    pub committed: u64,
    /// On a leader: how long ago a quorum last confirmed it.
    pub quorum_acked_age_ms: Option<u64>,
    pub members: Vec<MemberStatus>,
    /// The rolling state hash and the index it stands at.
    pub hash: (u64, u128),
    /// The last entry at which all members remember their hash, and this node's there.
    pub mark: Option<(u64, u128)>,
    /// What is in force, and the newest that this node knows.
    pub feature_level: FeatureLevel,
    pub knows: FeatureLevel,
    pub disk: DiskSpace,
    pub space: Space,
    pub sync: SyncStatus,
    pub proposed_entries: u64,
    pub proposed_requests: u64,
    pub last_log: u64,
    pub purged: Option<u64>,
    pub snapshot: Option<u64>,
}

/// How the log's disk does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SyncStatus {
    pub count: u64,
    pub total_micros: u64,
    pub max_micros: u64,
    pub last_micros: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberStatus {
    pub id: u64,
    pub api: String,
    pub peer: String,
    pub voter: bool,
    /// Known by the leader only.
    pub reachable: Option<bool>,
    /// The last entry that is known to be in its log; known by the leader only.
    pub applied: Option<u64>,
    pub lag: Option<u64>,
}

/// How much room a majority of the disks has, as the leader sees it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Space {
    #[default]
    Plenty,
    /// New work is refused.
    Low,
    /// Only what frees space is taken.
    Full,
}

impl Inner {
    pub fn leadership(&self) -> Leadership {
        let metrics = self.metrics();
        let role = self.role(metrics.running_state.is_err(), metrics.state);
        let leader = self.leader().map(|leader| LeaderInfo { id: leader.id, api: leader.member.api });
        Leadership { role, term: metrics.current_term, leader }
    }

    pub fn status(&self) -> Status {
        let metrics = self.metrics();
        let Leadership { role, term, leader } = self.leadership();
        let summary = self.replica.summary();
        let hash = (summary.index, summary.hash);
        let problem = self.problem.borrow().clone().filter(|_| leader.is_none());
        Status {
            id: self.options.id,
            cluster: self.identity().cluster,
            role,
            term,
            leader,
            problem,
            applied: hash.0,
            committed: metrics.cluster_committed.index().unwrap_or(0).max(hash.0),
            quorum_acked_age_ms: metrics.last_quorum_acked.map(|at| millis(at.elapsed())),
            members: self.members(),
            hash,
            mark: summary.mark,
            feature_level: summary.feature_level,
            knows: self.replica.knows,
            disk: crate::storage::disk_space(self.data.path()).unwrap_or_default(),
            space: *self.space.borrow(),
            sync: self.sync_status(),
            proposed_entries: self.proposed.entries.load(Ordering::Relaxed),
            proposed_requests: self.proposed.requests.load(Ordering::Relaxed),
            last_log: metrics.last_log_index.unwrap_or(0),
            purged: metrics.purged.index(),
            snapshot: metrics.snapshot.index(),
        }
    }

    pub fn leads_until_ms(&self) -> Option<u64> {
        self.leading()?;
        let lease = std::time::Duration::from_millis(self.options.raft.election_max_ms);
        if self.voters() == std::collections::BTreeSet::from([self.options.id]) {
            return Some(self.options.clock.monotonic_ms() + self.options.raft.election_max_ms);
        }
        let asked = tokio::time::Instant::now().checked_sub(self.metrics().last_quorum_acked?.elapsed())?;
        self.lease.end(asked, lease)
    }

    fn role(&self, stopped: bool, state: ServerState) -> Role {
        match state {
            _ if stopped => Role::Stopped,
            _ if !self.is_formed() => Role::Pristine,
            ServerState::Leader => Role::Leader,
            ServerState::Follower => Role::Follower,
            ServerState::Candidate => Role::Candidate,
            ServerState::Learner => Role::Learner,
            ServerState::Shutdown => Role::Stopped,
        }
    }

    fn members(&self) -> Vec<MemberStatus> {
        let metrics = self.metrics();
        let membership = metrics.membership_config.membership();
        let voters: std::collections::BTreeSet<u64> = membership.voter_ids().collect();
        let last = metrics.last_log_index.unwrap_or(0);
        let lease = u128::from(self.options.raft.election_max_ms);
        let of = |(&id, member): (&u64, &super::types::Member)| {
            let own = id == self.options.id;
            let matched = metrics.replication.as_ref().and_then(|all| all.get(&id)).map(|id| id.index().unwrap_or(0));
            let applied = if own && metrics.replication.is_some() { Some(last) } else { matched };
            let heard = metrics.heartbeat.as_ref().map(|all| all.get(&id).copied().flatten());
            let recent = heard.map(|heard| heard.is_some_and(|at| at.elapsed().as_millis() <= lease * 2));
            MemberStatus {
                id,
                api: member.api.clone(),
                peer: member.peer.clone(),
                voter: voters.contains(&id),
                reachable: if own { Some(true) } else { recent },
                applied,
                lag: applied.map(|applied| last.saturating_sub(applied)),
            }
        };
        membership.nodes().map(of).collect()
    }

    fn sync_status(&self) -> SyncStatus {
        use Ordering::Relaxed;
        let pace = self.log.pace();
        SyncStatus {
            count: pace.syncs.load(Relaxed),
            total_micros: pace.sync_micros.load(Relaxed),
            max_micros: pace.sync_micros_max.load(Relaxed),
            last_micros: pace.last_sync_micros.load(Relaxed),
        }
    }
}

fn millis(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
