//! Who belongs to the cluster: forming it, adding, promoting, removing, replacing, handing over.
//!
//! One change at a time, and every change is committed before the next begins. An id stands for one disk and is never
//! given twice: what an id promised lies on its disk (engine-notes 4.1, 4.2).

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use openraft::{
    ChangeMembers, LogIdOptionExt,
    errors::{ClientWriteError, RaftError},
    raft::ClientWriteResponse,
};
use tokio::time::{Instant, timeout_at};

use super::{
    inner::{Inner, Leader},
    message::{Envelope, Invitation, PeerRefusal, ProbeReply, Removed, Topic},
    peer::{CallError, Purpose},
    stop::StopReason,
    types::{Member, TypeConfig},
};
use crate::storage::ClusterId;

const PROBE_TIMEOUT: Duration = Duration::from_secs(2);
/// What a node says of itself that may not form a cluster.
const UNFORMED: &str = "this node belongs to no cluster yet; form one with raftq cluster init or restore, or add it to one with raftq cluster add";
const POLL: Duration = Duration::from_millis(50);
/// A node that lacks no more than this many entries may vote: it delays commits by no more than a moment.
const LAG_MAX: u64 = 1_000;

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MembershipError {
    #[error("this node does not lead")]
    NotLeader { leader: Option<Leader> },
    #[error("another change of the members is under way")]
    Busy,
    #[error(
        "cannot reach {peer}: {reason}; check that a node runs there, and that this is its peer address; then ask again"
    )]
    Unreachable { peer: String, reason: String },
    #[error("{peer} answers as node {found} where node {wanted} was expected; check the configuration files")]
    OtherNode { peer: String, found: u64, wanted: u64 },
    #[error("node {id} at {peer} already belongs to a cluster; give it an empty data directory and a new id")]
    NotPristine { id: u64, peer: String },
    #[error("a cluster is formed already")]
    AlreadyFormed,
    #[error(
        "this node has begun to form a cluster; finish that with `raftq cluster init`, or start it with an empty data directory"
    )]
    FormingBegun,
    #[error(
        "a restore was begun on this node and interrupted; repeat it here, or start the node with an empty data directory"
    )]
    RestoreBegun,
    #[error("this node is not among the founding members of its configuration; it waits to be added")]
    NotFounder,
    #[error("id {id} was used before; ids are never used twice, give the new node another one")]
    IdSpent { id: u64 },
    #[error("there is no member {id}")]
    Unknown { id: u64 },
    #[error("node {id} is still {lag} entries behind")]
    Behind { id: u64, lag: u64 },
    #[error("node {id} is the last voter and must stay")]
    LastVoter { id: u64 },
    #[error("no success before the deadline: {0}")]
    Deadline(String),
    #[error("the change failed: {0}")]
    Failed(String),
}

type Outcome<T> = Result<T, MembershipError>;

impl Inner {
    /// Forms the cluster of the founding members, once. All of them must answer, and be pristine.
    pub async fn form(self: &Arc<Self>) -> Outcome<ClusterId> {
        let _changing = self.changing.try_lock().map_err(|_| MembershipError::Busy)?;
        if self.is_formed() {
            return Err(MembershipError::AlreadyFormed);
        }
        if self.restore_was_interrupted() {
            return Err(MembershipError::RestoreBegun);
        }
        let (members, begun) = self.unformed_founders().await?;
        // A formation that was interrupted goes on under the id it chose.
        let cluster = begun.unwrap_or_else(|| ClusterId(rand::random()));
        // The lowest id is invited first, whoever forms: of two that try at once, one is refused before it changed anything.
        for (&id, member) in &members {
            self.invite(id, member, Invitation { cluster }).await?;
        }
        self.raft.initialize(members).await.map_err(|e| MembershipError::Failed(e.to_string()))?;
        tracing::info!(%cluster, "cluster formed");
        Ok(cluster)
    }

