//! What every request passes: who may ask, what is said of every answer, and that a panic is an answer too.
//!
//! The calls that a queue lives on go from here straight to their handlers, if they did not come past this door ([`super::hot`]);
//! the router, which copies its routes and boxes its futures for each request, has the rest.

use std::{convert::Infallible, net::IpAddr, panic::AssertUnwindSafe, sync::Arc};

use axum::{
    Router,
    body::Body,
    extract::{MatchedPath, Request},
    http::{
        HeaderMap, HeaderName, HeaderValue, Method, Uri,
        header::{self, Entry},
    },
    middleware::Next,
    response::{IntoResponse, Response},
};
use futures::{
    FutureExt, TryFutureExt,
    future::{Either, ready},
};
use hyper::{body::Incoming, service::Service};
use hyper_util::service::TowerToHyperService;
use tokio::time::Instant;

use super::{
    Front,
    call::Call,
    context,
    failure::Failure,
    hot::{HOT, Hot},
    reply::MadeAt,
};

/// Requests to no known route, in the metrics: their paths are the client's to choose, and must not become labels.
const NO_ROUTE: &str = "none";
static INDEX: HeaderName = HeaderName::from_static(context::INDEX);

/// What answers a connection's requests.
#[derive(Clone)]
pub struct Door {
    pub front: Arc<Front>,
    pub router: TowerToHyperService<Router>,
}

impl Door {
    /// Put together of futures, not as `async fn`: that has room for what it is given twice, in each of ten thousand requests
    /// that wait.
    pub fn answer(
        self,
        request: hyper::Request<Incoming>,
    ) -> impl Future<Output = Result<Response, Infallible>> + Send {
        let (began, front, request) = (Instant::now(), Arc::clone(&self.front), request.map(Body::new));
        let hot = hot(&request);
        let answer = match check_origin(&front, request.uri(), request.headers()) {
            Err(failure) => Either::Left(ready((failure.into_response(), None))),
            Ok(()) => Either::Right(self.dispatch(hot, request)),
        };
        answer.map(move |(mut response, made_at)| {
            stamp(&front, &mut response, made_at);
            let cold = response.extensions_mut().remove::<MatchedPath>();
            let route = hot.map(|(path, _)| path).or(cold.as_ref().map(MatchedPath::as_str)).unwrap_or(NO_ROUTE);
            front.metrics.answered(route, response.status().as_u16(), began.elapsed());
            Ok(response)
        })
    }

    /// The response, and the index that it was made at.
    fn dispatch(
        self,
        hot: Option<(&'static str, Hot)>,
        request: Request,
    ) -> impl Future<Output = (Response, Option<u64>)> + Send {
        let Some((path, hot)) = hot else {
            return Either::Left(self.router.call(request).map(|answered| {
                let response = answered.into_response();
                let made_at = response.extensions().get::<MadeAt>().map(|made| made.0);
                (response, made_at)
            }));
        };
        let answer = Call::read(request, self.front).and_then(move |call| hot.answer(call));
        Either::Right(caught(path, answer).map(|answered| match answered {
            Ok(reply) => reply.into_parts(),
            Err(failure) => (failure.into_response(), None),
        }))
    }
}

fn hot(request: &Request) -> Option<(&'static str, Hot)> {
    let path = request.uri().path();
    let known = (request.method() == Method::POST).then_some(HOT)?;
    known.into_iter().find(|(hot, _)| *hot == path)
}

/// For what the router found: tells the door which route it was, for the metrics.
pub async fn note_route(request: Request, next: Next) -> Response {
    let route = request.extensions().get::<MatchedPath>().cloned();
    let path = route.as_ref().map_or(NO_ROUTE, MatchedPath::as_str);
    let mut response = caught(path, next.run(request).map(Ok)).await.into_response();
    if let Some(route) = route {
        response.extensions_mut().insert(route);
    }
    response
}

/// A handler that panics has answered 500; the panic hook has logged where and why.
pub fn caught<T>(
    route: &str,
    answer: impl Future<Output = Result<T, Failure>>,
) -> impl Future<Output = Result<T, Failure>> {
    AssertUnwindSafe(answer).catch_unwind().map(move |answered| {
        answered.unwrap_or_else(|_| {
            tracing::error!(route, "a handler panicked");
            Err(Failure::internal())
        })
    })
}

/// `raftq-index`: where the answer was made, or for errors how far this node has come.
fn stamp(front: &Front, response: &mut Response, made_at: Option<u64>) {
    // An answer that was fetched from the leader has one.
    let Entry::Vacant(place) = response.headers_mut().entry(&INDEX) else { return };
    let index = made_at.unwrap_or_else(|| front.applied());
    if let Ok(value) = HeaderValue::try_from(format!("{}.{index}", front.cluster())) {
        place.insert(value);
    }
}

/// Keeps web pages from making a browser submit commands: `Host` must be an address or a known name (a page could have its
/// own name resolve to us), and an `Origin` must be ourselves.
fn check_origin(front: &Front, uri: &Uri, headers: &HeaderMap) -> Result<(), Failure> {
    let mut hosts = headers.get_all(header::HOST).iter();
    // HTTP/2 puts it into the request line.
    let asked = || uri.authority().map(axum::http::uri::Authority::as_str);
    let host = match (hosts.next(), hosts.next()) {
        (Some(host), None) => Some(host.to_str().unwrap_or_default()),
        (None, _) => asked(),
        (Some(_), Some(_)) => None,
    };
    // Whatever stands before us might have looked at the other one (RFC 9112, 3.2).
    let Some(host) = host else { return Err(Failure::invalid("host", "send one Host header, no more and no fewer")) };
    let all_known = asked().is_none_or(|asked| is_known_host(asked, &front.names));
    if !all_known || !is_known_host(host, &front.names) {
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

pub fn is_known_host(host: &str, names: &[String]) -> bool {
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

    /// The bytes of what a call gives, without a call.
    fn bytes_of_given<A, B, R>(_: impl Fn(A, B) -> R) -> usize {
        size_of::<R>()
    }

    #[test]
    fn request_that_waits_is_small() {
        let bytes = bytes_of_given(Door::answer);
        assert!(bytes <= 4 << 10, "{bytes} bytes, in each of ten thousand that wait");
    }

    #[tokio::test]
    async fn panic_of_a_handler_is_an_answer() {
        let answer = caught::<Response>("/v1/jobs", async { panic!("as a handler might") }).await;
        assert_eq!(answer.into_response().status().as_u16(), 500);
    }

    #[test]
    fn hot_calls_are_posts_to_their_very_paths() {
        let is_hot = |method: Method, path: &str| {
            let request = Request::builder().method(method).uri(path).body(Body::empty()).unwrap();
            hot(&request).is_some()
        };
        for (path, _) in HOT {
            assert!(is_hot(Method::POST, path) && is_hot(Method::POST, &format!("{path}?a=b")), "{path}");
            assert!(!is_hot(Method::GET, path) && !is_hot(Method::POST, &format!("{path}/")), "{path}");
        }
    }
}
