//! Neighbouring ids as the bits of one number. What can be said of many jobs with a yes or no is one small row for 64 of them,
//! written once for all that changed in a batch, where each would have had its own.

use std::collections::{BTreeMap, BTreeSet};

use super::ids::JobId;

const SPAN: u64 = u64::BITS as u64;

/// The span of an id, and its bit in there.
pub fn place(id: JobId) -> (u64, u64) {
    (id.0 / SPAN, 1 << (id.0 % SPAN))
}

/// The ids of a span whose bits are set, in order.
pub fn ids(span: u64, bits: u64) -> impl Iterator<Item = JobId> {
    (0..SPAN).filter(move |at| bits & (1 << at) != 0).map(move |at| JobId(span * SPAN + at))
}

/// A set of ids, which knows what of it is to be stored.
#[derive(Clone, Debug, Default)]
pub struct Spans {
    /// No span is empty.
    bits: BTreeMap<u64, u64>,
    /// Spans whose row is older than they are.
    changed: BTreeSet<u64>,
}

/// What was changed is soon what is stored.
impl PartialEq for Spans {
    fn eq(&self, other: &Self) -> bool {
        self.bits == other.bits
    }
}

impl Spans {
    /// Takes in a span as it was stored.
    pub fn load(&mut self, span: u64, bits: u64) {
        self.bits.insert(span, bits);
    }

    pub fn contains(&self, id: JobId) -> bool {
        let (span, bit) = place(id);
        self.bits.get(&span).is_some_and(|bits| bits & bit != 0)
    }

    pub fn add(&mut self, id: JobId) {
        let (span, bit) = place(id);
        *self.bits.entry(span).or_default() |= bit;
        self.changed.insert(span);
    }

    /// Says whether it was there.
    pub fn remove(&mut self, id: JobId) -> bool {
        let (span, bit) = place(id);
        let Some(bits) = self.bits.get_mut(&span).filter(|bits| **bits & bit != 0) else { return false };
        *bits &= !bit;
        if *bits == 0 {
            self.bits.remove(&span);
        }
        self.changed.insert(span);
        true
    }

    pub fn iter(&self) -> impl Iterator<Item = (u64, u64)> {
        self.bits.iter().map(|(span, bits)| (*span, *bits))
    }

    /// What has changed since the last call, as it is now.
    pub fn take_changed(&mut self) -> impl Iterator<Item = (u64, u64)> {
        let bits = &self.bits;
        std::mem::take(&mut self.changed).into_iter().map(|span| (span, bits.get(&span).copied().unwrap_or_default()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_those_that_were_placed() {
        let all = [0, 1, 63, 64, 127, 6400, 6463].map(JobId);
        let mut spans = Spans::default();
        all.iter().for_each(|id| spans.add(*id));
        let found: Vec<JobId> = spans.iter().flat_map(|(span, bits)| ids(span, bits)).collect();
        assert_eq!(found, all);
        assert!(spans.contains(JobId(63)) && !spans.contains(JobId(62)));
    }

    #[test]
    fn changed_are_spans_since_the_last_call_the_emptied_ones_too() {
        let mut spans = Spans::default();
        [1, 2, 64].map(JobId).into_iter().for_each(|id| spans.add(id));
        assert_eq!(spans.take_changed().collect::<Vec<_>>(), [(0, 0b110), (1, 1)]);
        assert_eq!(spans.take_changed().count(), 0);
        assert!(spans.remove(JobId(64)) && !spans.remove(JobId(64)) && spans.remove(JobId(1)));
        assert_eq!(spans.take_changed().collect::<Vec<_>>(), [(0, 0b100), (1, 0)]);
        assert_eq!(spans.iter().collect::<Vec<_>>(), [(0, 0b100)]);
    }
}
