//! The queue's typed rows as bytes in the state store: which family, which key, which value.
//!
//! | family | keys | why apart |
//! |---|---|---|
//! | live | live jobs | all of it is read at start, and specs of jobs without a row |
//! | ended, archived | jobs that have ended | listings walk them |
//! | jobs | what belongs to a job: kind, job, rest | read one job at a time |
//! | index | kind, sorted text or time, job | listings and retention walk them |
//! | keys | idempotency names and kept answers | many, short-lived |
//! | settings | singletons and small tables | read at start |
//!
//! Within a family a key begins with its kind, so that a scan of one kind never walks through another.

use std::sync::Arc;

use super::stop::{Stop, StopReason};
use crate::{
    codec::{self, Format},
    queue::{
        ids::{JobId, WallMs},
        rows::{Changes, Row, RowKey, Rows},
    },
    storage::{
        Batch, Family, Pinned, StorageError, Store,
        key::{KeyBytes, KeyParts},
    },
};

pub const LIVE: Family = Family::of_runs("live", KIND_BYTES);
pub const ENDED: Family = Family::new("ended");
pub const ARCHIVED: Family = Family::new("archived");
pub const JOBS: Family = Family::of_runs("jobs", KIND_BYTES);
pub const INDEX: Family = Family::of_runs("index", KIND_BYTES);
/// A kept answer is read when its number is known to have been used; what may not be there is scanned for.
pub const KEYS: Family = Family::of_runs("keys", KEY_RUN_BYTES).unfiltered();
pub const SETTINGS: Family = Family::new("settings");
pub const META: Family = Family::new("meta");
pub const FAMILIES: &[Family] = &[LIVE, ENDED, ARCHIVED, JOBS, INDEX, KEYS, SETTINGS, META];

/// Rows of one kind come in the order of jobs, or of time.
const KIND_BYTES: usize = 1;
/// Enough of an idempotency key's row to tell names apart, whose answers come in rising slots: the kind, a principal, most
/// of a name.
const KEY_RUN_BYTES: usize = 24;

/// The first byte of a key: which kind of row it is within its family. Never reused, never renumbered.
mod kind {
    pub const JOB: u8 = 0;
    pub const SPEC: u8 = 1;
    pub const RESULT: u8 = 2;
    pub const ATTEMPT: u8 = 3;
    pub const LOG: u8 = 4;
    pub const REASON: u8 = 5;
    pub const CHECKPOINT: u8 = 6;
    pub const PROGRESS: u8 = 7;
    pub const WAITS: u8 = 8;
    pub const FRESH: u8 = 1;
    pub const GRANTED: u8 = 2;
    pub const ENDED_AT: u8 = 1;
    pub const ARCHIVED_AT: u8 = 2;
    pub const GROUP: u8 = 3;
    pub const UNIQUE: u8 = 4;
    pub const WAKING: u8 = 5;
    pub const KEY_NAME: u8 = 1;
    pub const KEY_SLOT: u8 = 2;
    pub const COUNTERS: u8 = 1;
    pub const DRAIN: u8 = 2;
    pub const POOL: u8 = 3;
    pub const SETTINGS: u8 = 4;
    pub const PAUSED: u8 = 5;
    pub const LIMIT: u8 = 6;
    pub const LEARNED: u8 = 7;
    pub const WORKER: u8 = 8;
    pub const ENVIRONMENT: u8 = 9;
    pub const ENDED_MINUTE: u8 = 10;
    pub const ENVIRONMENT_USES: u8 = 11;
    pub const SCHEDULE: u8 = 12;
    pub const SCHEDULE_SPEC: u8 = 13;
    pub const LOOK_AGAIN: u8 = 14;
    pub const QUEUE_ENDS: u8 = 15;
}

/// Kinds of the `jobs` family of which a job has several rows, and those of which it has at most one.
const KINDS_OF_MANY: [u8; 4] = [kind::RESULT, kind::ATTEMPT, kind::LOG, kind::REASON];
const KINDS_OF_ONE: [u8; 4] = [kind::SPEC, kind::CHECKPOINT, kind::PROGRESS, kind::WAITS];

