//! Real nodes, and clients that know nothing of the code they talk to.
//!
//! ```text
//!   World (one pass of a scenario) ──► Client (HTTP, keys, redirects) ──► Node (child process)
//!     │ kills the leader half-way          │ an answer, or unknown          │ kill -9, SIGSTOP, SIGTERM, wipe
//!     ▼                                    ▼                                ▼
//!   Cluster (directory, configs, logs)   Oracle (what must be there)      the binary as users start it
//! ```
//!
//! What fails while its process lives is a [`Fault`] of a node's machine (clocks, disks), or a cut wire between two nodes
//! ([`wires`]). Neither needs root.
//!
//! Nothing here links the crate: the tests see the binary, its files, its HTTP API and its exit codes, as a user does.
//! Everything that waits polls with a deadline, every port is free when it is taken, and every child is ended by its own
//! pid when its owner goes out of scope. A test that fails keeps its directory and prints the end of each log.

mod client;
mod cluster;
mod faults;
mod node;
mod oracle;
mod process;
mod wait;
mod wires;
mod worker;
mod world;

pub use client::{Call, Client};
pub use cluster::Cluster;
pub use faults::Fault;
pub use node::Node;
pub use oracle::Oracle;
pub use process::Process;
pub use wait::{eventually, stays, within};
pub use worker::Held;
pub use world::{World, scenario};
