//! Duties of the leader.

pub mod pool;
