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
//!
//! # Words
//!
//! A *job* has *ops* that run in order; its status is computed from theirs. A job that is not final is *live*: it stands in
//! memory, whole but for what its submitter said ([`job::Spec`], a row). A final one is only rows. Why a live job whose next
//! op is queued does not run is its *hold* (delayed, blocked, buried); whatever else keeps it waiting (a pause, a full limit
//! group) is nobody's state and computed when asked ([`query::HeldBy`]). A *lease* is one grant of one op to one holder and
//! lives inside the op's status. Jobs that no claim can tell apart have one *shape*, and claims compare shapes.
//!
//! # How an entry is applied
//!
//! ```text
//!   Entry{clocks, office, requests}
//!      │  another office: leases of the old pool get a deadline
//!      ▼
//!   each request: keys (seen? the first answer) ─► ops/<verb> ─► Step: change · admit · revive · retire
//!      │                                                          │ keeps order, rows, counters and effects true
//!      ▼                                                          ▼
//!   Applied{answers, effects}                                  Changes (rows), stored in one batch
//! ```
//!
//! Requests are applied in order. Only a tick expires anything, and the leader proposes it behind everything that had
//! arrived before: so a touch that was late only because the leader stalled is heard first (P10). Whatever could be much
//! (deadlines, wakes, archiving, dropped names) is done in pieces, and the next tick goes on.
//!
//! # What always holds
//!
//! - **A live job is in memory, and has a `Live` row, or is one of the [`fresh`] or
//!   of the [`granted`]; a final one is neither.**
//! - **At most one op of a job has a lease, and it is the current one** (P3).
//! - **The order ([`order::Order`]) is a function of the live jobs**: it is changed only by taking a job out and putting it back.
//! - **The state is a function of its rows**: [`State::load`] gives the same replica, checked after every step of every test.
//! - **Lease and job numbers only rise** (P2, P3).
//!
//! [`invariants::check`] says the rest. What is absent on purpose: bodies, results, logs and outputs never stand in memory,
//! and nothing in here knows of JSON, HTTP, Raft or disks.

mod attempt;
pub mod birth;
mod check;
pub mod fresh;
pub mod granted;
mod history;
mod intern;
mod keys;
mod life;
pub mod live;
pub mod needs;
mod ops;
mod overlay;
pub mod span;
mod step;
mod text;
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
pub mod schedule;
pub mod settings;
mod spec;
mod state;
#[cfg(test)]
pub(crate) mod testing;
pub mod totals;

pub use ops::restore::Restoration;
pub use state::State;
