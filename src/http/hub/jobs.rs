//! Waits for one job to change.
//!
//! One entry for each job that is waited for, however many wait for it; an entry goes with its last waiter.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard},
};

use tokio::sync::Notify;

use crate::queue::ids::JobId;

#[derive(Default)]
pub struct JobWaits {
    // Held for moments, never across an await.
    entries: Mutex<HashMap<JobId, Entry>>,
}

#[derive(Default)]
struct Entry {
    changed: Arc<Notify>,
    waiters: usize,
}

/// A registered waiter; ends with its drop.
pub struct JobWait<'a> {
    waits: &'a JobWaits,
    job: JobId,
    changed: Arc<Notify>,
}

impl JobWaits {
    /// Register first, look then, wait last: so no change falls between.
    pub fn register(&self, job: JobId) -> JobWait<'_> {
        let mut entries = self.lock();
        let entry = entries.entry(job).or_default();
        entry.waiters += 1;
        JobWait { waits: self, job, changed: Arc::clone(&entry.changed) }
    }

    pub fn wake(&self, job: JobId) {
        if let Some(entry) = self.lock().get(&job) {
            entry.changed.notify_waiters();
        }
    }

    pub fn wake_all(&self) {
        for entry in self.lock().values() {
            entry.changed.notify_waiters();
        }
    }

    /// Waiters now.
    pub fn count(&self) -> usize {
        self.lock().values().map(|entry| entry.waiters).sum()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<JobId, Entry>> {
        self.entries.lock().expect("nothing panics under this lock")
    }
}

impl JobWait<'_> {
    pub fn changed(&self) -> &Notify {
        &self.changed
    }
}

impl Drop for JobWait<'_> {
    fn drop(&mut self) {
        let mut entries = self.waits.lock();
        if let Some(entry) = entries.get_mut(&self.job) {
            entry.waiters -= 1;
            if entry.waiters == 0 {
                entries.remove(&self.job);
            }
        }
    }
}
