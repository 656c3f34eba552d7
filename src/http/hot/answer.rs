//! Answers as bytes.

use std::{
    cell::Cell,
    io::Write,
    time::{Duration, UNIX_EPOCH},
};

use axum::{
    http::StatusCode,
    response::{IntoResponse, Response},
};
use futures::FutureExt;
use http_body_util::BodyExt;
use tokio::time::Instant;

use crate::{
    clock::Clock,
    http::{Front, context, failure::Failure, reply::Reply},
};

/// A date is written anew after so long.
const DATE_AGE_MAX: Duration = Duration::from_millis(500);
const DATE_BYTES: usize = "Sun, 22 Nov 2026 18:34:26 GMT".len();

thread_local! {
    static DATE: Cell<Option<(Instant, [u8; DATE_BYTES])>> = const { Cell::new(None) };
}

/// Appends the answer and gives its status. `ends`: it is the connection's last.
pub fn put(out: &mut Vec<u8>, answer: Result<Reply, Failure>, front: &Front, ends: bool, now: Instant) -> StatusCode {
    match answer {
        Ok(reply) => {
            let status = reply.status;
            put_head(out, status, ends, now);
            out.extend_from_slice(b"content-type: application/json\r\n");
            put_index(out, front, reply.index);
            put_body(out, &reply.body);
            status
        }
        Err(failure) => put_response(out, failure.into_response(), front, ends, now),
    }
}

fn put_response(out: &mut Vec<u8>, response: Response, front: &Front, ends: bool, now: Instant) -> StatusCode {
    let (head, body) = response.into_parts();
    put_head(out, head.status, ends, now);
    for (name, value) in &head.headers {
        for piece in [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"] {
            out.extend_from_slice(piece);
        }
    }
    put_index(out, front, None);
    // Failures of our own are whole; another node's answers are passed on by hyper.
    let body = body.collect().now_or_never().and_then(Result::ok).unwrap_or_default();
    put_body(out, &body.to_bytes());
    head.status
}

fn put_head(out: &mut Vec<u8>, status: StatusCode, ends: bool, now: Instant) {
    for piece in ["HTTP/1.1 ", status.as_str(), " ", status.canonical_reason().unwrap_or_default(), "\r\ndate: "] {
        out.extend_from_slice(piece.as_bytes());
    }
    out.extend_from_slice(&date(now));
    out.extend_from_slice(if ends { b"\r\nconnection: close\r\n" } else { b"\r\n" });
}

/// Where the answer was made, or how far this node has come.
fn put_index(out: &mut Vec<u8>, front: &Front, made_at: Option<u64>) {
    let index = made_at.unwrap_or_else(|| front.applied());
    write!(out, "{}: {}.{index}\r\n", context::INDEX, front.cluster()).expect("written to memory");
}

fn put_body(out: &mut Vec<u8>, body: &[u8]) {
    write!(out, "content-length: {}\r\n\r\n", body.len()).expect("written to memory");
    out.extend_from_slice(body);
}

fn date(now: Instant) -> [u8; DATE_BYTES] {
    DATE.with(|known| match known.get() {
        Some((at, date)) if now.saturating_duration_since(at) < DATE_AGE_MAX => date,
        Some(_) | None => {
            let wall = UNIX_EPOCH + Duration::from_millis(Clock::system().wall_ms());
            let mut date = [0; DATE_BYTES];
            date.copy_from_slice(httpdate::fmt_http_date(wall).as_bytes());
            known.set(Some((now, date)));
            date
        }
    })
}
