//! The one thread that writes the log.

use std::{
    io,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use openraft::storage::IOFlushed;
use tokio::sync::mpsc;

use super::{
    log_store::{Done, ENTRIES, META, PURGED_KEY, VOTE_KEY, entry_key},
    log_tail::Tail,
    stop::{Stop, StopReason},
    types::{LogEntry, LogId, TypeConfig, Vote},
};
use crate::{
    codec::{self, Format},
    storage::{Batch, StorageError, Store, Synced},
};

/// Orders that one sync may cover; beyond it the batch would take memory without saving syncs.
const GROUP_MAX: usize = 1024;

/// What the writer is told to do, in this order.
pub enum Order {
    Append { entries: Vec<LogEntry>, done: IOFlushed<TypeConfig> },
    Vote { vote: Vote, done: Done },
    Truncate { from: u64, done: Done },
    Purge { from: u64, upto: LogId },
    End,
}

/// How the log's disk is doing.
#[derive(Debug)]
pub struct DiskPace {
    origin: Instant,
    /// Microseconds past `origin` when the running write began, plus 1; 0 while none runs.
    writing_since: AtomicU64,
    pub syncs: AtomicU64,
    pub sync_micros: AtomicU64,
    pub sync_micros_max: AtomicU64,
    pub last_sync_micros: AtomicU64,
}

pub struct Writer {
    store: Arc<Store>,
    tail: Arc<Mutex<Tail>>,
    pace: Arc<DiskPace>,
    stop: Stop,
    /// After a failed write nothing is known of the disk: everything else fails too.
    failed: Option<String>,
}

impl Writer {
    pub fn new(store: Arc<Store>, tail: Arc<Mutex<Tail>>, pace: Arc<DiskPace>, stop: Stop) -> Self {
        Self { store, tail, pace, stop, failed: None }
    }

    pub fn run(mut self, mut orders: mpsc::Receiver<Order>) {
        let mut group = Vec::with_capacity(GROUP_MAX);
        while orders.blocking_recv_many(&mut group, GROUP_MAX) > 0 {
            let end = group.iter().position(|order| matches!(order, Order::End));
            group.truncate(end.unwrap_or(group.len()));
            let result = self.write(&group);
            self.answer(group.drain(..), &result);
            if end.is_some() {
                return;
            }
        }
    }

    fn write(&mut self, group: &[Order]) -> Result<(), String> {
        if let Some(reason) = &self.failed {
            return Err(reason.clone());
        }
        let batch = group.iter().fold(Batch::new(), put);
        if batch.is_empty() {
            return Ok(());
        }
        let _writing = self.pace.begin();
        self.store.write(batch, Synced::Yes).and_then(|()| self.drop_files(group)).map_err(|error| {
            let reason = error.to_string();
            self.failed = Some(reason.clone());
            self.stop.because(StopReason::Disk(reason.clone()));
            reason
        })
    }

    fn drop_files(&self, group: &[Order]) -> Result<(), StorageError> {
        for order in group {
            if let Order::Purge { from, upto } = order {
                self.store.drop_files_in_range(ENTRIES, &entry_key(*from), &entry_key(upto.index + 1))?;
            }
        }
        Ok(())
    }

    fn answer(&self, group: impl Iterator<Item = Order>, result: &Result<(), String>) {
        let outcome = || result.clone().map_err(io::Error::other);
        for order in group {
            match order {
                Order::Append { entries, done } => {
                    if let (Ok(()), Some(last)) = (result, entries.last()) {
                        self.tail.lock().expect("no holder of this lock panics").durable(last.log_id.index + 1);
                    }
                    done.io_completed(outcome());
                }
                // Whoever asked may have gone; the order stands all the same.
                Order::Vote { done, .. } | Order::Truncate { done, .. } => drop(done.send(outcome())),
                Order::Purge { .. } | Order::End => {}
            }
        }
    }
}

fn put(mut batch: Batch, order: &Order) -> Batch {
    match order {
        Order::Append { entries, .. } => {
            for entry in entries {
                let key = entry_key(entry.log_id.index);
                batch.put_with(ENTRIES, key, |bytes| codec::encode_into(Format::LOG, entry, bytes));
            }
        }
        Order::Vote { vote, .. } => batch.put(META, VOTE_KEY, codec::encode(Format::META, vote)),
        Order::Truncate { from, .. } => batch.delete_range(ENTRIES, entry_key(*from), entry_key(u64::MAX)),
        Order::Purge { from, upto } => {
            batch.delete_range(ENTRIES, entry_key(*from), entry_key(upto.index + 1));
            batch.put(META, PURGED_KEY, codec::encode(Format::META, upto));
        }
        Order::End => {}
    }
    batch
}

impl Default for DiskPace {
    fn default() -> Self {
        let zero = AtomicU64::default;
        Self {
            origin: Instant::now(),
            writing_since: zero(),
            syncs: zero(),
            sync_micros: zero(),
            sync_micros_max: zero(),
            last_sync_micros: zero(),
        }
    }
}

impl DiskPace {
    /// How long the write that runs now has been running.
    pub fn stalled_ms(&self) -> u64 {
        match self.writing_since.load(Ordering::Relaxed) {
            0 => 0,
            since => (self.now_micros() + 1).saturating_sub(since) / 1000,
        }
    }

    fn begin(self: &Arc<Self>) -> Writing {
        let since = self.now_micros() + 1;
        self.writing_since.store(since, Ordering::Relaxed);
        Writing { pace: Arc::clone(self), since }
    }

    fn now_micros(&self) -> u64 {
        u64::try_from(self.origin.elapsed().as_micros()).unwrap_or(u64::MAX)
    }
}

/// A write that runs; its end is measured when this drops.
struct Writing {
    pace: Arc<DiskPace>,
    since: u64,
}

impl Drop for Writing {
    fn drop(&mut self) {
        let took = (self.pace.now_micros() + 1).saturating_sub(self.since);
        self.pace.writing_since.store(0, Ordering::Relaxed);
        self.pace.last_sync_micros.store(took, Ordering::Relaxed);
        self.pace.syncs.fetch_add(1, Ordering::Relaxed);
        self.pace.sync_micros.fetch_add(took, Ordering::Relaxed);
        self.pace.sync_micros_max.fetch_max(took, Ordering::Relaxed);
    }
}