    /// What a node without a cluster does until it has one: it finds out whether its disk was wiped, and if it is told to
    /// form new clusters and is the lowest founder, it forms one.
    pub async fn wait_for_cluster(self: Arc<Self>, form_if_new: bool) {
        let lowest = self.options.founders.iter().map(|founder| founder.id).min();
        let forms = form_if_new && lowest == Some(self.options.id);
        while !self.is_formed() && !self.stop.is_set() {
            self.look_for_old_self().await;
            let problem = if forms {
                self.form().await.err().map(|error| format!("the cluster is not formed yet: {error}"))
            } else {
                Some(UNFORMED.to_owned())
            };
            self.tell(problem);
            tokio::time::sleep(POLL * 4).await;
        }
    }

    /// Takes in a new node as a learner; of this id, if it is said. It gets the log, and does not vote.
    pub async fn add(self: &Arc<Self>, id: Option<u64>, peer: &str) -> Outcome<u64> {
        let _changing = self.changing.try_lock().map_err(|_| MembershipError::Busy)?;
        self.must_lead()?;
        self.add_learner(id, peer).await
    }

    /// Makes a learner a voter, once it has caught up.
    pub async fn promote(self: &Arc<Self>, id: u64, deadline: Instant) -> Outcome<()> {
        let _changing = self.changing.try_lock().map_err(|_| MembershipError::Busy)?;
        self.must_know(id)?;
        self.caught_up(id, deadline).await?;
        self.change(ChangeMembers::AddVoterIds(BTreeSet::from([id])), deadline).await
    }

    /// Takes a member out, and tells it. A leader that is to go hands over first; the new leader takes it out.
    pub async fn remove(self: &Arc<Self>, id: u64, deadline: Instant) -> Outcome<()> {
        let _changing = self.changing.try_lock().map_err(|_| MembershipError::Busy)?;
        let member = self.must_know(id)?;
        let voters = self.voters();
        if voters == BTreeSet::from([id]) {
            return Err(MembershipError::LastVoter { id });
        }
        if id == self.options.id {
            self.hand_over(None, deadline).await?;
            return Err(MembershipError::NotLeader { leader: self.leader() });
        }
        let ids = BTreeSet::from([id]);
        let change =
            if voters.contains(&id) { ChangeMembers::RemoveVoters(ids) } else { ChangeMembers::RemoveNodes(ids) };
        self.change(change, deadline).await?;
        self.tell_removed(id, &member).await;
        Ok(())
    }

    /// Puts a new node in the place of an old one, which need not be alive: one joint change (design 5).
    pub async fn replace(self: &Arc<Self>, old: u64, id: Option<u64>, peer: &str, deadline: Instant) -> Outcome<u64> {
        let _changing = self.changing.try_lock().map_err(|_| MembershipError::Busy)?;
        let member = self.must_know(old)?;
        let new = self.add_learner(id, peer).await?;
        // The change would take the old one out, and nobody in.
        if new == old || self.voters().contains(&new) {
            return Err(MembershipError::NotPristine { id: new, peer: peer.to_owned() });
        }
        self.caught_up(new, deadline).await?;
        let mut voters = self.voters();
        let change = if voters.remove(&old) {
            voters.insert(new);
            ChangeMembers::ReplaceAllVoters(voters)
        } else {
            ChangeMembers::RemoveNodes(BTreeSet::from([old]))
        };
        self.change(change, deadline).await?;
        self.tell_removed(old, &member).await;
        Ok(new)
    }

    /// Lets another voter lead: `to`, or the one that lags least.
    pub async fn hand_over(&self, to: Option<u64>, deadline: Instant) -> Outcome<u64> {
        self.must_lead()?;
        let to = match to {
            Some(id) => {
                self.must_know(id)?;
                id
            }
            None => {
                self.best_successor().ok_or_else(|| MembershipError::Failed("no other voter answers".to_owned()))?
            }
        };
        if to == self.options.id {
            return Ok(to);
        }
        self.raft.trigger().transfer_leader(to).await.map_err(|e| MembershipError::Failed(e.to_string()))?;
        let wait = self.raft.wait(Some(deadline.saturating_duration_since(Instant::now())));
        let led = wait.metrics(|metrics| metrics.current_leader.is_some_and(|id| id != self.options.id), "hand over");
        let metrics = led.await.map_err(|e| MembershipError::Deadline(e.to_string()))?;
        Ok(metrics.current_leader.unwrap_or(to))
    }

