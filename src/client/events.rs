//! The stream of events: from any node, through any change of node, without a gap or a double.
//!
//! Server-sent events carry an id each; when a connection ends the next begins after the last id that was seen, wherever.

use std::time::Duration;

use bytes::{Buf, BytesMut};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::time::Instant;

use super::{Call, Client, ClientError, path_with_query};

/// One event as the node sent it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Event {
    /// `index.n`: where to go on.
    pub id: String,
    /// `posted`, `started`, `finished`, `removed`, ...
    pub kind: String,
    /// JSON.
    pub data: String,
}

pub struct Events {
    client: Client,
    from: Option<String>,
    body: Option<Incoming>,
    parser: Parser,
}

/// How long a stream may look for a node before it gives up.
const PATIENCE: Duration = Duration::from_secs(60);
/// Nodes send a comment more often than this; a stream that is silent longer is dead.
const SILENCE_MAX: Duration = Duration::from_secs(45);
/// No event is that long.
const EVENT_BYTES_MAX: usize = 4 << 20;

impl Client {
    /// Everything after the event `from`; from now on if there is none.
    pub fn events(&self, from: Option<String>) -> Events {
        Events { client: self.clone(), from, body: None, parser: Parser::default() }
    }
}

impl Events {
    /// The next event. An error is final: the position is too old (`gone`), or no node was found.
    pub async fn next(&mut self) -> Result<Event, ClientError> {
        loop {
            if let Some(event) = self.parser.next() {
                self.from = Some(event.id.clone()).filter(|id| !id.is_empty()).or(self.from.take());
                // Without data it only says where the stream stands.
                if event.data.is_empty() {
                    continue;
                }
                return Ok(event);
            }
            if self.body.is_none() {
                self.body = Some(self.open().await?);
                self.parser = Parser::default();
            }
            if !self.read_more().await {
                self.body = None;
            }
        }
    }

    /// False: the connection is of no more use.
    async fn read_more(&mut self) -> bool {
        let Some(body) = &mut self.body else { return false };
        match tokio::time::timeout(SILENCE_MAX, body.frame()).await {
            Ok(Some(Ok(frame))) => {
                if let Ok(data) = frame.into_data() {
                    self.parser.bytes.extend_from_slice(&data);
                }
                self.parser.bytes.len() <= EVENT_BYTES_MAX
            }
            Ok(None | Some(Err(_))) | Err(_) => false,
        }
    }

    async fn open(&self) -> Result<Incoming, ClientError> {
        let query: Vec<_> = self.from.iter().map(|from| ("from", from.clone())).collect();
        let call = Call::read(path_with_query("/v1/events", &query), Instant::now() + PATIENCE);
        Ok(self.client.open(call).await?.into_body())
    }
}

/// Events from a stream of bytes, cut anywhere.
#[derive(Default)]
struct Parser {
    bytes: BytesMut,
    event: Event,
}

impl Parser {
    fn next(&mut self) -> Option<Event> {
        while let Some(end) = self.bytes.iter().position(|byte| *byte == b'\n') {
            let line = String::from_utf8_lossy(&self.bytes[..end]).trim_end_matches('\r').to_owned();
            self.bytes.advance(end + 1);
            if !line.is_empty() {
                self.take(&line);
            } else if self.event != Event::default() {
                return Some(std::mem::take(&mut self.event));
            }
        }
        None
    }

    fn take(&mut self, line: &str) {
        let (name, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match name {
            "id" => self.event.id = value.to_owned(),
            "event" => self.event.kind = value.to_owned(),
            "data" if self.event.data.is_empty() => self.event.data = value.to_owned(),
            "data" => self.event.data = format!("{}\n{value}", self.event.data),
            // Comments keep the connection alive; `retry` is ours to choose.
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_read_from_pieces() {
        let text = ": hello\r\n\r\nid: 17.0\r\nevent: posted\r\ndata: {\"job\":1}\r\n\r\nid:17.1\nevent:finished\ndata:a\ndata:b\n\n";
        let mut parser = Parser::default();
        let mut events = Vec::new();
        for piece in text.as_bytes().chunks(7) {
            parser.bytes.extend_from_slice(piece);
            events.extend(std::iter::from_fn(|| parser.next()));
        }
        let event = |id: &str, kind: &str, data: &str| Event { id: id.into(), kind: kind.into(), data: data.into() };
        assert_eq!(events, [event("17.0", "posted", "{\"job\":1}"), event("17.1", "finished", "a\nb")]);
    }
}
