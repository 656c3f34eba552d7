//! The built-in worker pool.

pub mod table;
