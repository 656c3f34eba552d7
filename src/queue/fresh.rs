//! Live jobs to which nothing has happened since they came. Such a job needs no row of its own: its spec and its [`Birth`] say
//! all of it. That it is one of them is one bit, and the bits of 64 neighbours are one row, so a submission writes its spec
//! and little else. With its first change a job gets a row, or a grant's ([`super::granted`]), and the bit goes for ever.
//!
//! [`Birth`]: super::birth::Birth

use super::{
    ids::JobId,
    job::Job,
    rows::{Changes, Row, RowKey, Rows},
    span::{self, Spans},
};

/// A larger spec is not read at start for what a row says in a hundred bytes.
pub const SPEC_BYTES_MAX: u32 = 1024;
/// Where there are so many in a span, all its specs are read along; fewer are looked up.
const MANY: u32 = 48;

/// Which jobs of a span are fresh, as its row has it.
pub fn bits(row: &Row) -> u64 {
    let Row::Count(bits) = row else { panic!("a row of fresh jobs holds bits") };
    *bits
}

pub fn load(rows: &dyn Rows) -> Spans {
    let mut fresh = Spans::default();
    rows.scan(&RowKey::Fresh(0), &mut |key, row| {
        let RowKey::Fresh(span) = key else { panic!("a scan stays within its kind") };
        fresh.load(span, bits(&row));
        true
    });
    fresh
}

/// Writes what has changed since the last call.
pub fn store(fresh: &mut Spans, changes: &mut Changes) {
    for (span, bits) in fresh.take_changed() {
        match bits {
            0 => changes.delete(RowKey::Fresh(span)),
            bits => changes.put(RowKey::Fresh(span), Row::Count(bits)),
        }
    }
}

/// These jobs of a span as they came, made anew from what is stored.
pub fn as_they_came(rows: &dyn Rows, span: u64, bits: u64, mut each: impl FnMut(Job)) {
    let found = if bits.count_ones() < MANY {
        look_up(rows, span, bits, &mut each)
    } else {
        read_along(rows, span, bits, &mut each)
    };
    assert_eq!(found, bits, "a job of span {span} has no spec");
}

/// Whether the rows of fresh jobs name this one.
pub fn names(rows: &dyn Rows, id: JobId) -> bool {
    let (span, bit) = span::place(id);
    rows.get(&RowKey::Fresh(span)).is_some_and(|row| bits(&row) & bit != 0)
}

/// A job as it came.
pub fn as_it_came(rows: &dyn Rows, id: JobId) -> Option<Job> {
    let (spec, birth) = rows.get(&RowKey::Spec(id)).and_then(Row::into_spec)?;
    Some(birth.of(id, &spec))
}

fn look_up(rows: &dyn Rows, span: u64, bits: u64, each: &mut dyn FnMut(Job)) -> u64 {
    let mut found = 0;
    for job in span::ids(span, bits).filter_map(|id| as_it_came(rows, id)) {
        found |= span::place(job.id).1;
        each(job);
    }
    found
}

fn read_along(rows: &dyn Rows, span: u64, bits: u64, each: &mut dyn FnMut(Job)) -> u64 {
    let Some(first) = span::ids(span, bits).next() else { return 0 };
    let mut found = 0;
    rows.scan(&RowKey::Spec(first), &mut |key, row| {
        let RowKey::Spec(id) = key else { panic!("a scan stays within its kind") };
        let (of, bit) = span::place(id);
        if of == span && bits & bit != 0 {
            let (spec, birth) = row.into_spec().expect("a spec's row holds a spec");
            found |= bit;
            each(birth.of(id, &spec));
        }
        of == span && found != bits
    });
    found
}
