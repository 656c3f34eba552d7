//! GET /v1/events: what happens, as server-sent events.

use std::{sync::Arc, time::Duration};

use axum::{
    body::{Body, Bytes},
    http::{HeaderValue, header},
    response::{IntoResponse, Response},
};
use futures::stream;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::{
    api::{ErrorBody, StatusName, TakenView},
    http::{
        Front,
        call::Call,
        failure::Failure,
        hub::{About, Event, Position, TooOld},
        params::Params,
    },
    queue::ids::{JobId, WallMs},
};

/// Events written at once.
const PIECE: usize = 512;
/// More often than proxies and clients give up on silence.
const COMMENT_EVERY: Duration = Duration::from_secs(15);
const LAST_EVENT_ID: &str = "last-event-id";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EventParams {
    from: Option<String>,
}

#[derive(Serialize)]
struct EventDoc<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    job: Option<JobId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    was: Option<StatusName>,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<StatusName>,
    #[serde(skip_serializing_if = "Option::is_none")]
    schedule: Option<&'a str>,
    /// As the schedule shows its last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    slot: Option<TakenView>,
    at: WallMs,
}

struct Stream {
    front: Arc<Front>,
    position: Position,
    newest: watch::Receiver<Position>,
    /// What stands at its beginning: its position, so that a client which loses the connection before the first event misses
    /// none. Who brought a position knows it, and must not take it for another event.
    first: Option<Bytes>,
}

pub async fn events(Params(params): Params<EventParams>, call: Call) -> Result<Response, Failure> {
    let header = call.headers.get(LAST_EVENT_ID).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let from = header.or(params.from).map(|text| position(&text)).transpose()?;
    let newest = call.front.hub.events.newest();
    let position = from.unwrap_or_else(|| *newest.borrow());
    call.front.hub.events.after(position, 1).map_err(gone)?;
    let first = match from {
        Some(_) => Bytes::from_static(b": goes on\n\n"),
        None => format!("id: {}.{}\n\n", position.0, position.1).into(),
    };
    let stream = Stream { front: call.front, position, newest, first: Some(first) };
    let body = Body::from_stream(stream::unfold(stream, |mut stream| async {
        let piece = stream.next().await?;
        Some((Ok::<_, std::convert::Infallible>(piece), stream))
    }));
    let mut response = body.into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

fn gone(TooOld { oldest: (index, number) }: TooOld) -> Failure {
    let message = "events after this one are no longer kept here; read the jobs, and go on without a position, or from \
                   the oldest that is kept";
    Failure::Error(ErrorBody::new("gone", message).with("oldest", format!("{index}.{number}")))
}

/// `index.n`, or `index` for behind the whole entry.
fn position(text: &str) -> Result<Position, Failure> {
    let parsed = match text.split_once('.') {
        Some((index, number)) => index.parse().ok().zip(number.parse().ok()),
        None => text.parse().ok().map(|index| (index, u32::MAX)),
    };
    parsed.ok_or_else(|| Failure::invalid("from", "give the id of an event: INDEX.N"))
}

impl Stream {
    /// The next bytes; `None` ends the stream, and the client asks again with the last id.
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if let Some(first) = self.first.take() {
                return Some(first);
            }
            let events = self.front.hub.events.after(self.position, PIECE).ok()?;
            if let Some(last) = events.last() {
                self.position = last.at;
                return Some(write(&events));
            }
            if self.front.hub.has_ended() {
                return None;
            }
            match tokio::time::timeout(COMMENT_EVERY, self.newest.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return None,
                Err(_) => return Some(Bytes::from_static(b": still here\n\n")),
            }
        }
    }
}

impl<'a> EventDoc<'a> {
    fn of(event: &'a Event) -> Self {
        let empty = Self { job: None, was: None, status: None, schedule: None, slot: None, at: event.time };
        match &event.about {
            About::Job { id, was, status } => {
                Self { job: Some(*id), was: was.map(StatusName), status: status.map(StatusName), ..empty }
            }
            About::Schedule { name, taken } => {
                Self { schedule: Some(name), slot: taken.as_deref().map(TakenView::from), ..empty }
            }
        }
    }
}

fn write(events: &[Event]) -> Bytes {
    let mut text = String::new();
    for event in events {
        let data = serde_json::to_string(&EventDoc::of(event)).expect("plain JSON");
        text.push_str(&format!("id: {}.{}\nevent: {}\ndata: {data}\n\n", event.at.0, event.at.1, event.kind));
    }
    text.into()
}
