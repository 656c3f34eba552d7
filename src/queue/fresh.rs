//! Live jobs to which nothing has happened since they came. Such a job needs no row of its own: its spec and its [`Birth`] say
//! all of it. That it is one of them is one bit, and the bits of 64 neighbours are one row, so a submission writes its spec
//! and little else. With its first change a job gets a row, and the bit goes for ever.
//!
//! [`Birth`]: super::birth::Birth

use std::collections::{BTreeMap, BTreeSet};

use super::{
    ids::JobId,
    job::Job,
    rows::{Changes, Row, RowKey, Rows},
};

/// A larger spec is not read at start for what a row says in a hundred bytes.
pub const SPEC_BYTES_MAX: u32 = 1024;
/// Where there are so many in a span, all its specs are read along; fewer are looked up.
const MANY: u32 = 48;
const SPAN: u64 = u64::BITS as u64;

#[derive(Clone, Debug, Default)]
pub struct Fresh {
    /// By id divided by [`SPAN`], the remainders as bits. No span is empty.
    spans: BTreeMap<u64, u64>,
    /// Spans whose row is older than they are.
    changed: BTreeSet<u64>,
}

/// What was changed is soon what is stored.
impl PartialEq for Fresh {
    fn eq(&self, other: &Self) -> bool {
        self.spans == other.spans
    }
}

impl Fresh {
    pub fn load(rows: &dyn Rows) -> Self {
        let mut fresh = Self::default();
        rows.scan(&RowKey::Fresh(0), &mut |key, row| {
            let (RowKey::Fresh(span), Row::Count(bits)) = (key, row) else { panic!("a row of fresh jobs holds bits") };
            fresh.add_row(span, bits);
            true
        });
        fresh
    }

    /// Takes in a row as it was stored.
    pub fn add_row(&mut self, span: u64, bits: u64) {
        self.spans.insert(span, bits);
    }

    pub fn contains(&self, id: JobId) -> bool {
        let (span, bit) = place(id);
        self.spans.get(&span).is_some_and(|bits| bits & bit != 0)
    }

    pub fn add(&mut self, id: JobId) {
        let (span, bit) = place(id);
        *self.spans.entry(span).or_default() |= bit;
        self.changed.insert(span);
    }

    /// Says whether it was one.
    pub fn remove(&mut self, id: JobId) -> bool {
        let (span, bit) = place(id);
        let Some(bits) = self.spans.get_mut(&span).filter(|bits| **bits & bit != 0) else { return false };
        *bits &= !bit;
        if *bits == 0 {
            self.spans.remove(&span);
        }
        self.changed.insert(span);
        true
    }

    /// Writes what has changed since the last call.
    pub fn store(&mut self, changes: &mut Changes) {
        for span in std::mem::take(&mut self.changed) {
            match self.spans.get(&span) {
                Some(bits) => changes.put(RowKey::Fresh(span), Row::Count(*bits)),
                None => changes.delete(RowKey::Fresh(span)),
            }
        }
    }

    /// Every one of them, made anew from what is stored.
    pub fn jobs(&self, rows: &dyn Rows, mut each: impl FnMut(Job)) {
        for (&span, &bits) in &self.spans {
            let found = if bits.count_ones() < MANY {
                look_up(rows, span, bits, &mut each)
            } else {
                read_along(rows, span, bits, &mut each)
            };
            assert_eq!(found, bits, "a fresh job of span {span} has no spec");
        }
    }
}

/// Whether the rows of fresh jobs name this one.
fn is_fresh(rows: &dyn Rows, id: JobId) -> bool {
    let (span, bit) = place(id);
    matches!(rows.get(&RowKey::Fresh(span)), Some(Row::Count(bits)) if bits & bit != 0)
}

/// A live job, as these rows have it.
pub fn live_job(rows: &dyn Rows, id: JobId) -> Option<Box<Job>> {
    match rows.get(&RowKey::Live(id)) {
        Some(Row::Job(job)) => return Some(job),
        Some(other) => panic!("the row of a live job holds a job, not {other:?}"),
        None if !is_fresh(rows, id) => return None,
        None => {}
    }
    let (spec, birth) = rows.get(&RowKey::Spec(id)).and_then(Row::into_spec).expect("a fresh job has a spec");
    Some(Box::new(birth.of(id, &spec)))
}

fn place(id: JobId) -> (u64, u64) {
    (id.0 / SPAN, 1 << (id.0 % SPAN))
}

fn look_up(rows: &dyn Rows, span: u64, bits: u64, each: &mut dyn FnMut(Job)) -> u64 {
    let mut found = 0;
    for at in (0..SPAN).filter(|at| bits & (1 << at) != 0) {
        let id = JobId(span * SPAN + at);
        if let Some((spec, birth)) = rows.get(&RowKey::Spec(id)).and_then(Row::into_spec) {
            found |= 1 << at;
            each(birth.of(id, &spec));
        }
    }
    found
}

fn read_along(rows: &dyn Rows, span: u64, bits: u64, each: &mut dyn FnMut(Job)) -> u64 {
    let mut found = 0;
    rows.scan(&RowKey::Spec(JobId(span * SPAN)), &mut |key, row| {
        let RowKey::Spec(id) = key else { panic!("a scan stays within its kind") };
        let (of, bit) = place(id);
        if of == span && bits & bit != 0 {
            let (spec, birth) = row.into_spec().expect("a spec's row holds a spec");
            found |= bit;
            each(birth.of(id, &spec));
        }
        of == span && found != bits
    });
    found
}
