//! Live jobs, as rows have them: in a row of their own, or told by their specs, alone ([`fresh`]) or with a grant ([`granted`]).

use super::{
    fresh, granted,
    ids::JobId,
    job::Job,
    rows::{Row, RowKey, Rows},
    span::{self, Spans},
};

/// Every one of them; gives those that are fresh, and those that are granted.
pub fn load(rows: &dyn Rows, mut each: impl FnMut(Box<Job>)) -> (Spans, Spans) {
    rows.scan(&RowKey::Live(JobId(0)), &mut |_, row| {
        each(own(row).expect("the row of a live job holds a job"));
        true
    });
    let fresh = fresh::load(rows);
    for (span, bits) in fresh.iter() {
        fresh::as_they_came(rows, span, bits, |job| each(Box::new(job)));
    }
    let granted = granted::load(rows, |job| each(Box::new(job)));
    (fresh, granted)
}

pub fn job(rows: &dyn Rows, id: JobId) -> Option<Box<Job>> {
    if let Some(row) = rows.get(&RowKey::Live(id)) {
        return own(row);
    }
    let (span, bit) = span::place(id);
    let granted = rows.get(&RowKey::Granted(span)).map(granted::grants).filter(|grants| grants.bits() & bit != 0);
    if granted.is_none() && !fresh::names(rows, id) {
        return None;
    }
    let mut job = fresh::as_it_came(rows, id).expect("a live job has a spec");
    if let Some(grants) = granted {
        grants.apply(&mut job);
    }
    Some(Box::new(job))
}

fn own(row: Row) -> Option<Box<Job>> {
    match row {
        Row::Job(job) => Some(job),
        _ => None,
    }
}
