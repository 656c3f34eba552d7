//! A request as handlers see it, and the two things that they may do with it: propose, and look.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use axum::{
    body::Bytes,
    extract::{FromRequest, Request},
    http::{HeaderMap, HeaderName, Method, header},
};
use futures::{FutureExt, TryFutureExt};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::de::DeserializeOwned;
use tokio::time::Instant;

use super::{
    Front,
    context::{Away, Context},
    failure::Failure,
    forward::passed_on,
    hot::Plain,
};
use crate::{
    api,
    queue::{
        applied::Answer,
        command::{Command, Key, Request as Proposal},
    },
    raft::{Committed, LeaderInfo, ProposeError, View},
};

/// The largest request (design 3): 10 000 jobs of the usual size, and few enough that many at once fit in memory.
pub const BODY_BYTES_MAX: usize = 16 << 20;
/// Of a request that is too large so much is still taken from the line, so that its sender comes to read why.
const DISCARDED_BYTES_MAX: usize = 256 << 20;

/// Bodies beyond this are decoded aside: they take milliseconds, in which heartbeats would wait.
pub const DECODED_AT_ONCE_BYTES_MAX: usize = 128 << 10;

pub struct Call {
    pub front: Arc<Front>,
    pub context: Context,
    /// Those that only some handlers read.
    pub headers: HeaderMap,
    pub body: Bytes,
    /// Set once it is in line for the log, where somebody waits to know.
    in_line: Option<Arc<AtomicBool>>,
}

impl FromRequest<Arc<Front>> for Call {
    type Rejection = Failure;

    fn from_request(request: Request, front: &Arc<Front>) -> impl Future<Output = Result<Self, Failure>> + Send {
        Self::read(request, Arc::clone(front))
    }
}

async fn read_body(context: &Context, mut body: axum::body::Body) -> Result<Bytes, Failure> {
    let collected = tokio::time::timeout_at(context.deadline, Limited::new(&mut body, BODY_BYTES_MAX).collect());
    match collected.await {
        Err(_) => Err(Failure::new("timeout", "the request's body did not arrive by its deadline")),
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => {
            // A deadline that passes here changes nothing: the answer is the same.
            let _ = tokio::time::timeout_at(context.deadline, discard(body)).await;
            Err(too_large())
        }
        Ok(Err(_)) => Err(Failure::invalid("body", "the body ended before it was complete")),
    }
}

/// Who asks before sending is told before sending.
fn is_announced_too_large(headers: &HeaderMap) -> bool {
    let said = headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    headers.contains_key(header::EXPECT) && said.is_some_and(|length| length > BODY_BYTES_MAX as u64)
}

/// A connection that is closed on a client which is still sending takes the answer with it.
async fn discard(mut body: axum::body::Body) {
    let mut discarded = 0;
    while discarded < DISCARDED_BYTES_MAX {
        let Some(Ok(frame)) = body.frame().await else { return };
        discarded += frame.data_ref().map_or(0, Bytes::len);
    }
}

fn too_large() -> Failure {
    Failure::new("too_large", "a request has at most 16 MiB; send it in pieces")
}

/// A page in a browser can send other types to us without being asked first.
fn check_media_type(method: &Method, headers: &HeaderMap, body: &Bytes) -> Result<(), Failure> {
    if body.is_empty() || method == Method::GET || method == Method::HEAD {
        return Ok(());
    }
    check_coding(headers)?;
    let mut types = headers.get_all(header::CONTENT_TYPE).iter();
    let given = types.next().filter(|_| types.next().is_none()).and_then(|value| value.to_str().ok());
    match given.is_some_and(is_json) {
        true => Ok(()),
        false => Err(Failure::new("unsupported_media_type", "send bodies as application/json")),
    }
}

/// With whatever parameters.
pub fn is_json(media_type: &str) -> bool {
    let media = media_type.split(';').next().unwrap_or_default().trim();
    media.eq_ignore_ascii_case("application/json")
}

/// What was packed would be read as if it were not.
pub fn check_coding(headers: &HeaderMap) -> Result<(), Failure> {
    match is_only(headers, &header::CONTENT_ENCODING, "identity")
        && is_only(headers, &header::TRANSFER_ENCODING, "chunked")
    {
        true => Ok(()),
        false => {
            Err(Failure::new("unsupported_media_type", "send bodies as they are, without an encoding such as gzip"))
        }
    }
}

/// Whatever codings this header lists, each is `coding`.
fn is_only(headers: &HeaderMap, name: &HeaderName, coding: &str) -> bool {
    let listed = headers.get_all(name).iter().flat_map(|codings| codings.as_bytes().split(|byte| *byte == b','));
    listed.into_iter().all(|listed| listed.trim_ascii().eq_ignore_ascii_case(coding.as_bytes()))
}

