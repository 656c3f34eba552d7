//! Tests without processes: the core against a naive model of it and against itself, and the source against its own rules.

mod agree;
mod agreement;
mod coverage;
mod crowds;
mod determinism;
mod generate;
mod kept;
mod log;
mod promises;
mod reference;
mod regressions;
mod simulation;
mod store;
mod tidy;
