//! Tests with real processes, over the wire, as a user has them. Start with [`harness`].
//!
//! `scenario_NN_...` are the acceptance scenarios by number; `promise_NN_...` the promises of the design.

mod harness;

mod backup;
mod bad_input;
mod bench;
mod dependencies;
mod environment;
mod failure;
mod faults;
mod leases;
mod limits;
mod outages;
mod processing;
mod promises;
mod queue_wide;
mod readme;
mod registry;
mod runner;
mod schedules;
mod scripts;
mod submission;
mod verbs;
mod worker;