impl Call {
    /// Takes a request apart before it waits for the body, or it would be held twice.
    pub fn read(request: Request, front: Arc<Front>) -> impl Future<Output = Result<Self, Failure>> + Send {
        let (parts, body) = request.into_parts();
        let context = Context::read(&parts.method, &parts.uri, &parts.headers);
        let headers = parts.headers;
        async move {
            let context = context?;
            if is_announced_too_large(&headers) {
                return Err(too_large());
            }
            let body = read_body(&context, body).await?;
            check_media_type(context.method(), &headers, &body)?;
            front.await_token(&context).await?;
            Ok(Self { front, context, headers, body, in_line: None })
        }
    }

    /// Of a request that is whole and plain. `in_line` is set once it is in line for the log.
    pub fn plain(front: Arc<Front>, plain: &Plain<'_>, in_line: Arc<AtomicBool>) -> Result<Self, Failure> {
        let context = Context::of(&plain.method, plain.path, &plain.said)?;
        let (headers, body) = (HeaderMap::new(), Bytes::copy_from_slice(plain.body));
        Ok(Self { front, context, headers, body, in_line: Some(in_line) })
    }

    /// The body, strictly.
    pub async fn decode<T: DeserializeOwned + Send + 'static>(&self) -> Result<T, Failure> {
        self.decode_aside(|body| Ok(api::decode(body)?)).await
    }

    /// What `decode` makes of a body that may be large.
    pub async fn decode_aside<T: Send + 'static>(
        &self,
        decode: impl FnOnce(&[u8]) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, Failure> {
        if self.body.len() <= DECODED_AT_ONCE_BYTES_MAX {
            return decode(&self.body);
        }
        let body = self.body.clone();
        let decoding = tokio::task::spawn_blocking(move || decode(&body));
        match decoding.await.map_err(tokio::task::JoinError::try_into_panic) {
            Ok(decoded) => decoded,
            // The guard answers it, and says which route it was.
            Err(Ok(panic)) => std::panic::resume_unwind(panic),
            Err(Err(_)) => Err(Failure::internal()),
        }
    }

    /// The body, where none means `{}`.
    pub async fn decode_or_empty<T: DeserializeOwned + Send + 'static>(&self) -> Result<T, Failure> {
        match self.body.is_empty() {
            true => Ok(api::decode(b"{}")?),
            false => self.decode().await,
        }
    }

    /// Puts a command into the log and waits until it is applied. A refusal of the whole call is a failure.
    pub fn propose(&self, command: Command) -> impl Future<Output = Result<Committed, Failure>> {
        let key = self.context.key(&self.body);
        let proposed = self.propose_keyed(key, command, self.context.deadline);
        if let Some(in_line) = &self.in_line {
            in_line.store(true, Ordering::Relaxed);
        }
        proposed.map(|committed| match committed? {
            Committed { answer: Answer::Refused(refusal), .. } => Err(refusal.into()),
            committed => Ok(committed),
        })
    }

    pub fn propose_keyed(
        &self,
        key: Option<Key>,
        command: Command,
        deadline: Instant,
    ) -> impl Future<Output = Result<Committed, Failure>> {
        let proposal = Proposal { principal: Arc::clone(&self.context.principal), key, command };
        let proposed = self.front.node.propose(proposal, deadline);
        proposed.or_else(|error| self.not_committed(error).map(Err))
    }

    async fn not_committed(&self, error: ProposeError) -> Failure {
        match error {
            ProposeError::NotLeader { leader: Some(leader) } => {
                Box::pin(self.elsewhere(LeaderInfo { id: leader.id, api: leader.member.api })).await
            }
            ProposeError::NotLeader { leader: None } | ProposeError::Deadline => Failure::no_leader(),
            ProposeError::Unknown => Failure::outcome_unknown(),
            ProposeError::Busy => Failure::busy(),
            ProposeError::NoSpace => Failure::new(
                "no_space",
                "a majority of the nodes has too little disk space; delete old jobs or add space",
            ),
        }
    }

    /// For calls that look before they propose: on another node the look would be for nothing.
    pub async fn leader_only(&self) -> Result<(), Failure> {
        match self.front.other_leader() {
            Some(leader) => Err(self.elsewhere(leader).await),
            None => Ok(()),
        }
    }

    /// Only the leader can do this: send the client there, or ask in its place if it wants that.
    pub async fn elsewhere(&self, leader: LeaderInfo) -> Failure {
        match self.context.away {
            Away::Refuse => Failure::no_leader(),
            Away::Redirect => Failure::Elsewhere { leader, path: self.context.path.to_string() },
            Away::Forward => match self.front.forwarder.forward(self, &leader).await {
                Ok(response) => Failure::Answered(Box::new(response)),
                Err(failure) => failure,
            },
        }
    }

    /// Before a long wait: what arrived lies in the buffer that the connection read it into, and would hold all of it.
    pub fn let_go_of_buffer(&mut self) {
        self.body = Bytes::copy_from_slice(&self.body);
        self.headers = passed_on(&self.headers);
    }

    /// One pinned view of the whole state, as fresh as the request asks for.
    pub async fn view(&self) -> Result<View, Failure> {
        self.front.view(self.context.consistency, 0, self.context.deadline).await
    }
}
