//! Idempotency keys: a write repeated under its key has one effect and one answer (P7, design 2.2).
//!
//! A key is a name and a rising number. Of each name the state holds the highest number in memory and the answers to the
//! last 1024 in rows. A number above the highest is new for certain and costs no read.
//!
//! The highest number has a row too, which lags behind: a busy name would write it with every request. Whoever loads the
//! state looks for the few answers beyond.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::{
    applied::Answer,
    command::Key,
    ids::ClusterMs,
    limits,
    refusal::Refusal,
    rows::{KeyName, KeySlot, Row, RowKey, Rows},
    step::Step,
};

/// Uses are noted in steps of this many milliseconds, rounded up, so that a busy name does not move in the index with every
/// request.
const USE_STEP_MS: u64 = 10_000;
/// A name's row says its highest number, or one that is less than this below it.
const LAG_MAX: u64 = 16;

type Principal = Arc<str>;
type Name = Arc<str>;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Keys {
    names: BTreeMap<Principal, BTreeMap<Name, Known>>,
    by_use: BTreeSet<(ClusterMs, Principal, Name)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Known {
    highest: u64,
    used: ClusterMs,
    /// What the name's row says, and whether it says that this may be behind.
    stored: u64,
    lags: bool,
}

/// What is known of a key.
pub enum Seen {
    First,
    Answered(Answer),
    Refused(Refusal),
}

impl Keys {
    pub fn load(rows: &dyn Rows) -> Self {
        let mut keys = Keys::default();
        rows.scan(&RowKey::KeyName("".into(), "".into()), &mut |key, row| {
            let RowKey::KeyName(principal, name) = key else { panic!("a scan stays within its kind") };
            let (KeyName { highest, used }, lags) = match row {
                Row::KeyName(known) => (known, false),
                Row::KeyAhead(known) => (known, true),
                _ => panic!("a key name's row holds what is known of it"),
            };
            let ahead = lags.then(|| kept_beyond(rows, &principal, &name, highest)).flatten();
            let known = Known { highest: ahead.unwrap_or(highest), used, stored: highest, lags };
            keys.insert(&principal, &name, known);
            true
        });
        keys
    }

    fn known(&self, principal: &str, name: &str) -> Option<Known> {
        self.names.get(principal)?.get(name).copied()
    }

    fn insert(&mut self, principal: &Principal, name: &Name, known: Known) {
        self.by_use.insert((known.used, principal.clone(), name.clone()));
        self.names.entry(principal.clone()).or_default().insert(name.clone(), known);
    }

    /// Notes one more use of a name; gives what its row is to say, if that must be written.
    fn note(&mut self, principal: &Principal, name: &Name, number: u64, used: ClusterMs) -> Option<Row> {
        let Some(known) = self.names.get_mut(principal).and_then(|names| names.get_mut(name)) else {
            let known = Known { highest: number, used, stored: number, lags: false };
            self.insert(principal, name, known);
            return Some(known.row());
        };
        let before = *known;
        let (after, is_stale) = before.seen(number, used);
        *known = after;
        if before.used != used {
            self.by_use.remove(&(before.used, principal.clone(), name.clone()));
            self.by_use.insert((used, principal.clone(), name.clone()));
        }
        is_stale.then(|| after.row())
    }

    fn remove(&mut self, used: ClusterMs, principal: &Principal, name: &Name) {
        self.by_use.remove(&(used, principal.clone(), name.clone()));
        let names = self.names.get_mut(principal).expect("an indexed name is known");
        names.remove(name);
        if names.is_empty() {
            self.names.remove(principal);
        }
    }

    /// When the name that has been unused longest is dropped.
    pub fn next_deadline(&self) -> Option<ClusterMs> {
        self.by_use.first().map(|(used, ..)| used.after(limits::KEY_UNUSED_MS))
    }

    pub fn names(&self) -> usize {
        self.by_use.len()
    }

    /// The next name whose time has come.
    fn expired(&self, now: ClusterMs) -> Option<(ClusterMs, Principal, Name)> {
        self.by_use.first().filter(|(used, ..)| used.after(limits::KEY_UNUSED_MS) <= now).cloned()
    }
}

/// Whether this key has been answered before.
pub fn look_up(step: &Step, key: &Key) -> Seen {
    let Some(known) = step.state.keys.known(&step.principal, &key.name) else {
        return match limits::check_key(key) {
            Err(refusal) => Seen::Refused(refusal),
            Ok(()) if step.state.keys.names() >= limits::KEY_NAMES_MAX => Seen::Refused(too_many_names()),
            Ok(()) => Seen::First,
        };
    };
    if let Err(refusal) = limits::check_key_number(key) {
        return Seen::Refused(refusal);
    }
    if key.number > known.highest {
        return Seen::First;
    }
    if known.highest - key.number >= limits::KEY_ANSWERS {
        return Seen::Refused(Refusal::KeyExpired { oldest: known.highest - (limits::KEY_ANSWERS - 1) });
    }
    match step.read(&slot(step, key)) {
        Some(Row::KeySlot(kept)) if kept.number == key.number => repeat(key, *kept),
        _ => Seen::First,
    }
}

fn repeat(key: &Key, kept: KeySlot) -> Seen {
    if kept.digest == key.digest {
        return Seen::Answered(kept.answer);
    }
    let message = format!("idempotency key {}/{} was used for another request; use a new number", key.name, key.number);
    Seen::Refused(Refusal::Conflict { message: message.into() })
}

fn too_many_names() -> Refusal {
    let message = "too many idempotency names are in use; repeat under a name that is known, or wait";
    Refusal::Busy { message: message.into() }
}

/// Keeps the first answer to a key. A claim that found nothing has done nothing: one that waits is proposed under the same key
/// until it finds something, and that is its answer.
pub fn keep(step: &mut Step, key: &Key, answer: &Answer) {
    if matches!(answer, Answer::Claimed(claimed) if claimed.is_empty()) {
        return;
    }
    let row = KeySlot { number: key.number, digest: key.digest, index: step.index, answer: answer.clone() };
    let slot = slot(step, key);
    step.state.changes.put(slot, Row::KeySlot(Box::new(row)));
    note_use(step, key);
}

/// The name is in use: it is kept from now on for another quarter of an hour. A repeat is a use like the first time, else
/// a client that repeats for longer than that would see its request take effect again.
pub fn note_use(step: &mut Step, key: &Key) {
    let used = ClusterMs(step.now().0.checked_next_multiple_of(USE_STEP_MS).unwrap_or(u64::MAX));
    if let Some(row) = step.state.keys.note(&step.principal, &key.name, key.number, used) {
        step.state.changes.put(RowKey::KeyName(step.principal.clone(), key.name.clone()), row);
    }
}

impl Known {
    /// After one more use, and whether its row must be written for it.
    fn seen(self, number: u64, used: ClusterMs) -> (Self, bool) {
        let highest = self.highest.max(number);
        let rises = highest > self.highest;
        // What a row says not to lag behind, it must not come to lag behind.
        let is_stale = used != self.used || (rises && (!self.lags || highest - self.stored >= LAG_MAX));
        let lags = self.lags || rises;
        let stored = if is_stale { highest } else { self.stored };
        (Self { highest, used, stored, lags }, is_stale)
    }

    fn row(self) -> Row {
        let row = KeyName { highest: self.stored, used: self.used };
        if self.lags { Row::KeyAhead(row) } else { Row::KeyName(row) }
    }
}

/// The highest number above `stored` whose answer is kept. Most of those that it may be were never used, and rows that are not
/// there are dear to look for: so their slots, which lie side by side, are gone through.
fn kept_beyond(rows: &dyn Rows, principal: &Principal, name: &Name, stored: u64) -> Option<u64> {
    let beyond = stored.saturating_add(1)..stored.saturating_add(LAG_MAX);
    let mut highest = None;
    let mut look_from = |number: u64| {
        let slots = number % limits::KEY_ANSWERS..number % limits::KEY_ANSWERS + LAG_MAX;
        rows.scan(&slot_of(principal, name, number), &mut |key, row| match (key, row) {
            (RowKey::KeySlot(whose, of, slot), Row::KeySlot(kept))
                if (&whose, &of) == (principal, name) && slots.contains(&u64::from(slot)) =>
            {
                highest = highest.max(Some(kept.number).filter(|number| beyond.contains(number)));
                true
            }
            _ => false,
        });
    };
    look_from(beyond.start);
    // Behind the last slot comes the first.
    let round = beyond.start.next_multiple_of(limits::KEY_ANSWERS);
    if beyond.contains(&round) && round != beyond.start {
        look_from(round);
    }
    highest
}

/// Drops the names whose time has come, at most `piece`; says how many.
pub fn expire(step: &mut Step, piece: usize) -> usize {
    let mut dropped = 0;
    while dropped < piece {
        let Some((used, principal, name)) = step.state.keys.expired(step.now()) else { break };
        step.state.keys.remove(used, &principal, &name);
        step.state.changes.drop_name(&principal, &name);
        dropped += 1;
    }
    dropped
}

fn slot(step: &Step, key: &Key) -> RowKey {
    slot_of(&step.principal, &key.name, key.number)
}

fn slot_of(principal: &Principal, name: &Name, number: u64) -> RowKey {
    RowKey::KeySlot(principal.clone(), name.clone(), (number % limits::KEY_ANSWERS) as u32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::queue::{command::Command, state::State, testing::Bench};

    fn key(number: u64) -> Key {
        Key { name: "n".into(), number, digest: u128::from(number) }
    }

    /// Uses the number, and gives the row of the name; the bench compares the state with what its rows load to.
    fn used(bench: &mut Bench, number: u64) -> Option<Row> {
        bench.apply("p", Some(key(number)), Command::Submit { jobs: Vec::new(), atomic: false });
        bench.rows.get(&RowKey::KeyName("p".into(), "n".into()))
    }

    #[test]
    fn row_of_a_busy_name_lags_by_less_than_its_steps() {
        let mut bench = Bench::default();
        let mut written = Vec::new();
        for number in [0, 1, 2, 16, 17, 18, 40, 39, 55, 56] {
            let row = used(&mut bench, number);
            if written.last() != Some(&row) {
                written.push(row);
            }
        }
        let ahead = |highest| Some(Row::KeyAhead(KeyName { highest, used: ClusterMs(0) }));
        let first = Some(Row::KeyName(KeyName { highest: 0, used: ClusterMs(0) }));
        assert_eq!(written, [first, ahead(1), ahead(17), ahead(40), ahead(56)]);
    }

    #[test]
    fn row_of_a_name_used_once_never_lags() {
        let mut bench = Bench::default();
        used(&mut bench, 7);
        bench.advance(USE_STEP_MS);
        let row = used(&mut bench, 7);
        assert_eq!(row, Some(Row::KeyName(KeyName { highest: 7, used: ClusterMs(USE_STEP_MS) })));
    }

    #[test]
    fn numbers_skipped_before_a_restart_are_told_from_new_ones() {
        let mut bench = Bench::default();
        for number in [3, 4, 9] {
            used(&mut bench, number);
        }
        let loaded = State::load(&bench.rows);
        assert_eq!(loaded.keys.known("p", "n").map(|known| known.highest), Some(9));
    }

    /// Behind the last slot comes the first, with answers of numbers long gone in between.
    #[test]
    fn highest_number_is_found_after_a_restart_wherever_the_slots_begin_anew() {
        for start in
            [0, 1, limits::KEY_ANSWERS - 9, limits::KEY_ANSWERS - 2, limits::KEY_ANSWERS - 1, 3 * limits::KEY_ANSWERS]
        {
            for ahead in [0, 1, 5, LAG_MAX - 1] {
                let mut bench = Bench::default();
                // Leaves answers of a round before in the slots that the later numbers have.
                (0..limits::KEY_ANSWERS.min(start)).for_each(|number| drop(used(&mut bench, number)));
                used(&mut bench, start + LAG_MAX);
                used(&mut bench, start + 2 * LAG_MAX);
                used(&mut bench, start + 2 * LAG_MAX + ahead);
                bench.apply(
                    "p",
                    Some(Key { name: "o".into(), ..key(start + 3 * LAG_MAX) }),
                    Command::Submit { jobs: Vec::new(), atomic: false },
                );
                let loaded = State::load(&bench.rows);
                let highest = loaded.keys.known("p", "n").map(|known| known.highest);
                assert_eq!(highest, Some(start + 2 * LAG_MAX + ahead), "from {start}");
            }
        }
    }
}
