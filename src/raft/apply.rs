//! The one thread that changes the state.
//!
//! It applies committed entries in chunks: a chunk's rows, position and hash are one batch, written once, and only then
//! are callers answered and listeners told. A panic in here is a broken invariant or an unreadable disk; the process
//! aborts, for a replica that skipped an entry would be worse than none.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::Instant,
};

use openraft::{EntryPayload, storage::ApplyResponder};
use tokio::sync::{mpsc, oneshot};
use xxhash_rust::xxh3::Xxh3;

use super::{
    feature::FeatureLevel,
    replica::{Applied, AppliedBatch, AppliedEntry, Hot, Replica},
    state_rows::{StoredRows, put_changes},
    stop::{Stop, StopReason},
    types::{Answers, Body, LogEntry, TypeConfig, entry_bytes},
};
use crate::{
    codec::{self, Format},
    queue::{
        command::Entry,
        ids::{Index, JobId},
        rows::{Changes, RowKey},
    },
    storage::{Batch, StorageError, Synced},
};

/// Chunks that may wait; openraft hands over one at a time.
const TASKS_MAX: usize = 4;

pub type Item = (LogEntry, Option<ApplyResponder<TypeConfig>>);

/// Something to do on the apply thread, where nothing else changes the state meanwhile.
pub enum Task {
    Apply {
        items: Vec<Item>,
        done: oneshot::Sender<Result<(), io::Error>>,
    },
    /// Replace the state as a whole.
    Replace {
        hot: Box<Hot>,
        done: oneshot::Sender<()>,
    },
    End,
}

/// A handle on the thread; clones share it.
#[derive(Clone)]
pub struct Applier {
    tasks: mpsc::Sender<Task>,
    pace: Arc<ApplyPace>,
}

/// Owns the thread.
pub struct ApplyThread {
    thread: JoinHandle<()>,
    tasks: mpsc::Sender<Task>,
}

/// Whether apply is stuck: a chunk that takes seconds means a leader that should not lead.
#[derive(Debug)]
pub struct ApplyPace {
    origin: Instant,
    /// Milliseconds past `origin` when the running chunk began, plus 1; 0 while none runs.
    running_since: AtomicU64,
}

struct Work {
    replica: Arc<Replica>,
    node: u64,
    stop: Stop,
    pace: Arc<ApplyPace>,
}

/// A chunk as it is applied.
#[derive(Default)]
struct Chunk {
    answers: Vec<(ApplyResponder<TypeConfig>, Answers)>,
    entries: Vec<AppliedEntry>,
    bytes: u64,
}

impl Applier {
    pub fn start(replica: Arc<Replica>, node: u64, stop: Stop) -> io::Result<(Self, ApplyThread)> {
        let (tasks, waiting) = mpsc::channel(TASKS_MAX);
        let pace = Arc::new(ApplyPace { origin: Instant::now(), running_since: AtomicU64::new(0) });
        let work = Work { replica, node, stop, pace: Arc::clone(&pace) };
        let thread = std::thread::Builder::new().name("raft-apply".to_owned()).spawn(move || work.run(waiting))?;
        Ok((Self { tasks: tasks.clone(), pace }, ApplyThread { thread, tasks }))
    }

    pub async fn apply(&self, items: Vec<Item>) -> Result<(), io::Error> {
        let (done, waiting) = oneshot::channel();
        self.give(Task::Apply { items, done }).await?;
        waiting.await.map_err(|_| ended())?
    }

    pub async fn replace(&self, hot: Hot) -> Result<(), io::Error> {
        let (done, waiting) = oneshot::channel();
        self.give(Task::Replace { hot: Box::new(hot), done }).await?;
        waiting.await.map_err(|_| ended())
    }

    pub fn pace(&self) -> &Arc<ApplyPace> {
        &self.pace
    }

    async fn give(&self, task: Task) -> Result<(), io::Error> {
        self.tasks.send(task).await.map_err(|_| ended())
    }
}

