//! The binary. The same one is also the supervisor that owns a node's commands, and must know that before any thread is
//! started.

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    raftq::worker::supervisor::run_if_asked();
    raftq::cli::run()
}
