//! An HTTP client that nobody of the product wrote: it knows the contract page and nothing else.
//!
//! A call goes to the next of its servers, so that over a test every node is asked. It follows redirects, and repeats what
//! has no definite answer under the same idempotency key, until its patience ends. What is sent once and not repeated
//! ([`Client::once`]) may end in [`Unknown`], which is not the same as refused.

use std::{
    sync::atomic::{AtomicU64, AtomicUsize, Ordering},
    time::Duration,
};

use serde_json::Value;
use ureq::{
    Agent,
    http::{Method, Request, Response},
};

use super::wait::within;

/// What a node is told of our patience, for one attempt.
const DEADLINE: Duration = Duration::from_secs(4);
/// For one attempt: a node that answers at its deadline is still heard.
pub const ATTEMPT: Duration = Duration::from_secs(5);
/// For all attempts: elections on a busy machine included.
const PATIENCE: Duration = Duration::from_secs(30);

pub struct Client {
    agent: Agent,
    servers: Vec<String>,
    turn: AtomicUsize,
    name: String,
    number: AtomicU64,
}

/// One request, as often as it has to be sent.
#[derive(Clone, Debug)]
pub struct Call {
    method: Method,
    path: String,
    body: Vec<u8>,
    headers: Vec<(&'static str, String)>,
    attempt: Duration,
}

#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    /// Null where the body is no JSON.
    pub body: Value,
    pub text: String,
    /// `raftq-index`.
    pub index: Option<String>,
    location: Option<String>,
    /// Who answered in the end.
    pub server: String,
}

/// Nobody answered: it may have happened.
#[derive(Debug)]
pub struct Unknown(pub String);

impl Call {
    pub fn new(method: Method, path: &str) -> Self {
        Self { method, path: path.to_owned(), body: Vec::new(), headers: Vec::new(), attempt: ATTEMPT }
    }

    pub fn get(path: &str) -> Self {
        Self::new(Method::GET, path)
    }

    pub fn post(path: &str, body: &Value) -> Self {
        Self::new(Method::POST, path).json(body)
    }

    pub fn put(path: &str, body: &Value) -> Self {
        Self::new(Method::PUT, path).json(body)
    }

    pub fn json(self, body: &Value) -> Self {
        self.raw(body.to_string().into_bytes()).header("content-type", "application/json")
    }

    pub fn raw(self, body: Vec<u8>) -> Self {
        Self { body, ..self }
    }

    pub fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// The same with another value for a header that it has already.
    pub fn replacing(mut self, name: &'static str, value: &str) -> Self {
        self.headers.retain(|(given, _)| *given != name);
        self.header(name, value)
    }

    /// How long one attempt may take.
    pub fn within(self, attempt: Duration) -> Self {
        Self { attempt, ..self }
    }

    fn has(&self, header: &str) -> bool {
        self.headers.iter().any(|(name, _)| *name == header)
    }

    fn request(&self, server: &str) -> Request<Vec<u8>> {
        let uri =
            if self.path.starts_with("http") { self.path.clone() } else { format!("http://{server}{}", self.path) };
        let mut request = Request::builder().method(self.method.clone()).uri(uri);
        for (name, value) in &self.headers {
            request = request.header(*name, value);
        }
        request.body(self.body.clone()).expect("tests write valid requests")
    }
}

impl Client {
    pub fn new(servers: Vec<String>) -> Self {
        let config = Agent::config_builder().http_status_as_error(false).max_redirects(0).proxy(None);
        Self {
            agent: config.build().new_agent(),
            turn: AtomicUsize::new(rand::random_range(0..1000)),
            servers,
            name: format!("test-{:016x}", rand::random::<u64>()),
            number: AtomicU64::new(0),
        }
    }

    pub fn get(&self, path: &str) -> Answer {
        self.call(Call::get(path))
    }

    pub fn post(&self, path: &str, body: &Value) -> Answer {
        self.call(Call::post(path, body))
    }

    pub fn put(&self, path: &str, body: &Value) -> Answer {
        self.call(Call::put(path, body))
    }

    pub fn delete(&self, path: &str) -> Answer {
        self.call(Call::new(Method::DELETE, path))
    }

    /// Sends it until there is a definite answer, each time to the next server, under one key.
    #[track_caller]
    pub fn call(&self, call: Call) -> Answer {
        let call = self.keyed(call);
        let mut last = String::from("never sent");
        within(PATIENCE, || match self.attempt(&call) {
            Ok(answer) if answer.is_definite() => Some(answer),
            Ok(answer) => {
                last = format!("{} {}", answer.status, answer.text);
                None
            }
            Err(Unknown(error)) => {
                last = error;
                None
            }
        })
        .unwrap_or_else(|| {
            panic!("{} {}: no definite answer within {PATIENCE:?}, last: {last}", call.method, call.path)
        })
    }

    /// Gives a write its key, so that it may be repeated.
    pub fn keyed(&self, call: Call) -> Call {
        if call.method == Method::GET || call.has("idempotency-key") {
            return call;
        }
        let number = self.number.fetch_add(1, Ordering::Relaxed);
        call.header("idempotency-key", format!("{}/{number}", self.name))
    }

    /// One try at the next server, redirects followed.
    pub fn attempt(&self, call: &Call) -> Result<Answer, Unknown> {
        let server = &self.servers[self.turn.fetch_add(1, Ordering::Relaxed) % self.servers.len()];
        let mut answer = self.once(server, call)?;
        for _ in 0..3 {
            let Some(location) = answer.location.take().filter(|_| answer.status == 307) else { break };
            answer = self.once(server, &Call { path: location, ..call.clone() })?;
        }
        Ok(answer)
    }

    /// One try at this server; a redirect is an answer like any other.
    pub fn once(&self, server: &str, call: &Call) -> Result<Answer, Unknown> {
        let mut call = call.clone();
        if !call.has("raftq-timeout-ms") {
            call = call.header("raftq-timeout-ms", DEADLINE.as_millis().to_string());
        }
        let request = self.agent.configure_request(call.request(server)).timeout_global(Some(call.attempt));
        let response = self.agent.run(request.build()).map_err(|error| Unknown(error.to_string()))?;
        Answer::read(server, response)
    }
}

impl Answer {
    fn read(server: &str, mut response: Response<ureq::Body>) -> Result<Self, Unknown> {
        let header = |name: &str| Some(response.headers().get(name)?.to_str().ok()?.to_owned());
        let (index, location) = (header("raftq-index"), header("location"));
        let text = response.body_mut().read_to_string().map_err(|error| Unknown(error.to_string()))?;
        Ok(Self {
            status: response.status().as_u16(),
            body: serde_json::from_str(&text).unwrap_or(Value::Null),
            text,
            index,
            location,
            server: server.to_owned(),
        })
    }

    fn is_definite(&self) -> bool {
        !matches!((self.status, self.code()), (307, _) | (_, "no_leader" | "outcome_unknown" | "timeout"))
    }

    /// The error's code, or nothing.
    pub fn code(&self) -> &str {
        self.body["error"]["code"].as_str().unwrap_or("")
    }

    /// The body of an answer that must be a success.
    #[track_caller]
    pub fn ok(self) -> Value {
        assert_eq!(self.status, 200, "{} said {}", self.server, self.text);
        self.body
    }

    /// Panics unless it was refused just so.
    #[track_caller]
    pub fn refused(&self, status: u16, code: &str) {
        assert_eq!((self.status, self.code()), (status, code), "{} said {}", self.server, self.text);
    }
}
