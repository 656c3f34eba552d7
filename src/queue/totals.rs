//! How the jobs of each queue have ended, since the cluster was formed. A job that was kicked and ends again counts again.
//!
//! Queue names come from users and are never done with by themselves: an empty queue may fill again. So there is a limit of
//! names that are counted each, and an operator gives one back by forgetting it: what it counted stays in the sum.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use serde::{Deserialize, Serialize};

use super::{
    job::Status,
    limits,
    rows::{Changes, Row, RowKey, Rows},
};

/// Stands for all queues beyond the first so many, and for forgotten ones, so that the totals add up and stay bounded. No queue
/// has this name.
const OTHERS: &str = "";

/// How many jobs have ended like this.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ends {
    pub success: u64,
    pub error: u64,
    pub canceled: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    of: BTreeMap<Arc<str>, Ends>,
    /// Those whose row is older than they are.
    touched: BTreeSet<Arc<str>>,
}

impl Totals {
    pub fn load(rows: &dyn Rows) -> Self {
        let mut totals = Totals::default();
        rows.scan(&RowKey::QueueEnds("".into()), &mut |key, row| {
            let (RowKey::QueueEnds(queue), Row::Ends(ends)) = (key, row) else {
                panic!("a queue's row of ends counts them")
            };
            totals.of.insert(queue, ends);
            true
        });
        totals
    }

    /// One more job of this queue has ended.
    pub fn count(&mut self, queue: &Arc<str>, status: Status) {
        if let Some(ends) = self.of.get_mut(queue) {
            ends.count(status);
            // Looked up first: an entry ends many jobs of few queues.
            if !self.touched.contains(queue) {
                self.touched.insert(queue.clone());
            }
            return;
        }
        let names = self.of.len() - usize::from(self.of.contains_key(OTHERS));
        let others = names >= limits::QUEUES_MAX;
        let name = if others { Arc::from(OTHERS) } else { queue.clone() };
        self.of.entry(name.clone()).or_default().count(status);
        self.touched.insert(name);
    }

    /// Counts what this queue counted among the others, so that another may have its name's place; false if it counted nothing.
    pub fn forget(&mut self, queue: &Arc<str>) -> bool {
        let Some(ends) = self.of.remove(queue) else { return false };
        let others: Arc<str> = OTHERS.into();
        self.of.entry(others.clone()).or_default().add(ends);
        self.touched.extend([queue.clone(), others]);
        true
    }

    pub fn store(&mut self, changes: &mut Changes) {
        for queue in std::mem::take(&mut self.touched) {
            match self.of.get(&queue) {
                Some(ends) => changes.put(RowKey::QueueEnds(queue), Row::Ends(*ends)),
                None => changes.delete(RowKey::QueueEnds(queue)),
            }
        }
    }

    /// Each queue in which jobs have ended.
    pub fn queues(&self) -> impl Iterator<Item = (&Arc<str>, Ends)> {
        self.of.iter().filter(|(queue, _)| &***queue != OTHERS).map(|(queue, ends)| (queue, *ends))
    }

    /// Of queues that came when there were too many to count each, and of forgotten ones.
    pub fn others(&self) -> Option<Ends> {
        self.of.get(OTHERS).copied()
    }
}

impl Ends {
    fn add(&mut self, other: Ends) {
        self.success += other.success;
        self.error += other.error;
        self.canceled += other.canceled;
    }

    pub fn count(&mut self, status: Status) {
        match status {
            Status::Success => self.success += 1,
            Status::Error => self.error += 1,
            Status::Canceled => self.canceled += 1,
            Status::Queued
            | Status::Delayed
            | Status::Blocked
            | Status::Buried
            | Status::Reserved
            | Status::Running
            | Status::Canceling => panic!("a job that has ended is final"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::queue::testing::Memory;

    fn changes_of(totals: &mut Totals) -> Changes {
        let mut changes = Changes::default();
        totals.store(&mut changes);
        changes
    }

    #[test]
    fn queues_beyond_the_limit_are_counted_together() {
        let mut totals = Totals::default();
        for number in 0..limits::QUEUES_MAX + 2 {
            totals.count(&number.to_string().into(), Status::Success);
        }
        totals.count(&"7".into(), Status::Error);
        assert_eq!(totals.queues().count(), limits::QUEUES_MAX);
        assert_eq!(totals.others(), Some(Ends { success: 2, ..Ends::default() }));
        assert_eq!(totals.of["7"], Ends { success: 1, error: 1, canceled: 0 });
    }

    #[test]
    fn forgotten_queue_makes_room_and_stays_in_the_sum() {
        let mut totals = Totals::default();
        for number in 0..=limits::QUEUES_MAX {
            totals.count(&number.to_string().into(), Status::Success);
        }
        let mut rows = Memory::default();
        rows.store(changes_of(&mut totals));
        assert!(totals.forget(&"7".into()) && !totals.forget(&"7".into()));
        totals.count(&"new".into(), Status::Error);
        totals.count(&"7".into(), Status::Error);
        assert_eq!(totals.of["new"], Ends { error: 1, ..Ends::default() });
        assert_eq!(totals.others(), Some(Ends { success: 2, error: 1, canceled: 0 }), "full again");

        rows.store(changes_of(&mut totals));
        assert_eq!(Totals::load(&rows).of, totals.of);
    }
}
