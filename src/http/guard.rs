//! What every request passes: who may ask, what is said of every answer, and that a panic is an answer too.

use std::{net::IpAddr, sync::Arc};

use axum::{
    extract::{MatchedPath, Request, State},
    http::{HeaderMap, HeaderValue, Uri, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use futures::FutureExt;
use tokio::time::Instant;

use super::{Front, context, failure::Failure, reply::MadeAt};

/// Requests to no known route, in the metrics: their paths are the client's to choose, and must not become labels.
const NO_ROUTE: &str = "none";

pub async fn guard(State(front): State<Arc<Front>>, request: Request, next: Next) -> Response {
    let began = Instant::now();
    let route = request.extensions().get::<MatchedPath>().map(MatchedPath::as_str).unwrap_or(NO_ROUTE).to_owned();
    let mut response = match check_origin(&front, request.uri(), request.headers()) {
        Err(failure) => failure.into_response(),
        Ok(()) => answer(request, next).await,
    };
    stamp(&front, &mut response);
    front.metrics.answered(&route, response.status().as_u16(), began.elapsed());
    response
}

async fn answer(request: Request, next: Next) -> Response {
    let path = request.uri().path().to_owned();
    match std::panic::AssertUnwindSafe(next.run(request)).catch_unwind().await {
        Ok(response) => response,
        Err(_) => {
            // The panic hook has logged where and why.
            tracing::error!(path, "a handler panicked");
            Failure::internal().into_response()
        }
    }
}

/// `raftq-index`: where the answer was made, or for errors how far this node has come.
fn stamp(front: &Front, response: &mut Response) {
    if response.headers().contains_key(context::INDEX) {
        return;
    }
    let index = response.extensions().get::<MadeAt>().map_or_else(|| front.applied(), |made| made.0);
    if let Ok(value) = HeaderValue::from_str(&format!("{}.{index}", front.cluster())) {
        response.headers_mut().insert(context::INDEX, value);
    }
}

/// Keeps web pages from making a browser submit commands: `Host` must be an address or a known name (a page could have its
/// own name resolve to us), and an `Origin` must be ourselves.
fn check_origin(front: &Front, uri: &Uri, headers: &HeaderMap) -> Result<(), Failure> {
    let host = match headers.get(header::HOST) {
        Some(host) => host.to_str().unwrap_or_default(),
        // HTTP/2 puts it into the request line.
        None => uri.authority().map(axum::http::uri::Authority::as_str).unwrap_or_default(),
    };
    if !is_known_host(host, &front.names) {
        let message = "this Host is none of ours; ask by address, as localhost, or by a configured name";
        return Err(Failure::new("forbidden", message));
    }
    match headers.get(header::ORIGIN).map(|origin| origin.to_str().unwrap_or_default()) {
        None => Ok(()),
        Some(origin)
            if origin.strip_prefix("http://") == Some(host) || origin.strip_prefix("https://") == Some(host) =>
        {
            Ok(())
        }
        Some(_) => Err(Failure::new("forbidden", "pages of other origins may not ask this API")),
    }
}

fn is_known_host(host: &str, names: &[String]) -> bool {
    let name = without_port(host);
    let address = name.trim_start_matches('[').trim_end_matches(']');
    address.parse::<IpAddr>().is_ok()
        || name.eq_ignore_ascii_case("localhost")
        || names.iter().any(|known| known.eq_ignore_ascii_case(name))
}

fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) && !name.is_empty() => match name {
            // An IPv6 address without brackets has colons of its own.
            name if name.contains(':') && !name.ends_with(']') => host,
            name => name,
        },
        _ => host,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_addresses_localhost_or_configured() {
        let names = ["queue.example".to_owned()];
        for host in ["127.0.0.1:7401", "127.0.0.1", "[::1]:7401", "[::1]", "::1", "LOCALHOST:1", "queue.example:80"] {
            assert!(is_known_host(host, &names), "{host}");
        }
        for host in ["", "evil.example", "evil.example:7401", "127.0.0.1.evil.example", "localhost.evil.example"] {
            assert!(!is_known_host(host, &names), "{host}");
        }
    }
}
