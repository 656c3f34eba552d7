//! Path and query parameters, refused in our own words.

use axum::{
    extract::{FromRequestParts, Path, Query},
    http::request::Parts,
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

/// axum says `Failed to deserialize query string: NAME: what is wrong`, or names an unknown field in backquotes.
fn explain(text: &str) -> Refusal {
    let text = text.strip_prefix("Failed to deserialize query string: ").unwrap_or(text);
    if let Some(name) = quoted_after(text, "unknown field `") {
        return Refusal::invalid(name, "there is no such parameter here");
    }
    if let Some(name) = quoted_after(text, "missing field `") {
        return Refusal::invalid(name, "this parameter is needed");
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
