//! What the parts of a node share.

use std::{
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use openraft::{RaftMetrics, async_runtime::WatchReceiver};
use tokio::{sync::watch, time::Instant};

use super::{
    apply::Applier,
    batch::{Committed, Proposals, ProposeError, Proposed},
    lease::LeaseClock,
    log_store::LogStore,
    message::{Envelope, Invitation, PROTOCOL, PeerRefusal, ProbeReply, Propose, Removed, StatusReply, Topic},
    options::NodeOptions,
    peer::{CallError, Peers, Purpose},
    replica::Replica,
    snapshot::Snapshots,
    state_machine::StateMachine,
    status::{Leadership, Space},
    stop::{Stop, StopReason},
    types::{LeaderId, Member, StoredMembership, TypeConfig},
    wall_clock::WallClock,
};
use crate::storage::{ClusterId, DataDir, DiskId, Identity, Store, disk_space};

pub type Raft = openraft::Raft<TypeConfig, StateMachine>;

/// Everything that lives as long as the node.
pub struct Inner {
    pub options: NodeOptions,
    pub raft: Raft,
    pub replica: Arc<Replica>,
    pub snapshots: Arc<Snapshots>,
    pub applier: Applier,
    pub log: LogStore,
    pub log_db: Arc<Store>,
    pub data: DataDir,
    pub identity: Arc<Mutex<Identity>>,
    pub peers: Peers,
    pub stop: Stop,
    /// Held by whoever changes the membership.
    pub changing: tokio::sync::Mutex<()>,
    /// A backup is being restored here, or was. Changed and read under the lock of `identity`.
    pub restoring: AtomicBool,
    pub leadership: watch::Sender<Leadership>,
    pub space: watch::Sender<Space>,
    pub proposed: Proposed,
    /// What the last comparison with the members' said of this node's wall clock; none while it has not led.
    pub wall_clock: watch::Sender<Option<WallClock>>,
    /// Why this node does not serve, where it knows.
    pub problem: watch::Sender<Option<String>>,
    pub lease: LeaseClock,
    /// The leader to whose process this node holds a line (see [`super::crash_hint`]).
    pub line_to: watch::Sender<Option<u64>>,
    /// When a leader last sent something, in milliseconds of the boot clock.
    pub heard_leader_ms: AtomicU64,
    /// The way into the log, once there is one.
    pub proposals: OnceLock<Proposals>,
    /// Random at each start of the process; part of the office.
    pub incarnation: u64,
}

/// Who leads, as far as this node knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leader {
    pub id: u64,
    pub member: Member,
}

impl Inner {
    pub fn identity(&self) -> Identity {
        self.identity.lock().expect("no holder of this lock panics").clone()
    }

    pub fn metrics(&self) -> RaftMetrics<TypeConfig> {
        self.raft.metrics().borrow_watched().clone()
    }

    /// The membership that Raft goes by, committed or not.
    pub fn membership(&self) -> Arc<StoredMembership> {
        Arc::clone(&self.raft.metrics().borrow_watched().membership_config)
    }

    /// Who leads, if anybody is known to.
    pub fn leader(&self) -> Option<Leader> {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        let id = metrics.current_leader.filter(|&id| id == self.options.id || self.hears_leader())?;
        let member = metrics.membership_config.membership().get_node(&id)?.clone();
        Some(Leader { id, member })
    }

    /// Raft remembers a leader until there is another. One that has been silent for two elections is nobody to send a client
    /// to: where no majority is left, nobody comes after it either.
    fn hears_leader(&self) -> bool {
        let silent_ms = self.options.clock.monotonic_ms().saturating_sub(self.heard_leader_ms.load(Ordering::Relaxed));
        silent_ms <= self.options.raft.election_max_ms * 2
    }

    /// A leader has sent something that was taken from it.
    pub(super) fn heard_leader(&self) {
        self.heard_leader_ms.store(self.options.clock.monotonic_ms(), Ordering::Relaxed);
    }

    /// The office this node holds, if it leads.
    pub fn leading(&self) -> Option<LeaderId> {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        if !metrics.state.is_leader() || metrics.running_state.is_err() || !metrics.vote.committed {
            return None;
        }
        Some(metrics.vote.leader_id)
    }

    pub(super) async fn propose_for_member(&self, question: Propose) -> Result<Committed, PeerRefusal> {
        let deadline = Instant::now() + Duration::from_millis(question.within_ms);
        let leads = self.leading().is_some();
        let Some(proposals) = self.proposals.get().filter(|_| leads) else {
            return Err(PeerRefusal::NotLeader { leader: self.leader().map(|leader| leader.id) });
        };
        let failed = |error: ProposeError| PeerRefusal::Failed(error.to_string());
        proposals.ask(question.request).map_err(failed)?.answered_by(deadline).await.map_err(failed)
    }

