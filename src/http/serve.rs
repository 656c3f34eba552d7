//! The listener: HTTP/1 and HTTP/2 on one port, bounded, and ended in order.

use std::{io, pin::Pin, sync::Arc, time::Duration};

use hyper::{
    server::conn::{http1, http2},
    service::service_fn,
};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    guard::Door,
    hot::{self, Closing, End, Patience},
};

/// Open connections; more wait in the kernel's queue. Ten thousand waiting claims and some to spare.
const CONNECTIONS_MAX: usize = 16_384;
/// Requests under way in one HTTP/2 connection.
const STREAMS_MAX: u32 = 4_096;
/// What an HTTP/2 connection begins with.
const HTTP2_PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Between two looks at a beginning that says too little; it comes in one piece.
const BEGINNING_PAUSE: Duration = Duration::from_millis(10);
/// A client that has not sent a whole head by then is not going to.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// How long requests under way may take to end at shutdown.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(2);
/// Accepting fails when the process is out of descriptors; trying again at once would only burn the processor.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Serves until `shutdown`, then lets requests under way end.
pub async fn serve(listener: TcpListener, door: Door, shutdown: CancellationToken) {
    let connections = TaskTracker::new();
    let permits = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let ending = Ending { shutdown, closing: Arc::default() };
    loop {
        let accepted = tokio::select! {
            () = ending.shutdown.cancelled() => break,
            accepted = accept(&listener, &permits) => accepted,
        };
        let Some((stream, permit)) = accepted else { continue };
        connections.spawn(connection(stream, door.clone(), ending.clone(), permit));
    }
    ending.closing.begin();
    connections.close();
    if tokio::time::timeout(SHUTDOWN_GRACE * 2, connections.wait()).await.is_err() {
        tracing::warn!("some connections did not end in time");
    }
}

/// How the two kinds of connections hear that they should end.
#[derive(Clone)]
struct Ending {
    shutdown: CancellationToken,
    closing: Arc<Closing>,
}

async fn accept(listener: &TcpListener, permits: &Arc<Semaphore>) -> Option<(TcpStream, OwnedSemaphorePermit)> {
    let permit = Arc::clone(permits).acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, _)) => Some((stream, permit)),
        Err(error) => {
            tracing::warn!(%error, "could not accept a connection");
            tokio::time::sleep(ACCEPT_PAUSE).await;
            None
        }
    }
}

async fn connection(stream: TcpStream, door: Door, ending: Ending, permit: OwnedSemaphorePermit) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "connection was gone at once");
        return;
    }
    let beginning = tokio::select! {
        beginning = tokio::time::timeout(HEAD_TIMEOUT, Beginning::of(&stream)) => beginning,
        () = ending.shutdown.cancelled() => return,
    };
    // Boxed where it takes much more than a plain connection, of which there may be ten thousand.
    match beginning {
        Ok(Ok(Beginning::Plain)) => serve_plain(stream, door, ending).await,
        Ok(Ok(Beginning::Http2)) => Box::pin(serve_http2(stream, door, ending.shutdown)).await,
        Ok(Ok(Beginning::Other)) => Box::pin(serve_http1(stream, door, ending.shutdown)).await,
        Ok(Err(error)) => tracing::debug!(%error, "connection was gone at once"),
        Err(_) => tracing::debug!("nothing was asked"),
    }
    drop(permit);
}

/// What a connection is for, by a client's first bytes.
#[derive(Debug, PartialEq, Eq)]
enum Beginning {
    Http2,
    /// Perhaps requests of the kind that [`hot`] takes.
    Plain,
    Other,
}

impl Beginning {
    /// The bytes stay where they are: taken out, they would be in the way of what follows, and each connection would keep a
    /// buffer of twice the size.
    async fn of(stream: &TcpStream) -> io::Result<Self> {
        let mut bytes = [0; HTTP2_PREFACE.len()];
        loop {
            let begun = stream.peek(&mut bytes).await?;
            let bytes = &bytes[..begun];
            if begun == 0 {
                return Ok(Self::Other);
            }
            if !HTTP2_PREFACE.starts_with(bytes) {
                return Ok(if hot::may_be_plain(bytes) { Self::Plain } else { Self::Other });
            }
            if begun == HTTP2_PREFACE.len() {
                return Ok(Self::Http2);
            }
            tokio::time::sleep(BEGINNING_PAUSE).await;
        }
    }
}

async fn serve_plain(stream: TcpStream, door: Door, ending: Ending) {
    let patience = Patience { idle: HEAD_TIMEOUT, closing: SHUTDOWN_GRACE };
    let plain = hot::Connection::new(stream, Arc::clone(&door.front), ending.closing, patience);
    if let End::Unusual(stream) = plain.await {
        Box::pin(serve_http1(stream, door, ending.shutdown)).await;
    }
}

async fn serve_http1(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    door: Door,
    shutdown: CancellationToken,
) {
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT);
    let service = service_fn(move |request| door.clone().answer(request));
    until_end(builder.serve_connection(TokioIo::new(stream), service), |served| served.graceful_shutdown(), shutdown)
        .await;
}

async fn serve_http2(stream: TcpStream, door: Door, shutdown: CancellationToken) {
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder.timer(TokioTimer::new()).max_concurrent_streams(STREAMS_MAX);
    let service = service_fn(move |request| door.clone().answer(request));
    until_end(builder.serve_connection(TokioIo::new(stream), service), |served| served.graceful_shutdown(), shutdown)
        .await;
}

async fn until_end<C: Future<Output = hyper::Result<()>>>(
    served: C,
    end_in_order: impl FnOnce(Pin<&mut C>),
    shutdown: CancellationToken,
) {
    tokio::pin!(served);
    let ended = tokio::select! {
        ended = served.as_mut() => Some(ended),
        () = shutdown.cancelled() => None,
    };
    let ended = match ended {
        Some(ended) => ended,
        None => {
            end_in_order(served.as_mut());
            // What still waits then is a long poll: its client asks another node.
            tokio::time::timeout(SHUTDOWN_GRACE, served).await.unwrap_or(Ok(()))
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "connection ended");
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;

    use super::*;

    /// What is made of two pieces of a beginning, the first of which says too little.
    async fn made_of(first: &[u8], second: &[u8]) -> Beginning {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("listening");
        let mut client = TcpStream::connect(listener.local_addr().expect("an address")).await.expect("connected");
        let (stream, _) = listener.accept().await.expect("accepted");
        let mut told = std::pin::pin!(Beginning::of(&stream));
        client.write_all(first).await.expect("written");
        stream.readable().await.expect("arrived");
        assert!(futures::poll!(told.as_mut()).is_pending());
        client.write_all(second).await.expect("written");
        drop(client);
        told.await.expect("readable")
    }

    #[tokio::test]
    async fn protocol_is_told_by_its_first_bytes_in_however_many_pieces() {
        assert_eq!(made_of(&HTTP2_PREFACE[..1], &HTTP2_PREFACE[1..]).await, Beginning::Http2);
        assert_eq!(made_of(&HTTP2_PREFACE[..23], &HTTP2_PREFACE[23..]).await, Beginning::Http2);
        assert_eq!(made_of(b"P", b"OST /v1/jobs HTTP/1.1\r\n").await, Beginning::Plain);
        assert_eq!(made_of(b"PR", b"OPFIND / HTTP/1.1\r\n").await, Beginning::Other);
    }
}
