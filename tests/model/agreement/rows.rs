//! Every row that is stored, against what the model says must be: no fewer, no more.

use std::collections::BTreeMap;

use raftq::queue::{
    applied::Answer,
    job::{Attempt, LogLine, OpResult, Reason, Spec},
    rows::{KeyName, KeySlot, Row, RowKey},
    settings::{Pool, Settings},
};

use super::{
    compare::{plain, same},
    expected::expected,
};
use crate::{
    reference::{Model, Name},
    store::Store,
};

/// A name's row may say a number that is less than this below the highest one, if it says that it may.
const LAG_MAX: u64 = 16;

/// What the model says of one row.
pub enum Mine<'a> {
    Exactly(Row),
    /// It need not be there while it says no more than this.
    Unless(Row),
    /// It must be there: jobs are compared elsewhere, and what a resource group has learned is asked for with every claim.
    There,
    /// Nobody asks for it: left of a job that has ended, or work that is still to be done.
    Perhaps,
    Spec(&'a Spec),
    Result(&'a OpResult),
    Attempt(&'a Attempt),
    Log(&'a LogLine),
    Reason(&'a Reason),
    Name(&'a Name),
    Answer(u64, u128, &'a Answer),
}

pub fn same_rows(model: &Model, store: &Store) -> Result<(), String> {
    let mut expected: BTreeMap<RowKey, Mine> = expected(model);
    for (key, row) in &store.rows {
        match expected.remove(key) {
            Some(mine) => mine.allows(row).map_err(|what| format!("row {key:?}: {what}"))?,
            None if may_be_left(model, key, row) => {}
            None => return Err(format!("row {key:?} should not be: {row:?}")),
        }
    }
    let missing = expected.iter().find(|(key, mine)| !mine.may_be_absent(key));
    missing.map_or(Ok(()), |(key, _)| Err(format!("row {key:?} is missing")))
}

/// The ring of a name's answers keeps what is too old to be asked for until its slot is wanted.
fn may_be_left(model: &Model, key: &RowKey, row: &Row) -> bool {
    let (RowKey::KeySlot(principal, name, _), Row::KeySlot(slot)) = (key, row) else { return false };
    model.keys.get(&(principal.clone(), name.clone())).is_some_and(|name| slot.number < name.oldest())
}

impl Mine<'_> {
    fn may_be_absent(&self, key: &RowKey) -> bool {
        match self {
            Mine::Perhaps => true,
            Mine::Unless(row) => Some(row) == default(key).as_ref(),
            _ => false,
        }
    }

    fn allows(&self, row: &Row) -> Result<(), String> {
        match (self, row) {
            (Mine::There | Mine::Perhaps, _) => Ok(()),
            (Mine::Exactly(mine) | Mine::Unless(mine), theirs) => same("it", mine, theirs),
            (Mine::Spec(mine), Row::Born(theirs, _)) => same("it", *mine, theirs),
            (Mine::Attempt(mine), Row::Attempt(theirs)) => same("it", *mine, theirs),
            (Mine::Log(mine), Row::Log(theirs)) => same("it", *mine, theirs),
            (Mine::Reason(mine), Row::Reason(theirs)) => same("it", *mine, theirs),
            (Mine::Result(mine), Row::Result(theirs)) => same_result(mine, theirs),
            (Mine::Name(mine), Row::KeyName(KeyName { highest, used })) => {
                same("it", &(mine.highest, mine.used), &(*highest, *used))
            }
            (Mine::Name(mine), Row::KeyAhead(KeyName { highest, used })) => {
                same("when it was used", &mine.used, used)?;
                let is_near = *highest <= mine.highest && mine.highest - highest < LAG_MAX;
                same("whether its number is near the highest", &true, &is_near)
            }
            (Mine::Answer(number, digest, answer), Row::KeySlot(theirs)) => {
                let KeySlot { number: theirs_number, digest: theirs_digest, answer: theirs, .. } = &**theirs;
                same("what was asked", &(*number, *digest), &(*theirs_number, *theirs_digest))?;
                same("what was answered", &plain(answer), &plain(theirs))
            }
            _ => Err(format!("it is of another kind: {row:?}")),
        }
    }
}

/// What is not stored is as it was from the beginning.
fn default(key: &RowKey) -> Option<Row> {
    match key {
        RowKey::Drain => Some(Row::Drain(Box::default())),
        RowKey::Pool => Some(Row::Pool(Pool::default())),
        RowKey::Settings => Some(Row::Settings(Settings::default())),
        _ => None,
    }
}

/// In which words a job that came along was refused is free.
fn same_result(mine: &OpResult, theirs: &OpResult) -> Result<(), String> {
    let codes = |of: &OpResult| {
        let told = of.jobs.iter().map(|job| job.as_ref().copied().map_err(|(code, _)| code.clone()));
        told.collect::<Vec<_>>()
    };
    same("the result", &mine.result, &theirs.result)?;
    same("the jobs it brought along", &codes(mine), &codes(theirs))
}