    /// Asks a member something.
    pub async fn ask<Q: serde::Serialize, A: serde::de::DeserializeOwned>(
        &self,
        (id, member): (u64, &Member),
        topic: Topic,
        question: &Q,
        within: Duration,
    ) -> Result<A, CallError> {
        let envelope = self.envelope(id, Some(member.disk));
        self.peers.line(&member.peer, Purpose::Service).call(topic, envelope, question, within).await
    }

    /// Asks who answers at an address.
    pub async fn probe(&self, peer: &str, within: Duration) -> Result<ProbeReply, CallError> {
        let envelope = self.envelope(0, None);
        let line = self.peers.line(peer, Purpose::Service);
        line.call(Topic::Probe, envelope, &super::message::Probe, within).await
    }

    pub(super) fn envelope(&self, to: u64, disk: Option<DiskId>) -> Envelope {
        Envelope { protocol: PROTOCOL, cluster: self.identity().cluster, from: self.options.id, to, disk }
    }

    /// Writes down which cluster this disk belongs to, for good.
    pub fn join(&self, cluster: ClusterId) -> Result<(), PeerRefusal> {
        self.change_identity(|identity| match identity.cluster.replace(cluster) {
            Some(own) if own != cluster => Err(PeerRefusal::OtherCluster),
            _ => Ok(()),
        })
    }

    /// As [`Inner::join`], for another who forms a cluster. Not while this node restores one, and not once it is a voter of
    /// one: whoever still invites then began before that, and must not go on.
    fn accept(&self, invitation: Invitation) -> Result<(), PeerRefusal> {
        self.change_identity(|identity| match identity.cluster.replace(invitation.cluster) {
            Some(own) if own != invitation.cluster => Err(PeerRefusal::OtherCluster),
            _ if self.restoring.load(Ordering::SeqCst) => Err(PeerRefusal::OtherCluster),
            _ if self.voters().contains(&self.options.id) => Err(PeerRefusal::OtherCluster),
            _ => Ok(()),
        })
    }

    fn change_identity(
        &self,
        change: impl FnOnce(&mut Identity) -> Result<(), PeerRefusal>,
    ) -> Result<(), PeerRefusal> {
        let mut identity = self.identity.lock().expect("no holder of this lock panics");
        let mut changed = identity.clone();
        change(&mut changed)?;
        if changed == *identity {
            return Ok(());
        }
        let state = self.replica.store();
        self.data.identify_as(&self.log_db, &state, &changed).map_err(|error| {
            self.stop.because(StopReason::Disk(error.to_string()));
            PeerRefusal::Failed(error.to_string())
        })?;
        *identity = changed;
        Ok(())
    }

    pub(super) fn probed(&self, envelope: &Envelope) -> ProbeReply {
        let identity = self.identity();
        let same_cluster = envelope.cluster.is_none() || envelope.cluster == identity.cluster;
        let membership = self.membership();
        let known = membership.membership().get_node(&envelope.from).filter(|_| same_cluster);
        ProbeReply {
            node: identity.node,
            disk: identity.disk,
            cluster: identity.cluster,
            formed: self.is_formed(),
            api: self.options.api.clone(),
            peer: self.options.peer.clone(),
            your_disk: known.map(|member| member.disk),
        }
    }

    pub(super) async fn invited(self: &Arc<Self>, invitation: Invitation) -> Result<(), PeerRefusal> {
        let this = Arc::clone(self);
        let joining = tokio::task::spawn_blocking(move || this.accept(invitation));
        joining.await.map_err(|e| PeerRefusal::Failed(e.to_string()))?
    }

    pub(super) fn told_removed(&self, removed: Removed) -> Result<(), PeerRefusal> {
        if self.membership().log_id().is_none_or(|own| own.index <= removed.membership) {
            self.retire();
        }
        Ok(())
    }

    /// Stops for good: the id is spent, and a start under it is refused from now on.
    pub(super) fn retire(&self) {
        // If it cannot be written down, the members will say so again at the next start.
        drop(self.change_identity(|identity| {
            identity.removed = true;
            Ok(())
        }));
        self.stop.because(StopReason::Removed);
    }

    pub(super) fn own_status(&self) -> StatusReply {
        let summary = self.replica.summary();
        let disk = disk_space(self.data.path()).unwrap_or_default();
        let wall_ms = self.options.clock.wall_ms();
        StatusReply {
            applied: summary.index,
            mark: summary.mark,
            disk_free: disk.free,
            disk_total: disk.total,
            wall_ms,
            knows: self.replica.knows,
        }
    }
}
