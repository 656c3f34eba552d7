//! The answering side of the peer transport.
//!
//! A node answers only what is meant for it ([`Envelope`]): its own cluster, its own id, its own disk. A node without a
//! cluster answers nothing but a probe and an invitation, so an empty disk under an old id never votes.

use std::{convert::Infallible, io, net::SocketAddr, sync::Arc, time::Duration};

use bytes::{Buf, Bytes, BytesMut};
use http_body_util::{BodyExt, Full, Limited};
use hyper::{Request, Response, StatusCode, body::Incoming, server::conn::http2, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use openraft::{
    errors::Fatal,
    raft::{AppendEntriesRequest, AppendEntriesResponse},
};
use serde::{Serialize, de::DeserializeOwned};
use tokio::{
    fs::File,
    io::AsyncWriteExt,
    net::{TcpListener, TcpStream},
    time::timeout,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    inner::Inner,
    message::{
        ENVELOPE_HEADER, Envelope, Invitation, PROTOCOL, PeerRefusal, Probe, Propose, Removed, SnapshotPrologue, path,
    },
    peer::{self, CONNECTION_WINDOW, STREAM_WINDOW},
    snapshot::{Snapshot, SnapshotFile},
    stop::StopReason,
    types::TypeConfig,
};
use crate::codec::{self, Format};

/// The largest question: one append of the largest entry and what goes with it.
const QUESTION_BYTES_MAX: usize = 64 << 20;
/// A sender of a snapshot that says nothing for this long is given up.
const SNAPSHOT_IDLE: Duration = Duration::from_secs(10);
const PROLOGUE_BYTES_MAX: usize = 1 << 20;

type Append = AppendEntriesRequest<TypeConfig>;
type Appended = AppendEntriesResponse<TypeConfig>;

/// Answers peers until `cancel`, then lets what runs come to its end.
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

async fn connection(stream: TcpStream, from: SocketAddr, inner: Arc<Inner>, cancel: CancellationToken) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%from, %error, "peer connection without nodelay");
    }
    let service = service_fn(move |request| answer(request, Arc::clone(&inner)));
    let connection = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = cancel.cancelled() => {
            // Peers keep connections for ever, so there is no end to wait for.
            return;
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%from, %error, "peer connection ended");
    }
}

async fn answer(request: Request<Incoming>, inner: Arc<Inner>) -> Result<Response<Full<Bytes>>, Infallible> {
    let envelope = request.headers().get(ENVELOPE_HEADER).and_then(peer::read_envelope);
    let reply = match envelope {
        Some(envelope) => route(request, &envelope, &inner).await,
        None => {
            Err(Reply::status(StatusCode::BAD_REQUEST, "this is the door for raftq nodes; clients use the api address"))
        }
    };
    Ok(reply.unwrap_or_else(|reply| reply).0)
}

/// What goes back: the encoded outcome, or a status for what is no peer's question.
struct Reply(Response<Full<Bytes>>);

impl Reply {
    fn of<A: Serialize>(outcome: &Result<A, PeerRefusal>) -> Self {
        Self(Response::new(Full::new(Bytes::from(codec::encode(Format::PEER, outcome)))))
    }

    fn refused(refusal: PeerRefusal) -> Self {
        Self::of::<()>(&Err(refusal))
    }

    fn status(status: StatusCode, text: &'static str) -> Self {
        let mut response = Response::new(Full::new(Bytes::from_static(text.as_bytes())));
        *response.status_mut() = status;
        Self(response)
    }
}

async fn route(request: Request<Incoming>, envelope: &Envelope, inner: &Arc<Inner>) -> Result<Reply, Reply> {
    let path = request.uri().path().to_owned();
    inner.admit(envelope, &path).map_err(Reply::refused)?;
    let body = request.into_body();
    let raft = &inner.raft;
    match path.as_str() {
        path::APPEND => reply(body, |q| inner.append(q)).await,
        path::VOTE => reply(body, |q| async { raft.vote(q).await.map_err(failed) }).await,
        path::PRE_VOTE => reply(body, |q| async { raft.pre_vote(q).await.map_err(failed) }).await,
        path::TRANSFER => reply(body, |q| async { raft.handle_transfer_leader(q).await.map_err(fatal) }).await,
        path::READ_INDEX => reply(body, |super::message::ReadIndex| inner.own_read_index()).await,
        path::STATUS => reply(body, |super::message::StatusQuestion| async { Ok(inner.own_status()) }).await,
        path::PROBE => reply(body, |Probe| async { Ok(inner.probed(envelope)) }).await,
        path::INVITE => reply(body, |invitation: Invitation| inner.invited(invitation)).await,
        path::PROPOSE => reply(body, |question: Propose| inner.propose_for_member(question)).await,
        path::REMOVED => reply(body, |removed: Removed| async move { inner.told_removed(removed) }).await,
        path::SNAPSHOT => Ok(Reply::of(&receive_snapshot(body, inner).await)),
        _ => Err(Reply::status(StatusCode::NOT_FOUND, "no such question")),
    }
}