fn ended() -> io::Error {
    io::Error::other("the apply thread has ended")
}

impl ApplyThread {
    pub fn join(self) {
        // A full channel empties: the thread is alive until it reads this.
        drop(self.tasks.blocking_send(Task::End));
        drop(self.tasks);
        if self.thread.join().is_err() {
            tracing::error!("the apply thread panicked");
        }
    }
}

impl ApplyPace {
    /// How long the chunk that is applied now has been taking.
    pub fn stalled_ms(&self) -> u64 {
        match self.running_since.load(Ordering::Relaxed) {
            0 => 0,
            since => (self.now_ms() + 1).saturating_sub(since),
        }
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.origin.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

/// Aborts the process if the thread that holds it panics.
struct AbortOnPanic;

impl Drop for AbortOnPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("raftq: applying the log failed; the process ends, its data is kept");
            std::process::abort();
        }
    }
}

impl Work {
    fn run(self, mut tasks: mpsc::Receiver<Task>) {
        let _guard = AbortOnPanic;
        while let Some(task) = tasks.blocking_recv() {
            self.pace.running_since.store(self.pace.now_ms() + 1, Ordering::Relaxed);
            match task {
                Task::Apply { items, done } => drop(done.send(self.apply(items).map_err(io::Error::from))),
                Task::Replace { hot, done } => {
                    self.replace(*hot);
                    // The caller may have gone; the state is replaced all the same.
                    _ = done.send(());
                }
                Task::End => return,
            }
            self.pace.running_since.store(0, Ordering::Relaxed);
        }
    }

    fn replace(&self, hot: Hot) {
        let summary = hot.applied.summary();
        self.replica.replace(hot).store.supersede();
        self.replica.bytes_since_snapshot.store(0, Ordering::Relaxed);
        let index = summary.index;
        self.replica.moved_to(summary);
        self.replica.announce(AppliedBatch { index, entries: Vec::new(), skipped: true });
    }

    fn apply(&self, items: Vec<Item>) -> Result<(), StorageError> {
        let mut chunk = Chunk::default();
        let summary = {
            let mut hot = self.replica.hot_mut();
            for (entry, responder) in items {
                let answers = self.apply_entry(&mut hot, &entry, &mut chunk)?;
                chunk.bytes += entry_bytes(&entry) as u64;
                chunk.answers.extend(responder.map(|responder| (responder, answers)));
            }
            self.store(&mut hot, !chunk.answers.is_empty())?;
            hot.applied.summary()
        };
        self.replica.bytes_since_snapshot.fetch_add(chunk.bytes, Ordering::Relaxed);
        self.replica.moved_to(summary);
        for (responder, answers) in chunk.answers {
            responder.send(answers);
        }
        self.replica.announce(AppliedBatch { index: summary.index, entries: chunk.entries, skipped: false });
        Ok(())
    }

    /// Only a leader has callers waiting for answers.
    fn store(&self, hot: &mut Hot, leads: bool) -> Result<(), StorageError> {
        let changes = hot.state.take_changes();
        hot.recent.note(&changes, leads);
        self.replica.left_since_snapshot.fetch_add(ended_rows_deleted(&changes), Ordering::Relaxed);
        let mut batch = Batch::new();
        let written = put_changes(&changes, &hot.store, &mut batch).and_then(|()| {
            hot.applied.put(&mut batch);
            hot.store.write(batch, Synced::No)
        });
        written.inspect_err(|error| self.stop.because(StopReason::Disk(error.to_string())))
    }

