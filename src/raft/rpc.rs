//! The answering side of the peer transport.
//!
//! A node answers only what is meant for it ([`Envelope`]): its own cluster, its own id, its own disk. A node without a
//! cluster answers nothing but a probe and an invitation, so an empty disk under an old id never votes.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use openraft::{
    errors::Fatal,
    raft::{AppendEntriesRequest, AppendEntriesResponse},
};
use serde::{Serialize, de::DeserializeOwned};
use tokio::{
    net::{TcpListener, TcpStream},
    time::timeout,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    inner::Inner,
    message::{
        Envelope, Head, Invitation, PROTOCOL, PeerRefusal, Probe, Propose, ReadIndex, Removed, SnapshotPrologue,
        StatusQuestion, Topic,
    },
    snapshot::{Contents, Incoming, Snapshot},
    steady_file::SteadyFile,
    stop::StopReason,
    types::TypeConfig,
    wire::Wire,
};
use crate::codec::{self, Format};

/// Who is in the middle of a question and says nothing for this long is given up.
const PIECE_PATIENCE: Duration = Duration::from_secs(10);

type Append = AppendEntriesRequest<TypeConfig>;
type Appended = AppendEntriesResponse<TypeConfig>;

/// Answers peers until `cancel`; what runs then is dropped, and its tasks have ended on return.
pub async fn serve(listener: TcpListener, inner: Arc<Inner>, cancel: CancellationToken) {
    let connections = TaskTracker::new();
    loop {
        let accepted = tokio::select! {
            () = cancel.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, from)) => {
                connections.spawn(connection(stream, from, Arc::clone(&inner), cancel.clone()));
            }
            Err(error) => {
                // Out of file descriptors, most likely: others may close some meanwhile.
                tracing::warn!(%error, "peer connection not accepted");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
    drop(listener);
    connections.close();
    connections.wait().await;
}

/// Peers keep connections for as long as they live, so there is no end to wait for once this node ends.
async fn connection(stream: TcpStream, from: SocketAddr, inner: Arc<Inner>, cancel: CancellationToken) {
    let ended = tokio::select! {
        ended = converse(stream, &inner) => ended,
        () = cancel.cancelled() => return,
    };
    if let Err(error) = ended {
        tracing::debug!(%from, %error, "peer connection ended");
    }
}

async fn converse(stream: TcpStream, inner: &Arc<Inner>) -> io::Result<()> {
    let mut wire = Wire::new(stream)?;
    loop {
        let head = match wire.head().await {
            Ok(Some(head)) => head,
            Ok(None) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::InvalidData => return wire.refuse_http().await,
            Err(error) => return Err(error),
        };
        let mut body = Body { wire: &mut wire, is_over: false };
        let answer = answer(&head, &mut body, inner).await;
        body.skip().await?;
        wire.answer(answer).await?;
    }
}

/// What follows the head of a question.
struct Body<'a> {
    wire: &'a mut Wire,
    is_over: bool,
}

impl Body<'_> {
    /// The next piece; `None` at the end of the question.
    async fn next(&mut self) -> io::Result<Option<Bytes>> {
        if self.is_over {
            return Ok(None);
        }
        let piece = timeout(PIECE_PATIENCE, self.wire.next()).await??.ok_or_else(cut_short)?;
        self.is_over = piece.is_empty();
        Ok((!self.is_over).then_some(piece))
    }

    /// The one piece of a question that has one.
    async fn only(&mut self) -> io::Result<Bytes> {
        let piece = self.next().await?.ok_or_else(cut_short)?;
        self.skip().await?;
        Ok(piece)
    }

    /// Passes over what is left: who asks hears an answer only once all is said.
    async fn skip(&mut self) -> io::Result<()> {
        while self.next().await?.is_some() {}
        Ok(())
    }
}

async fn answer(head: &[u8], body: &mut Body<'_>, inner: &Arc<Inner>) -> Bytes {
    let Ok(Head { envelope, topic }) = codec::decode(Format::PEER, head) else {
        return encoded::<()>(&Err(failed("the question does not decode")));
    };
    if let Err(refusal) = inner.admit(&envelope, topic) {
        return encoded::<()>(&Err(refusal));
    }
    let raft = &inner.raft;
    match topic {
        Topic::Append => reply(body, |q| inner.append(q)).await,
        Topic::Vote => reply(body, |q| async { raft.vote(q).await.map_err(failed) }).await,
        Topic::PreVote => reply(body, |q| async { raft.pre_vote(q).await.map_err(failed) }).await,
        Topic::Transfer => reply(body, |q| async { raft.handle_transfer_leader(q).await.map_err(fatal) }).await,
        Topic::ReadIndex => reply(body, |ReadIndex| inner.own_read_index()).await,
        Topic::Status => reply(body, |StatusQuestion| async { Ok(inner.own_status()) }).await,
        Topic::Probe => reply(body, |Probe| async { Ok(inner.probed(&envelope)) }).await,
        Topic::Invite => reply(body, |invitation: Invitation| inner.invited(invitation)).await,
        Topic::Propose => reply(body, |question: Propose| inner.propose_for_member(question)).await,
        Topic::Removed => reply(body, |removed: Removed| async move { inner.told_removed(removed) }).await,
        Topic::Snapshot => encoded(&receive_snapshot(body, inner).await),
    }
}

