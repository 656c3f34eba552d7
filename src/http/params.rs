//! Path and query parameters, refused in our own words.

use axum::{
    extract::{FromRequestParts, Path, Query, Request},
    http::request::Parts,
    middleware::Next,
    response::{IntoResponse, Response},
};
use serde::de::DeserializeOwned;

use super::failure::Failure;
use crate::queue::{ids::JobId, refusal::Refusal};

/// `{id}` in a path.
pub struct JobPath(pub JobId);

/// A member's `{id}` in a path.
pub struct NumberPath(pub u64);

/// `{name}` in a path, percent-decoded.
pub struct NamePath(pub String);

/// The query string, strictly: unknown names are refused.
pub struct Params<T>(pub T);

impl<S: Send + Sync> FromRequestParts<S> for JobPath {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Failure> {
        NumberPath::from_request_parts(parts, state).await.map(|NumberPath(id)| Self(JobId(id)))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for NumberPath {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Failure> {
        let NamePath(text) = NamePath::from_request_parts(parts, state).await?;
        text.parse().map(Self).map_err(|_| Failure::invalid("id", "an id is a whole number"))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for NamePath {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Failure> {
        let path = Path::<String>::from_request_parts(parts, state).await;
        path.map(|Path(text)| Self(text)).map_err(|_| Failure::invalid("path", "the path is not percent-encoded UTF-8"))
    }
}

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Params<T> {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Failure> {
        match Query::<T>::try_from_uri(&parts.uri) {
            Ok(Query(params)) => Ok(Self(params)),
            Err(rejection) => Err(Failure::Refused(explain(&rejection.body_text()))),
        }
    }
}

/// For routes that take no parameters: one that is passed over in silence (`cancel?kill=true`) was meant.
pub fn refuse_any(path_and_query: &str) -> Result<(), Failure> {
    let Some((_, query)) = path_and_query.split_once('?').filter(|(_, query)| !query.is_empty()) else { return Ok(()) };
    let name = query.split(['=', '&']).next().unwrap_or_default();
    Err(Failure::invalid(name, NOT_HERE))
}

/// The same, before the route is taken.
pub async fn none(request: Request, next: Next) -> Response {
    let path = request.uri().path_and_query().map_or("", |path| path.as_str());
    match refuse_any(path) {
        Ok(()) => next.run(request).await,
        Err(failure) => failure.into_response(),
    }
}

const NOT_HERE: &str = "there is no such parameter here";

/// axum says `Failed to deserialize query string: NAME: what is wrong`, or names an unknown field in backquotes.
fn explain(text: &str) -> Refusal {
    let text = text.strip_prefix("Failed to deserialize query string: ").unwrap_or(text);
    if let Some(name) = quoted_after(text, "unknown field `") {
        return Refusal::invalid(name, NOT_HERE);
    }
    if let Some(name) = quoted_after(text, "missing field `") {
        return Refusal::invalid(name, "this parameter is needed");
    }
    if let Some(name) = quoted_after(text, "duplicate field `") {
        return Refusal::invalid(name, "say this parameter once");
    }
    match text.split_once(": ") {
        Some((name, message)) => Refusal::invalid(name, meant(message)),
        None => Refusal::invalid("query", text),
    }
}

/// The words of number and bool parsers, as what to do.
fn meant(message: &str) -> &str {
    match message {
        "invalid digit found in string" | "cannot parse integer from empty string" => "give a whole number",
        "number too large to fit in target type" => "the number is too large",
        "provided string was not `true` or `false`" => "give true or false",
        other => other,
    }
}

fn quoted_after<'t>(text: &'t str, prefix: &str) -> Option<&'t str> {
    let (_, rest) = text.split_once(prefix)?;
    rest.split('`').next()
}