    /// Whether Raft has a membership: then this node belongs to a cluster for good.
    pub fn is_formed(&self) -> bool {
        self.membership().membership().nodes().next().is_some()
    }

    pub fn voters(&self) -> BTreeSet<u64> {
        self.membership().membership().voter_ids().collect()
    }

    fn must_lead(&self) -> Outcome<()> {
        if self.leading().is_some() {
            return Ok(());
        }
        let leader = self.leader().filter(|leader| leader.id != self.options.id);
        Err(MembershipError::NotLeader { leader })
    }

    fn must_know(&self, id: u64) -> Outcome<Member> {
        self.must_lead()?;
        self.membership().membership().get_node(&id).cloned().ok_or(MembershipError::Unknown { id })
    }

    /// The founders, all of which answer and none of which has a membership, and the cluster they were invited to if any.
    pub(super) async fn unformed_founders(&self) -> Outcome<(BTreeMap<u64, Member>, Option<ClusterId>)> {
        let own = self.identity();
        let (mut members, mut begun) = (BTreeMap::new(), own.cluster);
        for founder in &self.options.founders {
            let reply = self.probe_peer(&founder.peer).await?;
            let peer = founder.peer.clone();
            if reply.node != founder.id {
                return Err(MembershipError::OtherNode { peer, found: reply.node, wanted: founder.id });
            }
            if reply.formed || begun.is_some_and(|begun| reply.cluster.is_some_and(|cluster| cluster != begun)) {
                return Err(MembershipError::NotPristine { id: founder.id, peer });
            }
            begun = begun.or(reply.cluster);
            members.insert(founder.id, Member { api: founder.api.clone(), peer, disk: reply.disk });
        }
        match members.get(&self.options.id) {
            Some(member) if member.disk == own.disk => Ok((members, begun)),
            Some(_) => Err(MembershipError::OtherNode {
                peer: self.options.peer.clone(),
                found: self.options.id,
                wanted: self.options.id,
            }),
            None => Err(MembershipError::NotFounder),
        }
    }

    async fn probe_peer(&self, peer: &str) -> Outcome<ProbeReply> {
        let probed = self.probe(peer, PROBE_TIMEOUT).await;
        probed.map_err(|error| unreachable(peer.to_owned(), error))
    }

    async fn invite(&self, id: u64, member: &Member, invitation: Invitation) -> Outcome<()> {
        self.invite_as(&self.envelope(id, Some(member.disk)), member, invitation).await
    }

    pub(super) async fn invite_as(&self, envelope: &Envelope, member: &Member, invitation: Invitation) -> Outcome<()> {
        let (id, line) = (envelope.to, self.peers.line(&member.peer, Purpose::Service));
        let invited: Result<(), CallError> =
            line.call(Topic::Invite, envelope.clone(), &invitation, PROBE_TIMEOUT).await;
        let peer = member.peer.clone();
        invited.map_err(|error| match error {
            CallError::Refused { refusal: PeerRefusal::OtherCluster, .. } => MembershipError::NotPristine { id, peer },
            error => unreachable(peer, error),
        })
    }

    /// Asks the founders whether they know this node's id with another disk: then this one was wiped or swapped.
    async fn look_for_old_self(&self) {
        let own = self.identity();
        for founder in self.options.founders.iter().filter(|founder| founder.id != own.node) {
            let Ok(reply) = self.probe(&founder.peer, PROBE_TIMEOUT).await else { continue };
            if reply.your_disk.is_some_and(|disk| disk != own.disk) {
                self.stop.because(StopReason::Wiped(format!(
                    "this data directory is new, but the cluster knows node {id} with another disk. If the old disk is lost, \
                     start this node under a new id and run: raftq cluster replace {id} {peer}",
                    id = own.node,
                    peer = self.options.peer,
                )));
                return;
            }
        }
    }

