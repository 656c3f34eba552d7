//! The composition root: what a node consists of, in what order it starts, and in what order it stops.
//!
//! ```text
//!   start   listeners ─► data directory ─► supervisor ─► runtime ─► Node ─► peers ─► leader duties ─► clients
//!   stop    leader duties (running jobs end, leadership goes to another) ─► clients ─► peers and Node ─► supervisor
//! ```
//!
//! Listeners come first: a port in use is the most common mistake, and is found before anything on disk is touched. The
//! supervisor comes before the runtime, because it is started before any thread ([`crate::worker`]).
//! Stopping goes the other way round, after the leader's duties have ended while the node can still write (engine-notes
//! 4.18). RocksDB's threads must be gone before `main` returns, so nothing here is left to its destructor.

mod data_lock;
mod doors;
mod error;
mod logging;
mod patience;
mod running;
mod shutdown;

use std::time::Duration;

use self::{data_lock::DataLock, doors::Doors, patience::Patience, running::Running, shutdown::Signals};
use crate::{
    config::{Config, Shell},
    worker::{self, Supervisor},
};

/// Reading a backup takes no node.
pub use crate::raft::{BackupSummary, examine as examine_backup};
pub use error::ServerError;
pub use shutdown::Phase;

/// Of the cores, for requests and Raft: writing the log, applying it and the stores' own work have threads of their own, and
/// tasks that hand each other their work are cheapest on one thread. On two cores one thread gave 47 000 submissions a second
/// with 64 in flight, two gave 38 000.
const CORES_A_WORKER_THREAD: usize = 2;
/// File work and RocksDB reads that may block. Each holds a file or a page for moments; more would only queue at the disk.
const BLOCKING_THREADS_MAX: usize = 32;
/// For ports and files whose owner has been killed: it keeps them until its memory is freed, a second for a few gigabytes.
const LAST_OWNER_PATIENCE: Duration = Duration::from_secs(2);
/// What blocks longer than this at the end is left to the end of the process.
const RUNTIME_PATIENCE: Duration = Duration::from_secs(5);

/// Runs a node until it is told to stop (SIGTERM, SIGINT), is removed from its cluster, or cannot go on.
///
/// The first signal stops it in order: no more claims, running jobs may end for a while, another node leads. A second
/// signal skips the waiting. To be called before any thread is started.
///
/// # Errors
/// It could not start, or had to stop; the error says what to do.
pub fn serve(config: Config) -> Result<(), ServerError> {
    logging::start(&config.log);
    let patience = Patience::of(LAST_OWNER_PATIENCE);
    let doors = patience.until_free(|| Doors::open(&config.listen))?;
    let _lock = patience.until_free(|| DataLock::take(&config.data_dir))?;
    let supervisor = start_supervisor(&config)?;
    // After the supervisor was started: its commands keep the limit that they would have without us.
    let descriptors = crate::descriptors::raise_limit();
    tracing::debug!(descriptors, "open files and connections allowed");
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads((cores / CORES_A_WORKER_THREAD).max(1))
        .max_blocking_threads(BLOCKING_THREADS_MAX)
        .enable_all()
        .build()
        .map_err(ServerError::Runtime)?;
    let outcome = runtime.block_on(run(config, doors, supervisor));
    runtime.shutdown_timeout(RUNTIME_PATIENCE);
    outcome
}

async fn run(config: Config, doors: Doors, supervisor: Supervisor) -> Result<(), ServerError> {
    let signals = Signals::listen().map_err(ServerError::Runtime)?;
    let running = Running::start(&config, doors, supervisor).await?;
    running.until_end(signals.phase()).await
}

fn start_supervisor(config: &Config) -> Result<Supervisor, ServerError> {
    let shell = match &config.shell {
        Shell::Auto => worker::Shell::installed(),
        Shell::Path(path) => worker::Shell::at(path),
    };
    // Commands have `/` for their working directory, and are told paths in it.
    let scratch = std::path::absolute(&config.scratch_dir).unwrap_or_else(|_| config.scratch_dir.clone());
    let options = worker::Options { shell, ..worker::Options::new(&scratch) };
    Supervisor::start(options).map_err(|source| ServerError::Supervisor { scratch, source })
}
