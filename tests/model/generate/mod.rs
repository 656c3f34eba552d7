//! Random logs. A strategy draws abstract steps ("cancel the third live job"), and a [`Hand`] makes real requests of them
//! against what the model holds at that moment, so that a shrunk sequence still means something.

mod hand;
mod steps;

pub use hand::Hand;
pub use steps::{EntrySeed, log};
