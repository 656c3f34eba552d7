//! What a request says besides its path and body: deadline, index token, idempotency key, consistency, forwarding (design 3).

use std::{
    sync::{Arc, LazyLock},
    time::Duration,
};

use axum::http::{HeaderMap, Method, Uri};
use tokio::time::Instant;
use xxhash_rust::xxh3::Xxh3;

use super::failure::Failure;
use crate::{
    queue::{command::Key, refusal::Refusal},
    raft::Consistency,
};

pub const TIMEOUT: &str = "raftq-timeout-ms";
pub const MIN_INDEX: &str = "raftq-min-index";
pub const INDEX: &str = "raftq-index";
pub const CONSISTENCY: &str = "raftq-consistency";
pub const KEY: &str = "idempotency-key";
pub const FORWARD: &str = "raftq-forward";
/// Set by the node that forwards, so that no request goes round in circles.
pub const FORWARDED: &str = "raftq-forwarded";
/// Who asks, by the asker's own word.
pub const USER: &str = "raftq-user";

const TIMEOUT_MS_DEFAULT: u64 = 10_000;
/// Longer than any election: whoever waits longer should ask again.
const TIMEOUT_MS_MAX: u64 = 120_000;
/// As any other name (design 3, limits).
const NAME_BYTES_MAX: usize = 200;
static ANONYMOUS: LazyLock<Arc<str>> = LazyLock::new(|| "anonymous".into());

/// A position in the log of one cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IndexToken {
    pub cluster: String,
    pub index: u64,
}

#[derive(Clone, Debug)]
pub struct Context {
    pub deadline: Instant,
    /// The same as a span: for each step of a call that waits in between.
    pub timeout: Duration,
    pub consistency: Consistency,
    pub min_index: Option<IndexToken>,
    /// What to do with a write that only the leader can take.
    pub away: Away,
    pub principal: Arc<str>,
    /// As the request names it, with its query.
    pub path: Box<str>,
    key: Option<(Arc<str>, u64)>,
    method: Method,
}

/// What a follower does with a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Away {
    Redirect,
    Forward,
    /// Another node forwarded it here: the leader has changed once more, so the client must ask again.
    Refuse,
}

impl Context {
    pub fn read(method: &Method, uri: &Uri, headers: &HeaderMap) -> Result<Self, Failure> {
        let said = Said::read(headers)?;
        Self::of(method, uri.path_and_query().map_or("/", |path| path.as_str()), &said)
    }

    pub fn of(method: &Method, path: &str, said: &Said<'_>) -> Result<Self, Failure> {
        let timeout = match text(TIMEOUT, said.timeout)? {
            None => TIMEOUT_MS_DEFAULT,
            Some(text) => number(TIMEOUT, text)?.clamp(1, TIMEOUT_MS_MAX),
        };
        let timeout = Duration::from_millis(timeout);
        Ok(Self {
            deadline: Instant::now() + timeout,
            timeout,
            consistency: consistency(text(CONSISTENCY, said.consistency)?)?,
            min_index: text(MIN_INDEX, said.min_index)?.map(index_token).transpose()?,
            away: away(said)?,
            principal: principal(text(USER, said.user)?)?,
            key: text(KEY, said.key)?.map(key).transpose()?,
            method: method.clone(),
            path: path.into(),
        })
    }

    /// The idempotency key with a digest of all that the request asks for.
    pub fn key(&self, body: &[u8]) -> Option<Key> {
        let (name, number) = self.key.clone()?;
        let mut digest = Xxh3::new();
        digest.update(self.method.as_str().as_bytes());
        digest.update(b" ");
        digest.update(self.path.as_bytes());
        digest.update(b"\n");
        digest.update(body);
        Some(Key { name, number, digest: digest.digest128() })
    }

    pub fn method(&self) -> &Method {
        &self.method
    }
}

/// The headers that may stand in any request, as they came.
#[derive(Debug, Default)]
pub struct Said<'h> {
    timeout: Option<&'h [u8]>,
    consistency: Option<&'h [u8]>,
    min_index: Option<&'h [u8]>,
    forward: Option<&'h [u8]>,
    forwarded: Option<&'h [u8]>,
    user: Option<&'h [u8]>,
    key: Option<&'h [u8]>,
}

impl<'h> Said<'h> {
    /// Goes once through the few that are there: to look for each that might be takes three times as long.
    fn read(headers: &'h HeaderMap) -> Result<Self, Failure> {
        let mut said = Self::default();
        for (name, value) in headers {
            said.note(name.as_str(), value.as_bytes())?;
        }
        Ok(said)
    }

    /// `name` in small letters; others than these are passed over.
    pub fn note(&mut self, name: &str, value: &'h [u8]) -> Result<(), Failure> {
        let place = match name {
            TIMEOUT => &mut self.timeout,
            CONSISTENCY => &mut self.consistency,
            MIN_INDEX => &mut self.min_index,
            FORWARD => &mut self.forward,
            FORWARDED => &mut self.forwarded,
            USER => &mut self.user,
            KEY => &mut self.key,
            _ => return Ok(()),
        };
        match place.replace(value) {
            None => Ok(()),
            Some(_) => Err(invalid(name, "say this header once")),
        }
    }

