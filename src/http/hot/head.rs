//! Which bytes are a plain request to a hot path.

use std::mem::MaybeUninit;

use axum::http::Method;

use super::{HOT, Hot, SHOWN};
use crate::{
    http::{
        call::{DECODED_AT_ONCE_BYTES_MAX, is_json},
        context::Said,
        guard::is_known_host,
    },
    queue::ids::JobId,
};

/// Requests with more headers are hyper's.
const HEADERS_MAX: usize = 32;
/// And those with longer heads.
const HEAD_BYTES_MAX: usize = 16 << 10;
const WRITES: &[u8] = b"POST /v1/";
const READS: &[u8] = b"GET /v1/jobs/";
/// No id has more.
const ID_DIGITS_MAX: usize = 16;

/// What the bytes of a connection begin with.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "it lives for as long as it takes to look at it")]
pub enum Seen<'b> {
    /// It may become a plain request.
    Part,
    Plain(Plain<'b>),
    /// Not for here.
    Unusual,
}

/// A request about which there is nothing to be said but what it says.
#[derive(Debug)]
pub struct Plain<'b> {
    pub method: Method,
    pub path: &'b str,
    /// The path as metrics know it.
    pub route: &'static str,
    pub hot: Hot,
    pub said: Said<'b>,
    pub body: &'b [u8],
    /// Bytes of head and body.
    pub length: usize,
}

/// Whether a connection that begins with these may be for here.
pub fn may_be_plain(bytes: &[u8]) -> bool {
    let begins = |with: &[u8]| {
        let common = bytes.len().min(with.len());
        bytes[..common] == with[..common]
    };
    // What waits for a job should not come here first: each would keep what it takes to be handed over.
    let behind_id = bytes.get(READS.len()..).and_then(|path| path.iter().find(|byte| !byte.is_ascii_digit()));
    begins(WRITES) || (begins(READS) && behind_id.is_none_or(|byte| *byte == b' '))
}

pub fn see<'b>(bytes: &'b [u8], names: &[String]) -> Seen<'b> {
    if !may_be_plain(bytes) {
        return Seen::Unusual;
    }
    let mut headers = [const { MaybeUninit::uninit() }; HEADERS_MAX];
    let mut request = httparse::Request::new(&mut []);
    let length = match request.parse_with_uninit_headers(bytes, &mut headers) {
        Ok(httparse::Status::Complete(length)) if length <= HEAD_BYTES_MAX => length,
        Ok(httparse::Status::Partial) if bytes.len() <= HEAD_BYTES_MAX => return Seen::Part,
        Ok(_) | Err(_) => return Seen::Unusual,
    };
    let (Some(method), Some(path), Some(1)) = (request.method, request.path, request.version) else {
        return Seen::Unusual;
    };
    let Some((method, route, hot)) = asked(method, path) else { return Seen::Unusual };
    let Some(fields) = Fields::read(request.headers) else { return Seen::Unusual };
    let Some(body_length) = fields.body_length(hot) else { return Seen::Unusual };
    if !is_known_host(fields.host, names) || !fields.said.stays_here() {
        return Seen::Unusual;
    }
    match bytes.get(length..length + body_length) {
        Some(body) => {
            Seen::Plain(Plain { method, path, route, hot, said: fields.said, body, length: length + body_length })
        }
        None => Seen::Part,
    }
}

fn asked(method: &str, path: &str) -> Option<(Method, &'static str, Hot)> {
    match method {
        "POST" => HOT.into_iter().find(|(hot, _)| *hot == path).map(|(route, hot)| (Method::POST, route, hot)),
        "GET" => {
            let (route, beginning) = SHOWN;
            let id = path.strip_prefix(beginning)?;
            let is_number = id.len() <= ID_DIGITS_MAX && id.bytes().all(|byte| byte.is_ascii_digit());
            let id = id.parse().ok().filter(|_| is_number)?;
            Some((Method::GET, route, Hot::Show(JobId(id))))
        }
        _ => None,
    }
}

/// What the headers say.
struct Fields<'b> {
    host: &'b str,
    length: Option<&'b str>,
    media: Option<&'b str>,
    said: Said<'b>,
}

/// Longer than any name that means something here.
const NAME_BYTES_MAX: usize = 20;

