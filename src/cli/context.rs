//! What every command has at hand: the client, the output, and the deadline of the whole command.

use std::time::Duration;

use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;
use tokio::time::Instant;

use super::{Common, failure::Failure, output::Output};
use crate::client::{Answer, Call, Client, ClientError, Method, Options, TIMEOUT_DEFAULT, path_with_query};

pub struct Context {
    pub client: Client,
    pub output: Output,
    timeout: Option<Duration>,
    started: Instant,
    local: bool,
}

impl Context {
    pub fn new(common: &Common, output: Output) -> Result<Self, Failure> {
        let mut options = Options::new(common.server.clone());
        options.user = user();
        if let Some(timeout) = common.timeout {
            options.patience = options.patience.min(timeout);
        }
        let client = Client::new(options)?;
        Ok(Self { client, output, timeout: common.timeout, started: Instant::now(), local: common.local })
    }

    /// When a single call must have been answered.
    pub fn deadline(&self) -> Instant {
        match self.timeout {
            Some(timeout) => self.started + timeout,
            None => Instant::now() + TIMEOUT_DEFAULT,
        }
    }

    /// When a command that waits for jobs gives up, if ever.
    pub fn end_of_wait(&self) -> Option<Instant> {
        self.timeout.map(|timeout| self.started + timeout)
    }

    /// Rests before another look, which has at least as long; false once there is no time for one.
    pub async fn may_look_again(&self, rest: Duration) -> bool {
        let next = Instant::now() + rest;
        match self.end_of_wait() {
            Some(end) if next + rest > end => {
                tokio::time::sleep_until(end).await;
                false
            }
            _ => {
                tokio::time::sleep_until(next).await;
                true
            }
        }
    }

    /// `--local`.
    pub fn is_local(&self) -> bool {
        self.local
    }

    pub async fn read<T: DeserializeOwned>(&self, path: &str, query: &[(&str, String)]) -> Result<T, Failure> {
        let call = self.call(Call::read(path_with_query(path, query), self.deadline()));
        Ok(decode(&self.client.call(call).await?)?)
    }

    pub async fn write<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, Failure> {
        let call = Call::write(method, path, body, self.deadline())?;
        Ok(decode(&self.client.call(call).await?)?)
    }

    pub async fn post(&self, path: &str, body: &impl Serialize) -> Result<Value, Failure> {
        self.write(Method::POST, path, body).await
    }

    /// `call` as `--local` has it.
    pub fn call(&self, call: Call) -> Call {
        if self.local { call.local() } else { call }
    }
}

fn decode<T: DeserializeOwned>(answer: &Answer) -> Result<T, ClientError> {
    answer.json()
}

/// By the operating system's word, not the environment's.
fn user() -> Option<String> {
    nix::unistd::User::from_uid(nix::unistd::geteuid()).ok().flatten().map(|user| user.name)
}
