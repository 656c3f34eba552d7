//! One copy of what many jobs say alike.
//!
//! Counts uses itself instead of asking the `Arc`: rows on their way to disk hold clones too, and would keep a value that
//! no live job uses any more.

use std::{collections::BTreeMap, sync::Arc};

#[derive(Debug)]
pub struct Interner<T: ?Sized + Ord> {
    known: BTreeMap<Arc<T>, Known<T>>,
}

#[derive(Debug)]
struct Known<T: ?Sized> {
    /// The key once more: a map does not give it out together with what can be changed.
    value: Arc<T>,
    uses: u64,
}

impl<T: ?Sized + Ord> Clone for Interner<T> {
    fn clone(&self) -> Self {
        let known = self.known.values().map(|Known { value, uses }| {
            let known = Known { value: Arc::clone(value), uses: *uses };
            (Arc::clone(value), known)
        });
        Self { known: known.collect() }
    }
}

impl<T: ?Sized + Ord> Default for Interner<T> {
    fn default() -> Self {
        Self { known: BTreeMap::new() }
    }
}

impl<T: ?Sized + Ord> Interner<T> {
    /// Makes `value` the shared copy, with one more use.
    pub fn share(&mut self, value: &mut Arc<T>) {
        let Some(known) = self.known.get_mut(&**value) else {
            self.known.insert(Arc::clone(value), Known { value: Arc::clone(value), uses: 1 });
            return;
        };
        known.uses += 1;
        if !Arc::ptr_eq(&known.value, value) {
            *value = Arc::clone(&known.value);
        }
    }

    /// The shared copy of a value.
    pub fn find(&self, value: &T) -> Option<&Arc<T>> {
        self.known.get(value).map(|known| &known.value)
    }

    /// One use less; the last one lets it go.
    pub fn release(&mut self, value: &Arc<T>) {
        let known = self.known.get_mut(value).expect("what is released was shared before");
        known.uses -= 1;
        if known.uses == 0 {
            self.known.remove(value);
        }
    }

    /// Distinct values.
    pub fn count(&self) -> usize {
        self.known.len()
    }

    /// What is shared, and how often.
    pub fn uses(&self) -> impl Iterator<Item = (&Arc<T>, &u64)> {
        self.known.values().map(|known| (&known.value, &known.uses))
    }

    pub fn contains(&self, value: &T) -> bool {
        self.known.contains_key(value)
    }
}
