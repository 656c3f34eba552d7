//! The worker's entry in the registry: who it is, what it has, that it lives.

use std::time::Duration;

use serde_json::json;
use tokio::time::Instant;

use super::super::context::Context;
use crate::{
    api::FreeSpec,
    client::{Call, ClientError, Method, path_segment},
    worker::Room,
};

/// Three may be missed before the entry expires.
const HEARTBEAT: Duration = Duration::from_secs(20);
const EXPIRES_MS: u64 = 70_000;
/// A heartbeat that is late is replaced by the next.
const PATIENCE: Duration = Duration::from_secs(5);

pub struct Registration<'a> {
    pub context: &'a Context,
    pub name: String,
    pub host: String,
    pub room: Room,
    pub queues: Vec<String>,
}

impl Registration<'_> {
    /// Does not end. Without an entry the worker works as well; it is only not seen.
    pub async fn keep(&self) {
        let mut heartbeat = tokio::time::interval(HEARTBEAT);
        loop {
            heartbeat.tick().await;
            if let Err(error) = self.renew().await {
                self.context.output.note(&format!("not entered in the registry of workers: {error}"));
            }
        }
    }

    async fn renew(&self) -> Result<(), ClientError> {
        let entry = json!({
            "kind": "runner",
            "host": self.host,
            "pid": std::process::id(),
            "version": env!("CARGO_PKG_VERSION"),
            "slots": self.room.slots,
            "resources": FreeSpec::from(self.room.free(None)),
            "metadata": { "queues": self.queues },
            "ttl_ms": EXPIRES_MS,
        });
        let call = Call::write(Method::PUT, self.path(), &entry, Instant::now() + PATIENCE)?;
        self.context.client.call(call).await.map(drop)
    }

    /// One that has expired already is as good as removed.
    pub async fn remove(&self) -> Result<(), ClientError> {
        let call = Call::write(Method::DELETE, self.path(), &json!({}), Instant::now() + PATIENCE)?;
        match self.context.client.call(call).await {
            Err(error) if error.code() != Some("not_found") => Err(error),
            _ => Ok(()),
        }
    }

    fn path(&self) -> String {
        format!("/v1/workers/{}", path_segment(&self.name))
    }
}