/// Rows as they stand in the store now; for the apply thread, whose panic ends the process.
pub struct StoredRows(pub Arc<Store>);

/// Rows as they stood at one moment; for readers.
pub struct PinnedRows {
    pinned: Pinned,
    stop: Stop,
}

impl PinnedRows {
    pub fn new(pinned: Pinned, stop: Stop) -> Self {
        Self { pinned, stop }
    }

    pub fn pinned(&self) -> &Pinned {
        &self.pinned
    }

    /// As [`Rows::scan`], to before `to`, a key of the same kind.
    pub fn scan_to(&self, from: &RowKey, to: &RowKey, each: &mut dyn FnMut(RowKey, Row) -> bool) {
        let (_, end) = locate(to);
        scan(from, each, &mut |family, _, from, each| self.noted(self.pinned.scan_to(family, from, &end, each)));
    }

    /// A reader's panic ends only its own task, so the node is told as well.
    fn noted<T>(&self, result: Result<T, StorageError>) -> Result<T, StorageError> {
        result.inspect_err(|error| self.stop.because(StopReason::Disk(error.to_string())))
    }
}

impl Rows for StoredRows {
    fn get(&self, key: &RowKey) -> Option<Row> {
        let (family, bytes) = locate(key);
        readable(self.0.get(family, &bytes)).map(|bytes| row(&bytes))
    }

    fn scan(&self, from: &RowKey, each: &mut dyn FnMut(RowKey, Row) -> bool) {
        scan(from, each, &mut |family, prefix, from, each| self.0.scan(family, prefix, from, each));
    }
}

impl Rows for PinnedRows {
    fn get(&self, key: &RowKey) -> Option<Row> {
        let (family, bytes) = locate(key);
        readable(self.noted(self.pinned.get(family, &bytes))).map(|bytes| row(&bytes))
    }

    fn scan(&self, from: &RowKey, each: &mut dyn FnMut(RowKey, Row) -> bool) {
        let pinned = &self.pinned;
        scan(from, each, &mut |family, prefix, from, each| self.noted(pinned.scan(family, prefix, from, each)));
    }
}

/// Puts what apply changed into the batch that stores it.
///
/// # Errors
/// The rows of a dropped job cannot be listed.
pub fn put_changes(changes: &Changes, store: &Store, batch: &mut Batch) -> Result<(), StorageError> {
    for &job in &changes.dropped_jobs {
        drop_job(job, store, batch)?;
    }
    for (principal, name) in &changes.dropped_names {
        let slots = KeyBytes::new().byte(kind::KEY_SLOT).text(principal).text(name).finish();
        drop_prefix(KEYS, &slots, store, batch)?;
        batch.delete(KEYS, locate(&RowKey::KeyName(Arc::clone(principal), Arc::clone(name))).1);
    }
    for (key, row) in &changes.rows {
        let (family, key) = locate(key);
        match row {
            Some(row) => batch.put_with(family, key, |bytes| codec::encode_into(Format::ROW, row, bytes)),
            None => batch.delete(family, key),
        }
    }
    Ok(())
}

fn drop_job(job: JobId, store: &Store, batch: &mut Batch) -> Result<(), StorageError> {
    for family in [LIVE, ENDED, ARCHIVED] {
        batch.delete(family, of_job(kind::JOB, job).finish());
    }
    for kind in KINDS_OF_ONE {
        batch.delete(JOBS, of_job(kind, job).finish());
    }
    for kind in KINDS_OF_MANY {
        drop_prefix(JOBS, &of_job(kind, job).finish(), store, batch)?;
    }
    Ok(())
}

fn drop_prefix(family: Family, prefix: &[u8], store: &Store, batch: &mut Batch) -> Result<(), StorageError> {
    store.scan(family, prefix, prefix, &mut |key, _| {
        batch.delete(family, key);
        true
    })
}