async fn reply<Q, A, F>(body: Incoming, answer: impl FnOnce(Q) -> F) -> Result<Reply, Reply>
where
    Q: DeserializeOwned,
    A: Serialize,
    F: Future<Output = Result<A, PeerRefusal>>,
{
    let bytes = Limited::new(body, QUESTION_BYTES_MAX).collect().await;
    let bytes = bytes.map_err(|_| Reply::status(StatusCode::PAYLOAD_TOO_LARGE, "cut short or too large"))?.to_bytes();
    let question = codec::decode(Format::PEER, &bytes)
        .map_err(|_| Reply::status(StatusCode::BAD_REQUEST, "the question does not decode"))?;
    Ok(Reply::of(&answer(question).await))
}

fn failed(error: impl std::fmt::Display) -> PeerRefusal {
    PeerRefusal::Failed(error.to_string())
}

fn fatal(error: Fatal<TypeConfig>) -> PeerRefusal {
    failed(error)
}

/// Writes a snapshot to a file of its own, checks it to its end, and only then hands it to Raft.
async fn receive_snapshot(
    body: Incoming,
    inner: &Arc<Inner>,
) -> Result<openraft::raft::SnapshotResponse<TypeConfig>, PeerRefusal> {
    let path = inner.snapshots.incoming();
    let received = receive_file(body, &path).await;
    let installed = match received {
        Ok(prologue) => install(inner, prologue, &path).await,
        Err(error) => Err(failed(error)),
    };
    // What was installed has another name by now; the rest is of no use.
    drop(tokio::fs::remove_file(&path).await);
    installed
}

async fn install(
    inner: &Arc<Inner>,
    prologue: SnapshotPrologue,
    path: &std::path::Path,
) -> Result<openraft::raft::SnapshotResponse<TypeConfig>, PeerRefusal> {
    let (snapshots, file) = (Arc::clone(&inner.snapshots), path.to_path_buf());
    let header = tokio::task::spawn_blocking(move || snapshots.verify(&file)).await.map_err(failed)?.map_err(failed)?;
    if header.meta() != prologue.meta {
        return Err(failed("the snapshot is not the one it was announced as"));
    }
    let (level, knows) = (header.applied.feature_level, inner.replica.knows);
    if level > knows {
        inner.stop.because(StopReason::NewerLevel { level, knows });
        return Err(failed("it does not know the feature level of the snapshot"));
    }
    let snapshot = SnapshotFile::open(path.to_path_buf()).map_err(failed)?;
    let snapshot = Snapshot { meta: prologue.meta, snapshot };
    tracing::info!(meta = %snapshot.meta, bytes = snapshot.snapshot.bytes, "snapshot received");
    inner.raft.install_full_snapshot(prologue.vote, snapshot).await.map_err(|error| {
        if inner.stop.is_set() {
            return failed(error);
        }
        inner.stop.because(StopReason::Raft(error.to_string()));
        failed("the snapshot could not be installed")
    })
}

async fn receive_file(body: Incoming, path: &std::path::Path) -> io::Result<SnapshotPrologue> {
    let mut pieces = body.into_data_stream();
    let mut head = BytesMut::new();
    let prologue = loop {
        if let Some(prologue) = take_prologue(&mut head)? {
            break prologue;
        }
        head.extend_from_slice(&next_piece(&mut pieces).await?.ok_or_else(cut_short)?);
    };
    let mut file = File::create(path).await?;
    let mut bytes = head.len() as u64;
    file.write_all(&head).await?;
    while let Some(piece) = next_piece(&mut pieces).await? {
        bytes += piece.len() as u64;
        file.write_all(&piece).await?;
    }
    file.sync_all().await?;
    if bytes != prologue.bytes {
        return Err(cut_short());
    }
    Ok(prologue)
}

type Pieces = http_body_util::BodyDataStream<Incoming>;

async fn next_piece(pieces: &mut Pieces) -> io::Result<Option<Bytes>> {
    let next = timeout(SNAPSHOT_IDLE, futures::StreamExt::next(pieces)).await?;
    next.transpose().map_err(io::Error::other)
}

fn take_prologue(head: &mut BytesMut) -> io::Result<Option<SnapshotPrologue>> {
    let Some(length) = head.first_chunk::<4>() else { return Ok(None) };
    let length = u32::from_be_bytes(*length) as usize;
    if length > PROLOGUE_BYTES_MAX {
        return Err(io::Error::other("the snapshot's prologue is too long"));
    }
    if head.len() < 4 + length {
        return Ok(None);
    }
    head.advance(4);
    codec::decode(Format::PEER, &head.split_to(length)).map(Some).map_err(io::Error::other)
}

fn cut_short() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "the snapshot was cut short")
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
    fn admit(&self, envelope: &Envelope, path: &str) -> Result<(), PeerRefusal> {
        if envelope.protocol != PROTOCOL {
            return Err(PeerRefusal::Protocol { known: PROTOCOL });
        }
        if path == path::PROBE {
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
            None if path == path::INVITE => Ok(()),
            None => Err(PeerRefusal::Pristine),
            own if envelope.cluster == own => self.admit_voter(envelope.from, path),
            Some(_) => Err(PeerRefusal::OtherCluster),
        }
    }

    /// openraft grants votes without looking at the membership, so a removed node could disturb for ever.
    fn admit_voter(&self, from: u64, path: &str) -> Result<(), PeerRefusal> {
        if path != path::VOTE && path != path::PRE_VOTE {
            return Ok(());
        }
        let membership = self.membership();
        if membership.nodes().next().is_none() || membership.membership().get_node(&from).is_some() {
            return Ok(());
        }
        Err(PeerRefusal::NotMember { membership: membership.log_id().map(|id| id.index) })
    }
}
