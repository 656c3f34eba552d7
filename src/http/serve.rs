//! The listener: HTTP/1 and HTTP/2 on one port, bounded, and ended in order.

use std::time::Duration;

use hyper::service::service_fn;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::OwnedSemaphorePermit,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::guard::Door;

/// Open connections; more wait in the kernel's queue. Ten thousand waiting claims and some to spare.
const CONNECTIONS_MAX: usize = 16_384;
/// Requests under way in one HTTP/2 connection.
const STREAMS_MAX: u32 = 4_096;
/// A client that has not sent a whole head by then is not going to.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// How long requests under way may take to end at shutdown.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(2);
/// Accepting fails when the process is out of descriptors; trying again at once would only burn the processor.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Serves until `shutdown`, then lets requests under way end.
pub async fn serve(listener: TcpListener, door: Door, shutdown: CancellationToken) {
    let connections = TaskTracker::new();
    let permits = std::sync::Arc::new(tokio::sync::Semaphore::new(CONNECTIONS_MAX));
    loop {
        let accepted = tokio::select! {
            () = shutdown.cancelled() => break,
            accepted = accept(&listener, &permits) => accepted,
        };
        let Some((stream, permit)) = accepted else { continue };
        connections.spawn(connection(stream, door.clone(), shutdown.clone(), permit));
    }
    connections.close();
    if tokio::time::timeout(SHUTDOWN_GRACE * 2, connections.wait()).await.is_err() {
        tracing::warn!("some connections did not end in time");
    }
}

async fn accept(
    listener: &TcpListener,
    permits: &std::sync::Arc<tokio::sync::Semaphore>,
) -> Option<(TcpStream, OwnedSemaphorePermit)> {
    let permit = std::sync::Arc::clone(permits).acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, _)) => Some((stream, permit)),
        Err(error) => {
            tracing::warn!(%error, "could not accept a connection");
            tokio::time::sleep(ACCEPT_PAUSE).await;
            None
        }
    }
}

async fn connection(stream: TcpStream, door: Door, shutdown: CancellationToken, permit: OwnedSemaphorePermit) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "connection was gone at once");
        return;
    }
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT);
    builder.http2().timer(TokioTimer::new()).max_concurrent_streams(STREAMS_MAX);
    let served =
        builder.serve_connection(TokioIo::new(stream), service_fn(move |request| door.clone().answer(request)));
    tokio::pin!(served);
    let ended = tokio::select! {
        ended = served.as_mut() => Some(ended),
        () = shutdown.cancelled() => None,
    };
    let ended = match ended {
        Some(ended) => ended,
        None => {
            served.as_mut().graceful_shutdown();
            // What still waits then is a long poll: its client asks another node.
            tokio::time::timeout(SHUTDOWN_GRACE, served).await.unwrap_or(Ok(()))
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "connection ended");
    }
    drop(permit);
}
