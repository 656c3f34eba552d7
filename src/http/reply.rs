//! A JSON answer and the index it was made at.

use axum::{
    body::Body,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;

/// What a handler answers. Encoded once, into one buffer.
#[derive(Debug)]
pub struct Reply {
    pub(super) status: StatusCode,
    /// Where it was made.
    pub(super) index: Option<u64>,
    pub(super) body: Vec<u8>,
}

/// The index that an answer of the router's was made at; the guard writes it into `raftq-index`.
#[derive(Clone, Copy, Debug)]
pub struct MadeAt(pub u64);

/// Room for a small answer without growing.
const BODY_BYTES: usize = 256;

impl Reply {
    pub fn json<T: Serialize + ?Sized>(value: &T) -> Self {
        let mut body = Vec::with_capacity(BODY_BYTES);
        serde_json::to_writer(&mut body, value).expect("our own types have string keys and write to memory");
        Self { status: StatusCode::OK, index: None, body }
    }

    pub fn at(mut self, index: u64) -> Self {
        self.index = Some(index);
        self
    }

    pub fn status_number(self, status: u16) -> Self {
        self.status(StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR))
    }

    pub fn status(mut self, status: StatusCode) -> Self {
        self.status = status;
        self
    }

    /// The response, and the index that it was made at.
    pub fn into_parts(self) -> (Response, Option<u64>) {
        let mut response = Response::new(Body::from(self.body));
        *response.status_mut() = self.status;
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        (response, self.index)
    }
}

impl IntoResponse for Reply {
    fn into_response(self) -> Response {
        let (mut response, index) = self.into_parts();
        if let Some(index) = index {
            response.extensions_mut().insert(MadeAt(index));
        }
        response
    }
}
