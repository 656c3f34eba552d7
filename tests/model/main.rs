//! Tests without processes.

mod tidy;