fn of_job(kind: u8, job: JobId) -> KeyBytes {
    KeyBytes::new().byte(kind).u64(job.0)
}

/// Where a row is.
pub fn locate(key: &RowKey) -> (Family, Vec<u8>) {
    let start = |kind| KeyBytes::new().byte(kind);
    let (family, bytes) = match key {
        RowKey::Live(job) => (LIVE, of_job(kind::JOB, *job)),
        RowKey::Fresh(span) => (LIVE, start(kind::FRESH).u64(*span)),
        RowKey::Granted(span) => (LIVE, start(kind::GRANTED).u64(*span)),
        RowKey::Ended(job) => (ENDED, of_job(kind::JOB, *job)),
        RowKey::Archived(job) => (ARCHIVED, of_job(kind::JOB, *job)),
        RowKey::EndedAt(at, span) => (INDEX, start(kind::ENDED_AT).u64(at.0).u64(*span)),
        RowKey::ArchivedAt(at, span) => (INDEX, start(kind::ARCHIVED_AT).u64(at.0).u64(*span)),
        RowKey::Spec(job) => (JOBS, of_job(kind::SPEC, *job)),
        RowKey::Result(job, op) => (JOBS, of_job(kind::RESULT, *job).u32(*op)),
        RowKey::Attempt(job, op, slot) => (JOBS, of_job(kind::ATTEMPT, *job).u32(*op).u32(*slot)),
        RowKey::Log(job, serial) => (JOBS, of_job(kind::LOG, *job).u64(*serial)),
        RowKey::Reason(job, number) => (JOBS, of_job(kind::REASON, *job).u32(*number)),
        RowKey::Checkpoint(job) => (JOBS, of_job(kind::CHECKPOINT, *job)),
        RowKey::Progress(job) => (JOBS, of_job(kind::PROGRESS, *job)),
        RowKey::Waits(job) => (JOBS, of_job(kind::WAITS, *job)),
        RowKey::Group(label, job) => (INDEX, start(kind::GROUP).text(label).u64(job.0)),
        RowKey::Unique(key, job) => (INDEX, start(kind::UNIQUE).text(key).u64(job.0)),
        RowKey::Waking(job) => (INDEX, start(kind::WAKING).u64(job.0)),
        RowKey::KeyName(principal, name) => (KEYS, start(kind::KEY_NAME).text(principal).text(name)),
        RowKey::KeySlot(principal, name, slot) => (KEYS, start(kind::KEY_SLOT).text(principal).text(name).u32(*slot)),
        RowKey::Counters => (SETTINGS, start(kind::COUNTERS)),
        RowKey::Drain => (SETTINGS, start(kind::DRAIN)),
        RowKey::Pool => (SETTINGS, start(kind::POOL)),
        RowKey::Settings => (SETTINGS, start(kind::SETTINGS)),
        RowKey::Paused(queue) => (SETTINGS, start(kind::PAUSED).text(queue)),
        RowKey::Limit(name) => (SETTINGS, start(kind::LIMIT).text(name)),
        RowKey::Learned(group) => (SETTINGS, start(kind::LEARNED).text(group)),
        RowKey::Worker(id) => (SETTINGS, start(kind::WORKER).text(id)),
        RowKey::Environment(digest) => (SETTINGS, start(kind::ENVIRONMENT).u128(*digest)),
        RowKey::EnvironmentUses(digest) => (SETTINGS, start(kind::ENVIRONMENT_USES).u128(*digest)),
        RowKey::Schedule(name) => (SETTINGS, start(kind::SCHEDULE).text(name)),
        RowKey::ScheduleSpec(name) => (SETTINGS, start(kind::SCHEDULE_SPEC).text(name)),
        RowKey::LookAgain => (SETTINGS, start(kind::LOOK_AGAIN)),
        RowKey::QueueEnds(queue) => (SETTINGS, start(kind::QUEUE_ENDS).text(queue)),
        RowKey::EndedMinute(minute) => (SETTINGS, start(kind::ENDED_MINUTE).u64(*minute)),
    };
    (family, bytes.finish())
}

