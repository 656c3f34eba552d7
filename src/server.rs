//! The composition root: what a node consists of, in what order it starts, and in what order it stops.
//!
//! ```text
//!   start   listeners ─► data directory ─► supervisor ─► runtime ─► Node ─► peers ─► leader duties ─► clients
//!   stop    leader duties (running jobs end, leadership goes to another) ─► clients ─► peers ─► Node ─► supervisor
//! ```
//!
//! Listeners come first: a port in use is the most common mistake, and is found before anything on disk is touched. The
//! supervisor comes before the runtime, because it is started before any thread ([`crate::worker`]).
//! Stopping goes the other way round, after the leader's duties have ended while the node can still write (engine-notes
//! 4.18). RocksDB's threads must be gone before `main` returns, so nothing here is left to its destructor.

mod doors;
mod error;
mod logging;
mod shutdown;

use tokio::sync::watch;

use crate::config::Config;

pub use error::ServerError;
pub use shutdown::Phase;

/// Two cores are the smallest machine that this is tuned for: one thread would let a long request delay heartbeats.
const WORKER_THREADS_MIN: usize = 2;
/// File work and RocksDB reads that may block. Each holds a file or a page for moments; more would only queue at the disk.
const BLOCKING_THREADS_MAX: usize = 32;

/// Runs a node until it is told to stop (SIGTERM, SIGINT), is removed from its cluster, or cannot go on.
///
/// The first signal stops it in order: no more claims, running jobs may end for a while, another node leads. A second
/// signal skips the waiting. To be called before any thread is started.
///
/// # Errors
/// It could not start, or had to stop; the error says what to do.
pub fn serve(config: Config) -> Result<(), ServerError> {
    logging::start(&config.log);
    let doors = doors::Doors::open(&config.listen)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(std::thread::available_parallelism().map_or(1, usize::from).max(WORKER_THREADS_MIN))
        .max_blocking_threads(BLOCKING_THREADS_MAX)
        .enable_all()
        .build()
        .map_err(ServerError::Runtime)?;
    runtime.block_on(async {
        let signals = shutdown::Signals::listen().map_err(ServerError::Runtime)?;
        run(config, doors, signals.phase()).await
    })
}

async fn run(config: Config, doors: doors::Doors, mut phase: watch::Receiver<Phase>) -> Result<(), ServerError> {
    tracing::info!(node = config.id, api = ?doors.api.local_addr().ok(), peer = ?doors.peer.local_addr().ok(), "node starts");
    drop(phase.wait_for(|phase| *phase >= Phase::Orderly).await);
    Ok(())
}
