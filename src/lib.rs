//! raftq: a job queue that survives the death of its own master.
//!
//! Read in this order: the core ([`queue`]) says what a job's life is; the rooms around it make that life durable,
//! replicated, and reachable.

pub mod queue;

pub mod calendar;
pub mod clock;
pub mod codec;
pub mod raft;
pub mod storage;

pub mod args;
pub mod json;

pub mod api;
pub mod http;

pub mod worker;

pub mod leader;

pub mod config;
pub mod descriptors;
pub mod server;

pub mod client;

pub mod cli;