/// Which row a key is of; `None` for what is no key of ours.
pub fn identify(family: Family, key: &[u8]) -> Option<RowKey> {
    let mut parts = KeyParts(key);
    let kind = parts.byte()?;
    let p = &mut parts;
    match family {
        LIVE if kind == kind::FRESH => p.u64().map(RowKey::Fresh),
        LIVE if kind == kind::GRANTED => p.u64().map(RowKey::Granted),
        LIVE => job(p).map(RowKey::Live),
        ENDED => job(p).map(RowKey::Ended),
        ARCHIVED => job(p).map(RowKey::Archived),
        JOBS => identify_of_job(kind, p),
        INDEX => identify_index(kind, p),
        KEYS => identify_key(kind, p),
        SETTINGS => identify_setting(kind, p),
        _ => None,
    }
}

fn identify_of_job(kind: u8, p: &mut KeyParts<'_>) -> Option<RowKey> {
    let job = job(p)?;
    match kind {
        kind::SPEC => Some(RowKey::Spec(job)),
        kind::RESULT => Some(RowKey::Result(job, p.u32()?)),
        kind::ATTEMPT => Some(RowKey::Attempt(job, p.u32()?, p.u32()?)),
        kind::LOG => Some(RowKey::Log(job, p.u64()?)),
        kind::REASON => Some(RowKey::Reason(job, p.u32()?)),
        kind::CHECKPOINT => Some(RowKey::Checkpoint(job)),
        kind::PROGRESS => Some(RowKey::Progress(job)),
        kind::WAITS => Some(RowKey::Waits(job)),
        _ => None,
    }
}

fn identify_index(kind: u8, p: &mut KeyParts<'_>) -> Option<RowKey> {
    match kind {
        kind::ENDED_AT => Some(RowKey::EndedAt(WallMs(p.u64()?), p.u64()?)),
        kind::ARCHIVED_AT => Some(RowKey::ArchivedAt(WallMs(p.u64()?), p.u64()?)),
        kind::GROUP => Some(RowKey::Group(text(p)?, job(p)?)),
        kind::UNIQUE => Some(RowKey::Unique(text(p)?, job(p)?)),
        kind::WAKING => job(p).map(RowKey::Waking),
        _ => None,
    }
}

fn identify_key(kind: u8, p: &mut KeyParts<'_>) -> Option<RowKey> {
    match kind {
        kind::KEY_NAME => Some(RowKey::KeyName(text(p)?, text(p)?)),
        kind::KEY_SLOT => Some(RowKey::KeySlot(text(p)?, text(p)?, p.u32()?)),
        _ => None,
    }
}

fn identify_setting(kind: u8, p: &mut KeyParts<'_>) -> Option<RowKey> {
    match kind {
        kind::COUNTERS => Some(RowKey::Counters),
        kind::DRAIN => Some(RowKey::Drain),
        kind::POOL => Some(RowKey::Pool),
        kind::SETTINGS => Some(RowKey::Settings),
        kind::PAUSED => text(p).map(RowKey::Paused),
        kind::LIMIT => text(p).map(RowKey::Limit),
        kind::LEARNED => text(p).map(RowKey::Learned),
        kind::WORKER => text(p).map(RowKey::Worker),
        kind::ENVIRONMENT => p.u128().map(RowKey::Environment),
        kind::ENVIRONMENT_USES => p.u128().map(RowKey::EnvironmentUses),
        kind::SCHEDULE => text(p).map(RowKey::Schedule),
        kind::SCHEDULE_SPEC => text(p).map(RowKey::ScheduleSpec),
        kind::QUEUE_ENDS => text(p).map(RowKey::QueueEnds),
        kind::ENDED_MINUTE => p.u64().map(RowKey::EndedMinute),
        kind::LOOK_AGAIN => Some(RowKey::LookAgain),
        _ => None,
    }
}

