//! Tests with real processes.

mod worker;
