//! The binary. The same one is also the supervisor that owns a node's commands, and must know that before any thread is
//! started.

fn main() {
    raftq::worker::supervisor::run_if_asked();
}
