//! Random logs. A strategy draws abstract steps ("cancel the third live job"), and a [`Hand`] makes real requests of them
//! against what the model holds at that moment, so that a shrunk sequence still means something.

mod entries;
mod hand;
mod leases;
mod picks;
mod schedules;
mod settings;
mod specs;
mod steps;
mod storms;

pub use entries::{EntrySeed, log};
pub use hand::Hand;