fn job(parts: &mut KeyParts<'_>) -> Option<JobId> {
    parts.u64().map(JobId)
}

fn text(parts: &mut KeyParts<'_>) -> Option<Arc<str>> {
    parts.text().map(Arc::from)
}

type Each<'a> = &'a mut dyn FnMut(&[u8], &[u8]) -> bool;
/// Family, prefix to stay within, first key.
type Walk<'a> = &'a mut dyn FnMut(Family, &[u8], &[u8], Each<'_>) -> Result<(), StorageError>;

fn scan(from: &RowKey, each: &mut dyn FnMut(RowKey, Row) -> bool, walk: Walk<'_>) {
    let (family, start) = locate(from);
    let walked = walk(family, &start[..scope_bytes(from)], &start, &mut |key, value| {
        let key = identify(family, key).expect("only rows of ours are written to this family");
        each(key, row(value))
    });
    readable(walked);
}

/// How much of a key a scan from it stays within: its kind, and the job where a job has several rows of the kind.
fn scope_bytes(from: &RowKey) -> usize {
    match from {
        RowKey::Result(..) | RowKey::Attempt(..) | RowKey::Log(..) | RowKey::Reason(..) => 1 + size_of::<u64>(),
        _ => 1,
    }
}

/// A row that cannot be read leaves no state to go on from: this ends the node, which keeps its data.
fn readable<T>(result: Result<T, StorageError>) -> T {
    result.unwrap_or_else(|error| panic!("the state store cannot be read: {error}"))
}

fn row(bytes: &[u8]) -> Row {
    codec::decode(Format::ROW, bytes).unwrap_or_else(|error| panic!("the state store cannot be read: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all_kinds() -> Vec<RowKey> {
        let (job, text) = (JobId(7), || Arc::<str>::from("a\0b"));
        vec![
            RowKey::Live(job),
            RowKey::Fresh(7),
            RowKey::Granted(7),
            RowKey::Ended(job),
            RowKey::Archived(job),
            RowKey::EndedAt(WallMs(9), 7),
            RowKey::ArchivedAt(WallMs(9), 7),
            RowKey::Spec(job),
            RowKey::Result(job, 1),
            RowKey::Attempt(job, 1, 2),
            RowKey::Log(job, 3),
            RowKey::Reason(job, 4),
            RowKey::Checkpoint(job),
            RowKey::Progress(job),
            RowKey::Group(text(), job),
            RowKey::Unique(text(), job),
            RowKey::KeyName(text(), text()),
            RowKey::KeySlot(text(), text(), 5),
            RowKey::Counters,
            RowKey::Drain,
            RowKey::Pool,
            RowKey::Settings,
            RowKey::Paused(text()),
            RowKey::Limit(text()),
            RowKey::Learned(text()),
            RowKey::Worker(text()),
            RowKey::Waits(job),
            RowKey::Environment(u128::MAX),
            RowKey::EnvironmentUses(u128::MAX),
            RowKey::EndedMinute(8),
            RowKey::Schedule(text()),
            RowKey::ScheduleSpec(text()),
            RowKey::QueueEnds(text()),
            RowKey::Waking(job),
            RowKey::LookAgain,
        ]
    }

    #[test]
    fn identify_gives_back_every_kind_of_key() {
        for key in all_kinds() {
            let (family, bytes) = locate(&key);
            assert_eq!(identify(family, &bytes), Some(key));
        }
    }

    #[test]
    fn locate_is_one_place_for_one_key() {
        let places: std::collections::BTreeSet<_> = all_kinds().iter().map(locate).collect();
        assert_eq!(places.len(), all_kinds().len());
    }

    #[test]
    fn locate_sorts_as_the_keys_do() {
        let logs: Vec<_> =
            [(1, 300), (2, 1), (256, 0)].map(|(job, serial)| locate(&RowKey::Log(JobId(job), serial)).1).into();
        assert!(logs.is_sorted());
    }
}
