//! One copy of what many jobs say alike.
//!
//! Counts uses itself instead of asking the `Arc`: rows on their way to disk hold clones too, and would keep a value that
//! no live job uses any more.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    sync::Arc,
};

#[derive(Debug)]
pub struct Interner<T: ?Sized + Ord> {
    known: BTreeMap<Arc<T>, u64>,
}

impl<T: ?Sized + Ord> Clone for Interner<T> {
    fn clone(&self) -> Self {
        Self { known: self.known.clone() }
    }
}

impl<T: ?Sized + Ord> Default for Interner<T> {
    fn default() -> Self {
        Self { known: BTreeMap::new() }
    }
}

impl<T: ?Sized + Ord> Interner<T> {
    /// The shared copy of `value`, with one more use.
    pub fn share(&mut self, value: &Arc<T>) -> Arc<T> {
        match self.known.entry(value.clone()) {
            Entry::Occupied(mut known) => {
                *known.get_mut() += 1;
                known.key().clone()
            }
            Entry::Vacant(new) => {
                new.insert(1);
                value.clone()
            }
        }
    }

    /// One use less; the last one lets it go.
    pub fn release(&mut self, value: &Arc<T>) {
        let uses = self.known.get_mut(value).expect("what is released was shared before");
        *uses -= 1;
        if *uses == 0 {
            self.known.remove(value);
        }
    }

    /// Distinct values.
    pub fn count(&self) -> usize {
        self.known.len()
    }

    /// What is shared, and how often.
    pub fn uses(&self) -> impl Iterator<Item = (&Arc<T>, &u64)> {
        self.known.iter()
    }

    pub fn contains(&self, value: &T) -> bool {
        self.known.contains_key(value)
    }
}
