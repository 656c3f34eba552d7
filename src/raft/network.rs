//! openraft's requests to peers, over [`peer`](super::peer).

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures::{
    Stream, StreamExt,
    future::BoxFuture,
    stream::{self, BoxStream},
};
use openraft::{
    RaftNetworkFactory, RaftNetworkV2,
    errors::{NetworkError, RPCError, ReplicationClosed, StreamingError, Timeout, Unreachable},
    network::{Backoff, RPCOption, RPCTypes, stream_append_sequential},
    raft::{
        AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, StreamAppendResult, TransferLeaderRequest,
        TransferLeaderResponse, VoteRequest, VoteResponse,
    },
};
use serde::{Serialize, de::DeserializeOwned};
use tokio::sync::watch;

use super::{
    held_commit::held,
    message::{Envelope, PROTOCOL, PeerRefusal, SnapshotPrologue, Topic},
    peer::{CallError, Line, Peers, Purpose},
    snapshot::{Contents, Snapshot},
    stop::{Stop, StopReason},
    types::{Member, TypeConfig, Vote},
};
use crate::{
    codec::{self, Format},
    storage::ClusterId,
};

/// Between two tries to reach a peer that is not there: it should be found soon after it is back.
const BACKOFF: Duration = Duration::from_millis(200);

/// Makes openraft's clients.
pub struct Network {
    pub peers: Peers,
    pub node: u64,
    pub cluster: Arc<dyn Fn() -> Option<ClusterId> + Send + Sync>,
    /// An append waits for the peer's disk, so openraft's heartbeat interval would be too short.
    pub append_timeout: Duration,
    /// The index of the last entry in this node's log.
    pub newest: watch::Receiver<u64>,
    pub stop: Stop,
    pub membership: Arc<dyn Fn() -> Option<u64> + Send + Sync>,
}

/// What became of a request in a stream of them.
type Sent = Result<StreamAppendResult<TypeConfig>, RPCError<TypeConfig>>;

/// openraft's client for one peer and purpose.
pub struct Client {
    envelope: Envelope,
    cluster: Arc<dyn Fn() -> Option<ClusterId> + Send + Sync>,
    line: Arc<Line>,
    votes: Arc<Line>,
    append_timeout: Option<Duration>,
    newest: watch::Receiver<u64>,
    stop: Stop,
    membership: Arc<dyn Fn() -> Option<u64> + Send + Sync>,
}

impl Network {
    fn client(&self, target: u64, member: &Member, purpose: Purpose) -> Client {
        let cluster = (self.cluster)();
        Client {
            envelope: Envelope { protocol: PROTOCOL, cluster, from: self.node, to: target, disk: Some(member.disk) },
            cluster: Arc::clone(&self.cluster),
            line: self.peers.line(&member.peer, purpose),
            votes: self.peers.line(&member.peer, Purpose::Vote),
            append_timeout: (purpose == Purpose::Replication).then_some(self.append_timeout),
            newest: self.newest.clone(),
            stop: self.stop.clone(),
            membership: Arc::clone(&self.membership),
        }
    }
}

impl RaftNetworkFactory<TypeConfig> for Network {
    type Network = Client;

    async fn new_client(&mut self, target: u64, member: &Member) -> Client {
        self.client(target, member, Purpose::Replication)
    }

    async fn new_heartbeat_client(&mut self, target: u64, member: &Member) -> Client {
        self.client(target, member, Purpose::Heartbeat)
    }

    async fn new_snapshot_client(&mut self, target: u64, member: &Member) -> Client {
        self.client(target, member, Purpose::Snapshot)
    }
}

impl Client {
    async fn ask<Q: Serialize, A: DeserializeOwned>(
        &self,
        line: &Line,
        topic: Topic,
        question: &Q,
        within: Duration,
    ) -> Result<A, RPCError<TypeConfig>> {
        let outcome = line.call(topic, self.envelope(), question, within).await;
        outcome.map_err(|error| self.rpc_error(error, topic))
    }

    fn envelope(&self) -> Envelope {
        Envelope { cluster: (self.cluster)(), ..self.envelope.clone() }
    }