    async fn add_learner(self: &Arc<Self>, wanted: Option<u64>, peer: &str) -> Outcome<u64> {
        let reply = self.probe_peer(peer).await?;
        if let Some(wanted) = wanted.filter(|wanted| *wanted != reply.node) {
            return Err(MembershipError::OtherNode { peer: peer.to_owned(), found: reply.node, wanted });
        }
        let (id, own) = (reply.node, self.identity());
        let member = Member { api: reply.api, peer: reply.peer, disk: reply.disk };
        match self.membership().membership().get_node(&id) {
            // Asked again after an answer that was lost.
            Some(known) if known.disk == member.disk => return Ok(id),
            Some(_) => return Err(MembershipError::IdSpent { id }),
            None => {}
        }
        if self.replica.hot().applied.spent.contains(&id) {
            return Err(MembershipError::IdSpent { id });
        }
        if reply.cluster.is_some() && reply.cluster != own.cluster {
            return Err(MembershipError::NotPristine { id, peer: peer.to_owned() });
        }
        let cluster = own.cluster.ok_or_else(|| MembershipError::Failed("no cluster is formed".to_owned()))?;
        self.invite(id, &member, Invitation { cluster }).await?;
        written(self.raft.add_learner(id, member, false).await)?;
        Ok(id)
    }

    /// Waits until `id` lacks next to nothing.
    async fn caught_up(&self, id: u64, deadline: Instant) -> Outcome<()> {
        loop {
            self.must_lead()?;
            let lag = self.lag(id);
            if lag <= LAG_MAX {
                return Ok(());
            }
            if Instant::now() >= deadline {
                return Err(MembershipError::Behind { id, lag });
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// How many entries `id` lacks, as the leader knows.
    pub fn lag(&self, id: u64) -> u64 {
        let metrics = self.metrics();
        let last = metrics.last_log_index.unwrap_or(0);
        if id == self.options.id {
            return 0;
        }
        match metrics.replication.as_ref().and_then(|replication| replication.get(&id)) {
            Some(matched) => last.saturating_sub(matched.index().unwrap_or(0)),
            None => u64::MAX,
        }
    }

    fn best_successor(&self) -> Option<u64> {
        let metrics = self.metrics();
        let answered = |id: u64| metrics.heartbeat.as_ref()?.get(&id).copied().flatten();
        let others = self.voters().into_iter().filter(|&id| id != self.options.id);
        others.filter(|&id| answered(id).is_some()).min_by_key(|&id| self.lag(id))
    }

    async fn change(&self, change: ChangeMembers<u64, Member>, deadline: Instant) -> Outcome<()> {
        let changing = timeout_at(deadline, self.raft.change_membership(change, false)).await;
        written(changing.map_err(|e| MembershipError::Deadline(e.to_string()))?)
    }

    async fn tell_removed(&self, id: u64, member: &Member) {
        let membership = self.membership().log_id().map_or(0, |log_id| log_id.index);
        let told: Result<(), _> = self.ask((id, member), Topic::Removed, &Removed { membership }, PROBE_TIMEOUT).await;
        if let Err(error) = told {
            tracing::info!(node = id, %error, "removed node not told; it will hear it when it asks for votes");
        }
    }
}

fn unreachable(peer: String, error: CallError) -> MembershipError {
    let reason = match error {
        CallError::Unreachable { reason, .. } => reason,
        error => error.to_string(),
    };
    MembershipError::Unreachable { peer, reason }
}

type Written = Result<ClientWriteResponse<TypeConfig>, RaftError<TypeConfig, ClientWriteError<TypeConfig>>>;

fn written(outcome: Written) -> Outcome<()> {
    match outcome {
        Ok(_) => Ok(()),
        Err(RaftError::APIError(ClientWriteError::ForwardToLeader(forward))) => {
            let leader = forward.leader_id.zip(forward.leader_node).map(|(id, member)| Leader { id, member });
            Err(MembershipError::NotLeader { leader })
        }
        Err(error) => Err(MembershipError::Failed(error.to_string())),
    }
}
