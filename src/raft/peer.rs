//! The asking side of the peer transport: bincode in frames over TCP, connections kept for each peer and purpose.
//!
//! Purposes have their own connections so that a large append or a snapshot never delays a heartbeat or a vote.
//! A connection is made when all others are in use, and again after it broke; a peer that cannot be reached is told apart
//! from one that is slow, because openraft backs off from the first and retries the second.

use std::{
    collections::BTreeMap,
    fmt::Display,
    io,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use futures::{Stream, StreamExt, stream};
use serde::{Serialize, de::DeserializeOwned};
use tokio::{net::TcpStream, time::timeout};

use super::{
    message::{Envelope, Head, PeerRefusal, Topic},
    wire::Wire,
};
use crate::codec::{self, Format};

/// How long a connection may take to come about; on one network it takes a millisecond, or is refused.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// Connections that are kept without a question under way, for each peer and purpose.
const IDLE_MAX: usize = 4;

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Purpose {
    Replication,
    Heartbeat,
    Snapshot,
    Vote,
    /// Reads, probes, membership, status.
    Service,
}

#[derive(Debug, thiserror::Error)]
pub enum CallError {
    #[error("cannot reach {address}: {reason}")]
    Unreachable { address: String, reason: String },
    #[error("{address} did not answer within {within:?}")]
    Timeout { address: String, within: Duration },
    #[error("{address} refused: {refusal}")]
    Refused { address: String, refusal: PeerRefusal },
    #[error("{address} answered nonsense: {reason}")]
    Malformed { address: String, reason: String },
}

/// All connections of this node, shared by whoever calls the same peer for the same purpose.
#[derive(Clone, Default)]
pub struct Peers(Arc<Mutex<Lines>>);

/// By address and purpose.
type Lines = BTreeMap<(String, Purpose), Arc<Line>>;

/// The connections to one peer for one purpose.
pub struct Line {
    address: String,
    /// Open, and without a question under way.
    idle: Mutex<Vec<Wire>>,
}

impl Peers {
    pub fn line(&self, address: &str, purpose: Purpose) -> Arc<Line> {
        let mut lines = self.0.lock().expect("no holder of this lock panics");
        let line = lines
            .entry((address.to_owned(), purpose))
            .or_insert_with(|| Arc::new(Line { address: address.to_owned(), idle: Mutex::default() }));
        Arc::clone(line)
    }

    /// Drops every connection that nobody uses.
    pub fn close(&self) {
        let lines = std::mem::take(&mut *self.0.lock().expect("no holder of this lock panics"));
        for line in lines.values() {
            line.idle.lock().expect("no holder of this lock panics").clear();
        }
    }
}

impl Line {
    /// Asks and waits for the answer, in all at most `within`.
    pub async fn call<Q: Serialize, A: DeserializeOwned>(
        &self,
        topic: Topic,
        envelope: Envelope,
        question: &Q,
        within: Duration,
    ) -> Result<A, CallError> {
        let body = stream::iter([Ok(Bytes::from(codec::encode(Format::PEER, question)))]);
        match timeout(within, self.send(topic, envelope, body)).await {
            Ok(answer) => answer,
            Err(_) => {
                self.forget_idle();
                Err(CallError::Timeout { address: self.address.clone(), within })
            }
        }
    }

    /// Asks with a body in pieces. The caller bounds the time.
    pub async fn send<A: DeserializeOwned>(
        &self,
        topic: Topic,
        envelope: Envelope,
        body: impl Stream<Item = io::Result<Bytes>>,
    ) -> Result<A, CallError> {
        let mut wire = self.wire().await?;
        let answer = ask(&mut wire, &Head { envelope, topic }, body).await.map_err(|error| self.failed(&error))?;
        self.keep(wire);
        let outcome: Result<A, PeerRefusal> = codec::decode(Format::PEER, &answer)
            .map_err(|e| CallError::Malformed { address: self.address.clone(), reason: e.to_string() })?;
        outcome.map_err(|refusal| CallError::Refused { address: self.address.clone(), refusal })
    }

    async fn wire(&self) -> Result<Wire, CallError> {
        while let Some(wire) = self.take_idle() {
            if !wire.is_over() {
                return Ok(wire);
            }
        }
        let connected = timeout(CONNECT_TIMEOUT, TcpStream::connect(&self.address)).await;
        let stream = connected.map_err(|e| self.unreachable(&e))?.map_err(|e| self.unreachable(&e))?;
        Wire::new(stream).map_err(|e| self.unreachable(&e))
    }

    fn take_idle(&self) -> Option<Wire> {
        self.idle.lock().expect("no holder of this lock panics").pop()
    }

    fn keep(&self, mut wire: Wire) {
        wire.give_back();
        let mut idle = self.idle.lock().expect("no holder of this lock panics");
        if idle.len() < IDLE_MAX {
            idle.push(wire);
        }
    }

    /// What became of one connection may have become of the others: a machine that lost power hangs up on none.
    fn forget_idle(&self) {
        self.idle.lock().expect("no holder of this lock panics").clear();
    }

    fn failed(&self, error: &io::Error) -> CallError {
        self.forget_idle();
        if error.kind() == io::ErrorKind::InvalidData {
            let reason = "it speaks another protocol; is this its peer address?".to_owned();
            return CallError::Malformed { address: self.address.clone(), reason };
        }
        self.unreachable(error)
    }

    fn unreachable(&self, error: &dyn Display) -> CallError {
        CallError::Unreachable { address: self.address.clone(), reason: error.to_string() }
    }
}

async fn ask(wire: &mut Wire, head: &Head, body: impl Stream<Item = io::Result<Bytes>>) -> io::Result<Bytes> {
    wire.feed(Bytes::from(codec::encode(Format::PEER, head))).await?;
    let mut body = std::pin::pin!(body);
    while let Some(piece) = body.next().await {
        wire.feed(piece?).await?;
    }
    wire.end().await?;
    wire.next().await?.ok_or_else(|| io::Error::new(io::ErrorKind::UnexpectedEof, "it hung up"))
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;
    use crate::raft::message::{PROTOCOL, ReadIndex};

    const LATE: Duration = Duration::from_millis(50);
    const SOON: Duration = Duration::from_secs(20);

    fn envelope() -> Envelope {
        Envelope { protocol: PROTOCOL, cluster: None, from: 1, to: 2, disk: None }
    }

    /// Takes one question from a connection and leaves it without an answer.
    async fn question(wire: &mut Wire) {
        while !wire.next().await.expect("a question").expect("a frame").is_empty() {}
    }

    async fn accepted(listener: &TcpListener) -> Wire {
        Wire::new(listener.accept().await.expect("accepted").0).expect("open")
    }

    async fn asked(line: &Line, within: Duration) -> Result<u64, CallError> {
        line.call(Topic::ReadIndex, envelope(), &ReadIndex, within).await
    }

    fn number(number: u64) -> Bytes {
        codec::encode(Format::PEER, &Ok::<u64, PeerRefusal>(number)).into()
    }

    #[tokio::test]
    async fn late_answer_goes_to_nobody_and_a_good_connection_is_used_again() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("listening");
        let line = Peers::default().line(&listener.local_addr().expect("an address").to_string(), Purpose::Service);
        let peer = tokio::spawn(async move {
            let mut first = accepted(&listener).await;
            question(&mut first).await;
            first.hung_up().await;
            let mut second = accepted(&listener).await;
            // Too late: whoever asked this has gone, and the connection with it.
            _ = first.answer(number(1)).await;
            for answer in [2, 3] {
                question(&mut second).await;
                second.answer(number(answer)).await.expect("answered");
            }
            drop(second);
            let mut third = accepted(&listener).await;
            question(&mut third).await;
            third.answer(number(4)).await.expect("answered");
        });
        assert!(matches!(asked(&line, LATE).await, Err(CallError::Timeout { .. })));
        assert_eq!(asked(&line, SOON).await.expect("answered"), 2);
        assert_eq!(asked(&line, SOON).await.expect("on the same connection"), 3);
        let hung_up = line.take_idle().expect("kept");
        hung_up.hung_up().await;
        line.keep(hung_up);
        assert_eq!(asked(&line, SOON).await.expect("on a new one, for the peer had closed it"), 4);
        peer.await.expect("no panic");
    }

    #[tokio::test]
    async fn address_of_another_protocol_is_told_apart() {
        use tokio::io::AsyncWriteExt;
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("listening");
        let line = Peers::default().line(&listener.local_addr().expect("an address").to_string(), Purpose::Service);
        let peer = tokio::spawn(async move {
            let mut stream = listener.accept().await.expect("accepted").0;
            stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.expect("written");
            stream
        });
        match asked(&line, SOON).await {
            Err(CallError::Malformed { reason, .. }) => assert!(reason.contains("peer address"), "{reason}"),
            other => panic!("{other:?}"),
        }
        drop(peer.await.expect("no panic"));
    }
}
