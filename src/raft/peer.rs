//! The sending side of the peer transport: HTTP/2 without TLS, bincode bodies, one connection for each peer and purpose.
//!
//! Purposes have their own connections so that a large append or a snapshot never delays a heartbeat or a vote.
//! A connection is made when it is first needed and again after it broke; a peer that cannot be reached is told apart from
//! one that is slow, because openraft backs off from the first and retries the second.

use std::{
    collections::BTreeMap,
    io,
    sync::{Arc, Mutex},
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::STANDARD_NO_PAD as BASE64};
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited, combinators::UnsyncBoxBody};
use hyper::{Request, StatusCode, client::conn::http2, header::HeaderValue};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use serde::{Serialize, de::DeserializeOwned};
use tokio::{net::TcpStream, task::JoinHandle, time::timeout};

use super::message::{ENVELOPE_HEADER, Envelope, PeerRefusal};
use crate::codec::{self, Format};

/// How long a connection may take to come about; on one network it takes a millisecond, or is refused.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// A connection on which nothing comes back for this long is given up.
const KEEP_ALIVE: Duration = Duration::from_secs(1);
/// Room for a few large appends, so that no window update is waited for.
pub const STREAM_WINDOW: u32 = 8 << 20;
pub const CONNECTION_WINDOW: u32 = 16 << 20;
/// The most that an answer may have.
const REPLY_BYTES_MAX: usize = 4 << 20;

pub type Body = UnsyncBoxBody<Bytes, io::Error>;

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
pub struct Peers(Arc<Mutex<Connections>>);

/// By address and purpose.
type Connections = BTreeMap<(String, Purpose), Arc<Connection>>;

pub struct Connection {
    address: String,
    live: tokio::sync::Mutex<Option<Live>>,
}

struct Live {
    sender: http2::SendRequest<Body>,
    driver: JoinHandle<()>,
}

impl Drop for Live {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl Peers {
    pub fn connection(&self, address: &str, purpose: Purpose) -> Arc<Connection> {
        let mut connections = self.0.lock().expect("no holder of this lock panics");
        let connection = connections.entry((address.to_owned(), purpose)).or_insert_with(|| {
            Arc::new(Connection { address: address.to_owned(), live: tokio::sync::Mutex::new(None) })
        });
        Arc::clone(connection)
    }

    /// Drops every connection.
    pub fn close(&self) {
        self.0.lock().expect("no holder of this lock panics").clear();
    }
}

impl Connection {
    /// Asks and waits for the answer, in all at most `within`.
    pub async fn call<Q: Serialize, A: DeserializeOwned>(
        &self,
        path: &str,
        envelope: &Envelope,
        question: &Q,
        within: Duration,
    ) -> Result<A, CallError> {
        let bytes = Bytes::from(codec::encode(Format::PEER, question));
        let body = Full::new(bytes).map_err(|never| match never {}).boxed_unsync();
        let asking = self.send(path, envelope, body);
        let reply = match timeout(within, asking).await {
            Ok(reply) => reply?,
            Err(_) => return Err(CallError::Timeout { address: self.address.clone(), within }),
        };
        let outcome: Result<A, PeerRefusal> = codec::decode(Format::PEER, &reply)
            .map_err(|e| CallError::Malformed { address: self.address.clone(), reason: e.to_string() })?;
        outcome.map_err(|refusal| CallError::Refused { address: self.address.clone(), refusal })
    }

    /// Sends any body and gives the bytes of the answer. The caller bounds the time.
    pub async fn send(&self, path: &str, envelope: &Envelope, body: Body) -> Result<Bytes, CallError> {
        let mut sender = self.sender().await?;
        let request = Request::post(format!("http://{}{path}", self.address))
            .header(ENVELOPE_HEADER, envelope_header(envelope))
            .body(body)
            .map_err(|e| self.unreachable(&e))?;
        let response = sender.send_request(request).await.map_err(|e| self.unreachable(&e))?;
        let status = response.status();
        let body = Limited::new(response.into_body(), REPLY_BYTES_MAX).collect().await;
        let bytes = body.map_err(|e| self.unreachable(&e))?.to_bytes();
        if status == StatusCode::OK {
            return Ok(bytes);
        }
        let reason = format!("status {status}: {}", String::from_utf8_lossy(&bytes));
        Err(CallError::Malformed { address: self.address.clone(), reason })
    }

    async fn sender(&self) -> Result<http2::SendRequest<Body>, CallError> {
        let mut live = self.live.lock().await;
        if let Some(live) = live.as_ref().filter(|live| !live.sender.is_closed()) {
            return Ok(live.sender.clone());
        }
        *live = None;
        let new = timeout(CONNECT_TIMEOUT, connect(&self.address)).await;
        let new = new.map_err(|e| self.unreachable(&e))?.map_err(|e| self.unreachable(&e))?;
        let sender = new.sender.clone();
        *live = Some(new);
        Ok(sender)
    }

    fn unreachable(&self, error: &dyn std::fmt::Display) -> CallError {
        CallError::Unreachable { address: self.address.clone(), reason: error.to_string() }
    }
}

fn envelope_header(envelope: &Envelope) -> HeaderValue {
    let text = BASE64.encode(codec::encode(Format::PEER, envelope));
    HeaderValue::from_maybe_shared(Bytes::from(text)).expect("base64 makes a header")
}

/// The envelope of a received header.
pub fn read_envelope(header: &HeaderValue) -> Option<Envelope> {
    codec::decode(Format::PEER, &BASE64.decode(header.as_bytes()).ok()?).ok()
}

async fn connect(address: &str) -> io::Result<Live> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let (sender, connection) = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE)
        .keep_alive_while_idle(true)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(io::Error::other)?;
    let driver = tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "peer connection ended");
        }
    });
    Ok(Live { sender, driver })
}
