//! Answers and requests that are too large to be held: they go through in pieces.

use std::{io, time::Duration};

use bytes::Bytes;
use futures::{Stream, TryStreamExt};
use http_body_util::{BodyExt, StreamBody, combinators::UnsyncBoxBody};
use hyper::{
    Method, Request, Response,
    body::{Frame, Incoming},
    header,
};
use hyper_util::{
    client::legacy::{Client as Pool, connect::HttpConnector},
    rt::TokioExecutor,
};
use tokio::time::Instant;

use super::{
    Call, Client, ClientError, Tries,
    transport::{Answer, NoAnswer, innermost},
    verdict::{self, Verdict},
};

/// A node that says nothing for this long in the middle of an answer has gone.
const SILENCE_MAX: Duration = Duration::from_secs(30);
const MEDIA_TYPE: &str = "application/octet-stream";

/// An answer that arrives in pieces.
pub struct Download {
    body: Incoming,
    /// `raftq-index` of the answer.
    pub index: String,
    /// How many bytes there will be, where the node says it.
    pub length: Option<u64>,
    server: String,
}

impl Download {
    /// The next piece; `None` at the end of the whole answer.
    pub async fn next(&mut self) -> Result<Option<Bytes>, ClientError> {
        loop {
            match tokio::time::timeout(SILENCE_MAX, self.body.frame()).await {
                Ok(None) => return Ok(None),
                Ok(Some(Ok(frame))) => {
                    // Trailers say nothing here.
                    if let Ok(data) = frame.into_data() {
                        return Ok(Some(data));
                    }
                }
                Ok(Some(Err(error))) => return Err(self.broke_off(innermost(&error))),
                Err(_) => return Err(self.broke_off("nothing more arrived".to_owned())),
            }
        }
    }

    fn broke_off(&self, cause: String) -> ClientError {
        ClientError::Timeout { servers: self.server.clone(), cause: format!("the answer broke off: {cause}") }
    }
}

impl Client {
    /// Opens an answer that is read in pieces, from whichever node gives one.
    pub async fn download(&self, call: Call) -> Result<Download, ClientError> {
        let response = self.open(call).await?;
        let text = |name: &str| response.headers().get(name).and_then(|value| value.to_str().ok());
        let index = text("raftq-index").unwrap_or_default().to_owned();
        let length = text("content-length").and_then(|length| length.parse().ok());
        Ok(Download { index, length, server: self.current(), body: response.into_body() })
    }

    /// The head of an answer; its body streams.
    pub(super) async fn open(&self, call: Call) -> Result<Response<Incoming>, ClientError> {
        let shared = &self.shared;
        let mut tries = Tries::new(shared, &call, None);
        loop {
            let node = shared.nodes.current();
            let request = call.request(&node, &tries.headers())?;
            let head = tokio::time::timeout_at(tries.attempt_end(), shared.transport.open(request)).await;
            let outcome = match head.unwrap_or_else(|_| Err(NoAnswer::Lost("no answer in time".into()))) {
                Ok(response) if response.status().is_success() => {
                    shared.nodes.served(&node);
                    return Ok(response);
                }
                Ok(response) => Answer::collect(response, tries.attempt_end()).await,
                Err(no_answer) => Err(no_answer),
            };
            match verdict::of(&call, outcome) {
                Verdict::Follow(leader) => {
                    shared.nodes.prefer(leader);
                    tries.followed().await?;
                }
                Verdict::Again(why) => {
                    shared.nodes.avoid(&node, why.heard());
                    tries.failed(why).await?;
                }
                Verdict::Refused(error) => return Err(ClientError::Refused(error)),
                Verdict::Broken(message) => return Err(ClientError::Protocol { server: node.to_string(), message }),
                Verdict::Answer(_) => {
                    let message = "an answer in place of a stream".to_owned();
                    return Err(ClientError::Protocol { server: node.to_string(), message });
                }
            }
        }
    }

    /// Sends a file of `length` bytes to the node that is asked first, once: what became of it is only known from an answer.
    pub async fn upload(
        &self,
        path: &str,
        length: u64,
        pieces: impl Stream<Item = io::Result<Bytes>> + Send + 'static,
        deadline: Instant,
    ) -> Result<Answer, ClientError> {
        let node = self.shared.nodes.current();
        let body = StreamBody::new(pieces.map_ok(Frame::data)).boxed_unsync();
        let request = Request::builder()
            .method(Method::POST)
            .uri(format!("http://{node}{path}"))
            .header(header::CONTENT_TYPE, MEDIA_TYPE)
            .header(header::CONTENT_LENGTH, length)
            .body(body)
            .map_err(|error| ClientError::Usage(format!("`{path}` cannot be asked for: {error}")))?;
        let outcome = match tokio::time::timeout_at(deadline, send(request, deadline)).await {
            Ok(outcome) => outcome,
            Err(_) => Err(NoAnswer::Lost("no answer in time".into())),
        };
        let unknown = |cause| ClientError::OutcomeUnknown { key: "none".to_owned(), cause };
        match outcome {
            Ok(answer) if answer.status.is_success() => Ok(answer),
            Ok(answer) => Err(verdict::error_of(&answer).map_or_else(
                || ClientError::Protocol { server: node.to_string(), message: answer.status.to_string() },
                ClientError::Refused,
            )),
            Err(NoAnswer::NotSent(cause)) => Err(ClientError::Unreachable { servers: node.to_string(), cause }),
            Err(NoAnswer::Lost(cause)) => Err(unknown(cause)),
        }
    }
}

async fn send(request: Request<UnsyncBoxBody<Bytes, io::Error>>, end: Instant) -> Result<Answer, NoAnswer> {
    let pool = Pool::builder(TokioExecutor::new()).build(HttpConnector::new());
    let response = pool.request(request).await.map_err(|error| {
        let cause = innermost(&error);
        if error.is_connect() { NoAnswer::NotSent(cause) } else { NoAnswer::Lost(cause) }
    })?;
    Answer::collect(response, end).await
}
