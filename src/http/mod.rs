//! The front door for clients: HTTP with JSON (design 3).
//!
//! ```text
//!   listener ─► hyper ─► guard ─► router ─► handler: decode ─► one call ─► encode
//!      │          ▲        └── hot calls ──────►│                │
//!      └► hot ────┴── hot calls, plainly put ──►│                │
//!                                            api types      Node::propose, Node::view
//!                                                       │
//!   applied batches ─► Hub ─► waiting claims, waits for a job, event streams
//! ```
//!
//! Other doors will stand beside this one, so there is no policy here: a handler decodes, makes one call, encodes. What it
//! may not know is who leads, except to send writes there. Whatever waits is woken by the [`hub`], from applied entries, so
//! ten thousand waiters cost nothing while nothing happens.

mod call;
mod context;
mod failure;
mod forward;
mod front;
mod guard;
mod handlers;
mod hot;
mod hub;
mod local;
mod metrics;
mod params;
mod read;
mod reply;
mod router;
mod select;
mod serve;
mod tails;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

pub use front::{Deps, Front};
pub use local::{LiveOutput, LocalPool};

/// Serves the api address until `shutdown`, then lets requests under way end.
pub async fn run(listener: TcpListener, deps: Deps, shutdown: CancellationToken) {
    let front = Arc::new(Front::new(deps));
    // The hub outlives the listener: requests under way may still wait for it.
    let hub_stop = CancellationToken::new();
    let hub = tokio::spawn(hub::run(Arc::clone(&front), hub_stop.clone()));
    let waiters = tokio::spawn(end_waits(Arc::clone(&front), shutdown.clone()));
    let door = guard::Door { router: TowerToHyperService::new(router::router(&front)), front };
    serve::serve(listener, door, shutdown).await;
    hub_stop.cancel();
    for task in [hub, waiters] {
        if let Err(error) = task.await {
            tracing::error!(%error, "a task of the front door ended badly");
        }
    }
}

/// Long polls would hold up the end: they are told to ask another node.
async fn end_waits(front: Arc<Front>, shutdown: CancellationToken) {
    shutdown.cancelled().await;
    front.hub.end();
}