async fn reply<Q, A, F>(body: &mut Body<'_>, answer: impl FnOnce(Q) -> F) -> Bytes
where
    Q: DeserializeOwned,
    A: Serialize,
    F: Future<Output = Result<A, PeerRefusal>>,
{
    let question = body.only().await.and_then(|bytes| codec::decode(Format::PEER, &bytes).map_err(io::Error::other));
    encoded(&match question {
        // An append waits for the disk. Who gave it up asks anew, and must not find ever more of its questions here.
        Ok(question) => tokio::select! {
            outcome = answer(question) => outcome,
            () = body.wire.hung_up() => Err(failed("nobody waits for the answer")),
        },
        Err(error) => Err(failed(format!("the question does not decode: {error}"))),
    })
}

fn encoded<A: Serialize>(outcome: &Result<A, PeerRefusal>) -> Bytes {
    codec::encode(Format::PEER, outcome).into()
}

fn failed(error: impl std::fmt::Display) -> PeerRefusal {
    PeerRefusal::Failed(error.to_string())
}

fn fatal(error: Fatal<TypeConfig>) -> PeerRefusal {
    failed(error)
}

/// Writes a snapshot to a file of its own, checks it to its end, and only then hands it to Raft.
async fn receive_snapshot(
    body: &mut Body<'_>,
    inner: &Arc<Inner>,
) -> Result<openraft::raft::SnapshotResponse<TypeConfig>, PeerRefusal> {
    let incoming = inner.snapshots.incoming();
    let file = inner.snapshots.receiving(&incoming).map_err(failed)?;
    let prologue = receive_file(body, file).await.map_err(failed)?;
    install(inner, prologue, incoming).await
}

async fn install(
    inner: &Arc<Inner>,
    prologue: SnapshotPrologue,
    incoming: Incoming,
) -> Result<openraft::raft::SnapshotResponse<TypeConfig>, PeerRefusal> {
    let (snapshots, file) = (Arc::clone(&inner.snapshots), incoming.path().to_path_buf());
    let header = tokio::task::spawn_blocking(move || snapshots.verify(&file)).await.map_err(failed)?.map_err(failed)?;
    if header.meta() != prologue.meta {
        return Err(failed("the snapshot is not the one it was announced as"));
    }
    let (level, knows) = (header.applied.feature_level, inner.replica.knows);
    if level > knows {
        inner.stop.because(StopReason::NewerLevel { level, knows });
        return Err(failed("it does not know the feature level of the snapshot"));
    }
    let file = incoming.open().map_err(failed)?;
    tracing::info!(meta = %prologue.meta, bytes = file.bytes, "snapshot received");
    let snapshot = Snapshot { meta: prologue.meta, snapshot: Contents::File(file) };
    inner.raft.install_full_snapshot(prologue.vote, snapshot).await.map_err(|error| {
        if inner.stop.is_set() {
            return failed(error);
        }
        inner.stop.because(StopReason::Raft(error.to_string()));
        failed("the snapshot could not be installed")
    })
}

async fn receive_file(body: &mut Body<'_>, mut file: SteadyFile) -> io::Result<SnapshotPrologue> {
    let prologue = body.next().await?.ok_or_else(cut_short)?;
    let prologue: SnapshotPrologue = codec::decode(Format::PEER, &prologue).map_err(io::Error::other)?;
    while let Some(piece) = body.next().await? {
        file = file.put(piece).await?;
    }
    Ok(prologue)
}

fn cut_short() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "the question was cut short")
}

impl Inner {
    async fn append(&self, append: Append) -> Result<Appended, PeerRefusal> {
        let appended = self.raft.append_entries(append).await.map_err(failed)?;
        if !matches!(appended, AppendEntriesResponse::HigherVote(_)) {
            self.heard_leader();
        }
        Ok(appended)
    }

    /// Whether a question with this envelope is meant for this node.
    fn admit(&self, envelope: &Envelope, topic: Topic) -> Result<(), PeerRefusal> {
        if envelope.protocol != PROTOCOL {
            return Err(PeerRefusal::Protocol { known: PROTOCOL });
        }
        if topic == Topic::Probe {
            return Ok(());
        }
        let identity = self.identity();
        if envelope.to != identity.node {
            return Err(PeerRefusal::OtherNode { id: identity.node });
        }
        if envelope.disk != Some(identity.disk) {
            return Err(PeerRefusal::OtherDisk);
        }
        match identity.cluster {
            None if topic == Topic::Invite => Ok(()),
            None => Err(PeerRefusal::Pristine),
            own if envelope.cluster == own => self.admit_voter(envelope.from, topic),
            Some(_) => Err(PeerRefusal::OtherCluster),
        }
    }

    /// openraft grants votes without looking at the membership, so a removed node could disturb for ever.
    fn admit_voter(&self, from: u64, topic: Topic) -> Result<(), PeerRefusal> {
        if topic != Topic::Vote && topic != Topic::PreVote {
            return Ok(());
        }
        let membership = self.membership();
        if membership.nodes().next().is_none() || membership.membership().get_node(&from).is_some() {
            return Ok(());
        }
        Err(PeerRefusal::NotMember { membership: membership.log_id().map(|id| id.index) })
    }
}
