//! The core under test: a state with rows in memory, checked after every entry.
//!
//! After each entry the invariants are checked and the state is loaded anew from its rows: both must be the same replica.

mod fields;
mod freshness;
mod full;
mod memory;
mod pieces;
mod schedules;
mod script;
mod trace;
mod weight;
mod words;

use super::{
    applied::Applied,
    command::{Clocks, Command, Entry, Key, Request},
    ids::{ClusterMs, Index, WallMs},
    invariants,
    job::Office,
    ops::restore::Restoration,
    state::State,
};
pub use memory::Memory;

/// One replica.
pub struct Bench {
    pub state: State,
    pub rows: Memory,
    pub index: Index,
    pub clocks: Clocks,
    pub office: Office,
}

impl Default for Bench {
    fn default() -> Self {
        let clocks = Clocks { cluster: ClusterMs(0), wall: WallMs(1_000_000) };
        let office = Office { term: 1, node: 1, incarnation: 1 };
        Self { state: State::default(), rows: Memory::default(), index: Index(0), clocks, office }
    }
}

impl Bench {
    /// An entry with one request.
    pub fn apply(&mut self, principal: &str, key: Option<Key>, command: Command) -> Applied {
        self.apply_all(vec![Request { principal: principal.into(), key, command }])
    }

    pub fn apply_all(&mut self, requests: Vec<Request>) -> Applied {
        self.index.0 += 1;
        let entry = Entry { clocks: self.clocks, office: self.office, requests };
        let applied = self.state.apply(&self.rows, self.index, &entry);
        self.store();
        applied
    }

    /// What a restored backup begins with.
    pub fn restore(&mut self, restoration: &Restoration) -> u64 {
        self.index = restoration.index;
        let ended = self.state.restore(&self.rows, restoration);
        self.store();
        ended
    }

    fn store(&mut self) {
        self.rows.store(self.state.take_changes());
        invariants::check(&self.state);
        let loaded = State::load(&self.rows);
        invariants::check(&loaded);
        assert!(loaded.is_same(&self.state), "loaded:\n{loaded:#?}\nlive:\n{:#?}", self.state);
    }

    pub fn advance(&mut self, ms: u64) {
        self.clocks.cluster.0 += ms;
        self.clocks.wall.0 += ms;
    }
}
