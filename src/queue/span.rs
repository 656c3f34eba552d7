//! Neighbouring ids as the bits of one number. What can be said of many jobs with a yes or no is one small row for 64 of them,
//! written once for all that changed in a batch, where each would have had its own. In memory such a set is a few bytes for jobs
//! that came together, and a tree of few levels, where each job would have a place of its own.

use std::{
    collections::{BTreeMap, BTreeSet},
    iter,
};

use super::ids::{JobId, Priority};

const SPAN: u64 = u64::BITS as u64;

/// The span of an id, and its bit in there.
pub fn place(id: JobId) -> (u64, u64) {
    (id.0 / SPAN, 1 << (id.0 % SPAN))
}

/// The ids of a span whose bits are set, in order.
pub fn ids(span: u64, mut bits: u64) -> impl Iterator<Item = JobId> {
    iter::from_fn(move || {
        let id = first(span, bits);
        bits &= bits.wrapping_sub(1);
        id
    })
}

fn first(span: u64, bits: u64) -> Option<JobId> {
    (bits != 0).then(|| JobId(span * SPAN + u64::from(bits.trailing_zeros())))
}

/// A span's bits from this one on.
fn from(bits: u64, bit: u64) -> u64 {
    bits & !(bit - 1)
}

/// A set of ids.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ids {
    /// No span is empty.
    bits: BTreeMap<u64, u64>,
    count: usize,
}

impl Ids {
    pub fn insert(&mut self, id: JobId) {
        let (span, bit) = place(id);
        let bits = self.bits.entry(span).or_default();
        self.count += usize::from(*bits & bit == 0);
        *bits |= bit;
    }

    pub fn remove(&mut self, id: JobId) {
        let (span, bit) = place(id);
        let Some(bits) = self.bits.get_mut(&span).filter(|bits| **bits & bit != 0) else { return };
        *bits &= !bit;
        self.count -= 1;
        if *bits == 0 {
            self.bits.remove(&span);
        }
    }

    pub fn is_empty(&self) -> bool {
        self.bits.is_empty()
    }

    pub fn len(&self) -> usize {
        self.count
    }

    /// Those from `start` on, in order.
    pub fn since(&self, start: JobId) -> impl Iterator<Item = JobId> {
        let (first, bit) = place(start);
        let spans = self.bits.range(first..);
        spans.flat_map(move |(&span, &bits)| ids(span, if span == first { from(bits, bit) } else { bits }))
    }
}

/// Jobs by urgency: the lower priority first, and within one the one that came first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ByUrgency {
    /// By priority and span; none is empty.
    bits: BTreeMap<(Priority, u64), u64>,
}

impl ByUrgency {
    pub fn insert(&mut self, priority: Priority, id: JobId) {
        let (span, bit) = place(id);
        *self.bits.entry((priority, span)).or_default() |= bit;
    }

    pub fn remove(&mut self, priority: Priority, id: JobId) {
        let (span, bit) = place(id);
        let Some(bits) = self.bits.get_mut(&(priority, span)) else { return };
        *bits &= !bit;
        if *bits == 0 {
            self.bits.remove(&(priority, span));
        }
    }

    pub fn is_empty(&self) -> bool {
        self.bits.is_empty()
    }

    pub fn first(&self) -> Option<(Priority, JobId)> {
        let (&(priority, span), &bits) = self.bits.first_key_value()?;
        Some((priority, first(span, bits)?))
    }

    pub fn iter(&self) -> impl Iterator<Item = (Priority, JobId)> {
        self.since(Priority(i64::MIN), JobId(0))
    }

    /// Those from this place in the order on.
    pub fn since(&self, priority: Priority, id: JobId) -> impl Iterator<Item = (Priority, JobId)> {
        let (span, bit) = place(id);
        let start = (priority, span);
        self.bits.range(start..).flat_map(move |(&place, &bits)| {
            let bits = if place == start { from(bits, bit) } else { bits };
            ids(place.1, bits).map(move |id| (place.0, id))
        })
    }
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
    fn ids_since_one_are_in_order_and_counted() {
        let all = [0, 1, 63, 64, 127, 6400, 6463].map(JobId);
        let mut ids = Ids::default();
        all.iter().chain(&all).for_each(|id| ids.insert(*id));
        for start in 0..6500 {
            let since = all.iter().copied().filter(|id| id.0 >= start);
            assert!(ids.since(JobId(start)).eq(since), "since {start}");
        }
        assert_eq!(ids.len(), all.len());
        ids.remove(JobId(2));
        all.iter().for_each(|id| ids.remove(*id));
        assert_eq!(ids, Ids::default());
    }

    #[test]
    fn by_urgency_goes_by_priority_and_then_by_id() {
        let order =
            [(-5, 300), (0, 1), (0, 64), (0, 65), (7, 0), (7, 2)].map(|(priority, id)| (Priority(priority), JobId(id)));
        let mut jobs = ByUrgency::default();
        order.iter().rev().for_each(|(priority, id)| jobs.insert(*priority, *id));
        assert!(jobs.iter().eq(order));
        for (at, (priority, id)) in order.into_iter().enumerate() {
            assert!(jobs.since(priority, id).eq(order[at..].iter().copied()), "since {priority} {id}");
        }
        for (priority, id) in order {
            assert_eq!(jobs.first(), Some((priority, id)));
            jobs.remove(priority, id);
        }
        assert!(jobs.is_empty() && jobs.first().is_none());
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