    fn apply_entry(&self, hot: &mut Hot, entry: &LogEntry, chunk: &mut Chunk) -> Result<Answers, StorageError> {
        let index = entry.log_id.index;
        hot.applied.log_id = Some(entry.log_id);
        match &entry.payload {
            EntryPayload::Blank => Ok(Answers::default()),
            EntryPayload::Membership(membership) => {
                hot.applied.change_members(entry.log_id, membership.clone());
                Ok(Answers::default())
            }
            EntryPayload::Normal(payload) => {
                let body = payload.take_body().map_err(|error| StorageError::undecodable(hot.store.path(), &error))?;
                let answers = match body {
                    Body::Queue(work) => apply_work(hot, index, &work, chunk),
                    Body::HashMark => {
                        hot.applied.mark = Some((index, hot.applied.hash));
                        Answers::default()
                    }
                    Body::HashVerdict { mark, hashes } => {
                        self.judge(&hot.applied, mark, &hashes);
                        Answers::default()
                    }
                    Body::FeatureLevel(level) => {
                        self.raise(hot, level)?;
                        Answers::default()
                    }
                };
                hot.applied.hash = roll(hot.applied.hash, index, payload.bytes(), &answers);
                Ok(answers)
            }
        }
    }

    /// From here on the entries may mean what only versions know that know this level.
    fn raise(&self, hot: &mut Hot, level: FeatureLevel) -> Result<(), StorageError> {
        let knows = self.replica.knows;
        if level > knows {
            self.stop.because(StopReason::NewerLevel { level, knows });
            let what = format!("feature level {level}, this one knows up to {knows}");
            return Err(StorageError::NewerFormat { path: hot.store.path().to_path_buf(), what });
        }
        hot.applied.feature_level = hot.applied.feature_level.max(level);
        tracing::info!(%level, "feature level raised");
        Ok(())
    }

    /// Stops this node if most members agree on a hash that is not its own (P9).
    fn judge(&self, applied: &Applied, mark: u64, hashes: &[(u64, u128)]) {
        let Some((_, own)) = applied.mark.filter(|&(index, _)| index == mark) else { return };
        let agreeing = |hash: u128| hashes.iter().filter(|&&(_, other)| other == hash).count();
        let most = hashes.iter().map(|&(_, hash)| (agreeing(hash), hash)).max();
        match most {
            Some((count, hash)) if count * 2 > hashes.len() && hash != own => {
                self.stop.because(StopReason::Diverged { index: mark });
            }
            Some((count, _)) if count * 2 <= hashes.len() => {
                tracing::error!(index = mark, node = self.node, "the members' states differ and no majority agrees");
            }
            _ => {}
        }
    }
}

fn apply_work(hot: &mut Hot, index: u64, work: &Entry, chunk: &mut Chunk) -> Answers {
    let rows = StoredRows(Arc::clone(&hot.store));
    let applied = hot.state.apply(&rows, Index(index), work);
    assert_eq!(applied.answers.len(), work.requests.len(), "apply answers every request once");
    hot.applied.clocks = work.clocks;
    chunk.entries.push(AppliedEntry { index, clocks: work.clocks, effects: applied.effects });
    Answers(applied.answers)
}

fn ended_rows_deleted(changes: &Changes) -> u64 {
    let ended = changes.rows.range(RowKey::Ended(JobId(0))..=RowKey::Ended(JobId(u64::MAX)));
    ended.filter(|(_, row)| row.is_none()).count() as u64
}

/// The state hash after an entry (P9).
pub(super) fn roll(hash: u128, index: u64, payload: &[u8], answers: &Answers) -> u128 {
    let mut hasher = Xxh3::new();
    hasher.update(&hash.to_le_bytes());
    hasher.update(&index.to_le_bytes());
    hasher.update(payload);
    hasher.update(&codec::encode(Format::ANSWERS, answers));
    hasher.digest128()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::queue::rows::Row;

    #[test]
    fn ended_rows_deleted_are_those_and_no_others() {
        let mut changes = Changes::default();
        for key in [
            RowKey::Ended(JobId(1)),
            RowKey::Ended(JobId(u64::MAX)),
            RowKey::Live(JobId(2)),
            RowKey::Archived(JobId(3)),
        ] {
            changes.rows.insert(key, None);
        }
        changes.rows.insert(RowKey::Ended(JobId(4)), Some(Row::Mark));
        assert_eq!(ended_rows_deleted(&changes), 2);
    }
}