impl<'b> Fields<'b> {
    /// `None`: something about them is unusual, be it wrong or not.
    fn read(headers: &[httparse::Header<'b>]) -> Option<Self> {
        let (mut host, mut length, mut media, mut said) = (None, None, None, Said::default());
        for header in headers {
            let mut lower = [0; NAME_BYTES_MAX];
            let Some(lower) = lower.get_mut(..header.name.len()) else { continue };
            lower.copy_from_slice(header.name.as_bytes());
            lower.make_ascii_lowercase();
            let place = match &*lower {
                b"host" => &mut host,
                b"content-length" => &mut length,
                b"content-type" => &mut media,
                b"connection" if header.value.eq_ignore_ascii_case(b"keep-alive") => continue,
                b"connection" | b"content-encoding" | b"expect" | b"origin" | b"te" | b"trailer"
                | b"transfer-encoding" | b"upgrade" => return None,
                name => {
                    said.note(std::str::from_utf8(name).ok()?, header.value).ok()?;
                    continue;
                }
            };
            if place.replace(std::str::from_utf8(header.value).ok()?).is_some() {
                return None;
            }
        }
        Some(Self { host: host?, length, media, said })
    }

    /// Of a body that is there where one belongs, and short enough to be decoded at once.
    fn body_length(&self, hot: Hot) -> Option<usize> {
        if hot.is_read() {
            return self.length.is_none().then_some(0);
        }
        let text = self.length.filter(|_| self.media.is_some_and(is_json))?;
        let digits = text.bytes().all(|byte| byte.is_ascii_digit());
        let length = text.parse().ok().filter(|_| digits)?;
        (1..=DECODED_AT_ONCE_BYTES_MAX).contains(&length).then_some(length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAMES: [String; 0] = [];
    const PLAIN: &str = "POST /v1/jobs HTTP/1.1\r\nHost: localhost:7401\r\nContent-Type: application/json; charset=utf-8\r\n\
                         Idempotency-Key: a/1\r\nX-Else: 1\r\nConnection: Keep-Alive\r\nContent-Length: 2\r\n\r\n{}";

    fn is_unusual(request: &str) -> bool {
        matches!(see(request.as_bytes(), &NAMES), Seen::Unusual)
    }

    #[test]
    fn plain_request_is_seen_once_its_last_byte_is_there() {
        for end in 0..PLAIN.len() {
            let seen = see(&PLAIN.as_bytes()[..end], &NAMES);
            assert!(matches!(seen, Seen::Part), "{end}: {seen:?}");
        }
        let twice = PLAIN.repeat(2);
        let Seen::Plain(plain) = see(twice.as_bytes(), &NAMES) else { panic!("it is plain") };
        assert_eq!(
            (plain.path, plain.hot, plain.body, plain.length),
            ("/v1/jobs", Hot::Submit, &b"{}"[..], PLAIN.len())
        );
    }

    #[test]
    fn whatever_hyper_the_guard_or_a_follower_would_see_to_is_unusual() {
        assert!(!is_unusual(PLAIN));
        for (from, to) in [
            ("POST", "PUT"),
            ("POST /v1/jobs", "POST /v1/jobs/7"),
            ("POST /v1/jobs", "GET /v1/jobs/7"),
            ("/v1/jobs", "/v1/jobs?atomic=true"),
            ("/v1/jobs", "/v1/jobs/"),
            ("/v1/jobs", "http://localhost/v1/jobs"),
            ("HTTP/1.1", "HTTP/1.0"),
            ("localhost", "evil.example"),
            ("Host: localhost:7401\r\n", ""),
            ("Host: ", "Host: localhost\r\nHost: "),
            ("application/json", "text/plain"),
            ("Content-Type: ", "Content-Type: text/plain\r\nContent-Type: "),
            ("Content-Length: 2", "Content-Length: 0"),
            ("Content-Length: 2", "Content-Length: +2"),
            ("Content-Length: 2", "Content-Length: 2\r\nContent-Length: 2"),
            ("Content-Length: 2", "Content-Length: 131073"),
            ("Content-Length: 2\r\n", ""),
            ("Content-Length: 2", "Transfer-Encoding: chunked\r\nContent-Length: 2"),
            ("Keep-Alive", "close"),
            ("X-Else: 1", "Expect: 100-continue"),
            ("X-Else: 1", "Origin: http://localhost:7401"),
            ("X-Else: 1", "Content-Encoding: gzip"),
            ("X-Else: 1", "Upgrade: h2c"),
            ("X-Else: 1", "raftq-forward: 1"),
            ("X-Else: 1", "raftq-forwarded: 2"),
            ("X-Else: 1", "idempotency-key: b"),
            ("X-Else: 1", "what is this"),
        ] {
            let request = PLAIN.replacen(from, to, 1);
            assert_ne!(request, PLAIN);
            assert!(is_unusual(&request), "{request}");
        }
        for path in [
            "/v1/jobs",
            "/v1/jobs/",
            "/v1/jobs/7?fields=id",
            "/v1/jobs/+7",
            "/v1/jobs/7/log",
            "/v1/jobs/12345678901234567",
        ] {
            assert!(is_unusual(&format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n")), "{path}");
        }
        let many = "x: 1\r\n".repeat(HEADERS_MAX);
        assert!(is_unusual(&PLAIN.replacen("X-Else: 1\r\n", &many, 1)));
        let long = "x".repeat(HEAD_BYTES_MAX);
        assert!(is_unusual(&PLAIN.replacen("X-Else: 1", &format!("X-Else: {long}"), 1)));
        assert!(is_unusual(&PLAIN[..PLAIN.len() - 4].replacen("X-Else: 1", &format!("X-Else: {long}"), 1)));
    }
}