    /// Whether nobody asks for this request to be passed on, nor has done so.
    pub fn stays_here(&self) -> bool {
        self.forward.is_none() && self.forwarded.is_none()
    }
}

fn text<'h>(name: &str, value: Option<&'h [u8]>) -> Result<Option<&'h str>, Failure> {
    let Some(value) = value else { return Ok(None) };
    let is_plain = value.iter().all(|byte| matches!(byte, b'\t' | b' '..=b'~'));
    let text = std::str::from_utf8(value).ok().filter(|_| is_plain);
    text.map(|text| Some(text.trim())).ok_or_else(|| invalid(name, "this header is plain text"))
}

fn number(name: &str, text: &str) -> Result<u64, Failure> {
    text.parse().map_err(|_| invalid(name, "this header is a whole number"))
}

fn consistency(text: Option<&str>) -> Result<Consistency, Failure> {
    match text {
        None | Some("linearizable") => Ok(Consistency::Linearizable),
        Some("local") => Ok(Consistency::Local),
        Some(_) => Err(invalid(CONSISTENCY, "this header is linearizable or local")),
    }
}

/// `CLUSTER.N`, as every answer says it.
fn index_token(text: &str) -> Result<IndexToken, Failure> {
    let token = text.rsplit_once('.').filter(|(cluster, _)| !cluster.is_empty());
    let token = token.and_then(|(cluster, index)| Some((cluster, index.parse().ok()?)));
    let (cluster, index) = token.ok_or_else(|| invalid(MIN_INDEX, "give the raftq-index of an answer: CLUSTER.N"))?;
    Ok(IndexToken { cluster: cluster.to_owned(), index })
}

fn away(said: &Said<'_>) -> Result<Away, Failure> {
    if said.forwarded.is_some() {
        return Ok(Away::Refuse);
    }
    match text(FORWARD, said.forward)? {
        None | Some("0") => Ok(Away::Redirect),
        Some("1") => Ok(Away::Forward),
        Some(_) => Err(invalid(FORWARD, "this header is 0 or 1")),
    }
}

fn principal(text: Option<&str>) -> Result<Arc<str>, Failure> {
    match text {
        None | Some("") => Ok(Arc::clone(&ANONYMOUS)),
        Some(name) if name.len() <= NAME_BYTES_MAX => Ok(name.into()),
        Some(_) => Err(invalid(USER, "a name has at most 200 bytes")),
    }
}

/// `NAME` or `NAME/N`; a plain name is number 0.
fn key(text: &str) -> Result<(Arc<str>, u64), Failure> {
    let (name, number) = match text.rsplit_once('/') {
        None => (text, 0),
        Some((name, number)) => match number.parse() {
            Ok(number) => (name, number),
            Err(_) => return Err(invalid(KEY, "a key is NAME or NAME/N with a whole number N")),
        },
    };
    if name.is_empty() || name.len() > NAME_BYTES_MAX {
        return Err(invalid(KEY, "the name of a key has 1 to 200 bytes"));
    }
    Ok((name.into(), number))
}

fn invalid(header: &str, message: &str) -> Failure {
    Failure::Refused(Refusal::invalid(header, message))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(headers: &[(&'static str, &'static str)]) -> Result<Context, Failure> {
        let headers = headers.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect();
        Context::read(&Method::POST, &Uri::from_static("/v1/jobs"), &headers)
    }

    #[test]
    fn headers_are_understood() {
        let context = read(&[(KEY, "me/7"), (MIN_INDEX, "c1.42"), (CONSISTENCY, "local"), (FORWARD, "1")]).unwrap();
        assert_eq!((context.consistency, context.away), (Consistency::Local, Away::Forward));
        assert_eq!(context.min_index, Some(IndexToken { cluster: "c1".to_owned(), index: 42 }));
        let key = context.key(b"{}").unwrap();
        assert_eq!((&*key.name, key.number), ("me", 7));
        assert_ne!(key.digest, context.key(b"{ }").unwrap().digest);
        assert_eq!(read(&[(KEY, "me")]).unwrap().key(b"").unwrap().number, 0);
        assert_eq!(read(&[(FORWARD, "1"), (FORWARDED, "2")]).unwrap().away, Away::Refuse);
    }

    #[test]
    fn bad_headers_are_refused_by_name() {
        for (name, value) in [
            (TIMEOUT, "soon"),
            (MIN_INDEX, "42"),
            (MIN_INDEX, ".5"),
            (MIN_INDEX, "c1."),
            (CONSISTENCY, "eventual"),
            (KEY, "me/x"),
            (KEY, "/1"),
            (FORWARD, "yes"),
        ] {
            match read(&[(name, value)]) {
                Err(Failure::Refused(Refusal::Invalid { field, .. })) => assert_eq!(&*field, name),
                other => panic!("{name}: {value}: {other:?}"),
            }
        }
        // Two keys: which of them is meant to make it happen once?
        assert!(matches!(read(&[(KEY, "a"), (KEY, "b")]), Err(Failure::Refused(Refusal::Invalid { .. }))));
    }
}