    fn rpc_error(&self, error: CallError, topic: Topic) -> RPCError<TypeConfig> {
        tracing::debug!(to = self.envelope.to, ?topic, %error, "peer call failed");
        match &error {
            CallError::Timeout { within, .. } => RPCError::Timeout(self.timed_out(topic, *within)),
            CallError::Refused { refusal, .. } => {
                self.heed(refusal);
                RPCError::Unreachable(Unreachable::new(&error))
            }
            CallError::Unreachable { .. } | CallError::Malformed { .. } => {
                RPCError::Unreachable(Unreachable::new(&error))
            }
        }
    }

    fn timed_out(&self, topic: Topic, timeout: Duration) -> Timeout<TypeConfig> {
        let action = if topic == Topic::Append { RPCTypes::AppendEntries } else { RPCTypes::Vote };
        Timeout { action, id: self.envelope.from, target: self.envelope.to, timeout }
    }

    /// A peer with a newer membership that does not know this node: it was removed while it was away.
    fn heed(&self, refusal: &PeerRefusal) {
        if let PeerRefusal::NotMember { membership: Some(theirs) } = refusal
            && (self.membership)().is_none_or(|ours| ours < *theirs)
        {
            self.stop.because(StopReason::Removed);
        }
    }

    async fn send_snapshot(&self, vote: Vote, snapshot: Snapshot) -> Result<SnapshotResponse<TypeConfig>, CallError> {
        let _kept = snapshot.snapshot.keep_log(&snapshot.meta);
        let prologue = SnapshotPrologue { vote, meta: snapshot.meta };
        let prologue = Bytes::from(codec::encode(Format::PEER, &prologue));
        let pieces = stream::iter([Ok(prologue)]).chain(snapshot.snapshot.pieces());
        self.line.send(Topic::Snapshot, self.envelope(), pieces).await
    }
}

impl RaftNetworkV2<TypeConfig> for Client {
    type SnapshotData = Contents;

    async fn append_entries(
        &mut self,
        rpc: AppendEntriesRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<TypeConfig>, RPCError<TypeConfig>> {
        let within = self.append_timeout.unwrap_or(option.hard_ttl());
        self.ask(&self.line, Topic::Append, &rpc, within).await
    }

    fn stream_append<S>(
        &mut self,
        requests: S,
        option: RPCOption,
    ) -> BoxFuture<'_, Result<BoxStream<'_, Sent>, RPCError<TypeConfig>>>
    where
        S: Stream<Item = AppendEntriesRequest<TypeConfig>> + Send + Unpin + 'static,
    {
        let newest = self.newest.clone();
        stream_append_sequential(self, held(requests, newest), option)
    }

    async fn vote(
        &mut self,
        rpc: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RPCError<TypeConfig>> {
        self.ask(&self.votes, Topic::Vote, &rpc, option.hard_ttl()).await
    }

    async fn pre_vote(
        &mut self,
        rpc: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RPCError<TypeConfig>> {
        self.ask(&self.votes, Topic::PreVote, &rpc, option.hard_ttl()).await
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: Snapshot,
        cancel: impl Future<Output = ReplicationClosed> + Send + 'static,
        option: RPCOption,
    ) -> Result<SnapshotResponse<TypeConfig>, StreamingError<TypeConfig>> {
        let within = option.hard_ttl();
        tokio::select! {
            closed = cancel => Err(StreamingError::Closed(closed)),
            sent = tokio::time::timeout(within, self.send_snapshot(vote, snapshot)) => match sent {
                Ok(Ok(response)) => Ok(response),
                Ok(Err(error)) => {
                    match &error {
                        // Tried again and again for as long as it is down.
                        CallError::Unreachable { .. } => tracing::debug!(%error, "snapshot not delivered"),
                        _ => tracing::warn!(to = self.envelope.to, %error, "snapshot not delivered"),
                    }
                    Err(StreamingError::Unreachable(Unreachable::new(&error)))
                }
                Err(elapsed) => Err(StreamingError::Network(NetworkError::new(&elapsed))),
            }
        }
    }

    async fn transfer_leader(
        &mut self,
        rpc: TransferLeaderRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<TransferLeaderResponse<TypeConfig>, RPCError<TypeConfig>> {
        self.ask(&self.votes, Topic::Transfer, &rpc, option.hard_ttl()).await
    }

    fn backoff(&self) -> Option<Backoff> {
        Some(Backoff::new(std::iter::repeat(BACKOFF)))
    }
}
