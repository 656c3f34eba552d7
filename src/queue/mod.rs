//! The pure core: the life of a job.
//!
//! ```text
//!                submit                claim             start
//!   (nothing) ───────────► queued ───────────► reserved ───────► running ──► success
//!                │          ▲ ▲ │ release, expiry │                │  │
//!                │ delay    │ │ └◄────────────────┴────────────────┘  │ failure
//!                ▼          │ │                        lost: again    ▼
//!             delayed ──────┘ └── kick ── buried ◄───────────── error or retry (delayed)
//!             blocked ──► queued when the jobs it waits for have ended
//! ```
//!
//! The state machine of the log: [`State::apply`] takes one [`command::Entry`] and gives an [`applied::Applied`], and it is
//! a function of nothing else. No I/O, no clock, no randomness, no floats, no hash order: both clocks stand in the entry.
//! It cannot fail: a refusal is a value, and a broken invariant is a panic.

mod attempt;
mod check;
mod history;
mod intern;
mod keys;
mod life;
pub mod needs;
mod ops;
mod overlay;
mod step;
mod waits;

pub mod applied;
pub mod command;
pub mod ids;
pub mod invariants;
pub mod job;
pub mod limits;
pub mod order;
mod pool_view;
pub mod query;
pub mod refusal;
pub mod rows;
pub mod settings;
mod spec;
mod state;
#[cfg(test)]
mod testing;

pub use state::State;
