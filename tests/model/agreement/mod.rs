//! The core and the model side by side: every entry goes to both, and afterwards they must have answered alike and hold
//! the same jobs.

mod compare;
mod dry;
mod effects;
mod expected;
mod pair;
mod rows;
mod views;

pub use pair::{Happened, Pair};
