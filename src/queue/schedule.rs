//! Schedules: jobs that the queue submits by itself, each at the slots of its timing.
//!
//! ```text
//!   put ──► unplanned ──(leader: plan)──► next slot ──(leader, when it has come: fire)──► next slot ──► ...
//!              ▲                             │
//!              └───────── resume ◄── paused ◄┘
//! ```
//!
//! Which slot is next takes a calendar, time zones and a clock, none of which the core has. So the leader computes it, and
//! proposes each step as *from this slot to that one*. A step from where the schedule no longer stands does nothing: however
//! often one is proposed, and by however many leaders, each slot is taken once. The job is submitted in that same entry.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use serde::{Deserialize, Serialize};

use super::{
    ids::{Index, JobId, WallMs},
    refusal::Refusal,
    rows::{Row, RowKey, Rows},
};

/// When the jobs of a schedule are due. The core keeps it for the leader and does not read it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Timing {
    /// Five fields, and the IANA name of the time zone that they are read in.
    Cron { expression: Box<str>, time_zone: Box<str> },
    /// Each period from the moment of the definition on.
    Every { ms: u64 },
}

/// What becomes of slots that passed while nothing could take them: no leader, a stopped cluster.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Missed {
    /// One job stands for all of them.
    #[default]
    Once,
    Skip,
}

/// What becomes of a slot while the job of an earlier one still waits or runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Overlap {
    #[default]
    Allow,
    Skip,
}

/// Where a schedule stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Next {
    /// The leader has not said yet.
    Unplanned,
    Slot(WallMs),
    /// There is none any more.
    Never,
}

/// What came of a slot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    Submitted(JobId),
    /// A live job has the unique key.
    Existed(JobId),
    /// This earlier job still waits or runs.
    Overlapped(JobId),
    /// It was too late for it.
    Missed,
    /// The submission was refused: drained, full, ...
    Refused(Refusal),
}

/// The last slot that was taken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Taken {
    pub slot: WallMs,
    pub at: WallMs,
    pub outcome: Outcome,
}

/// A schedule, but for the spec of its jobs, which is a row of its own and not in memory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Schedule {
    pub timing: Timing,
    pub missed: Missed,
    pub overlap: Overlap,
    pub paused: bool,
    pub created_by: Box<str>,
    pub created_at: WallMs,
    /// Periods are counted from here.
    pub defined_at: WallMs,
    /// The entry that last defined, paused or resumed it.
    pub version: Index,
    pub next: Next,
    pub last: Option<Taken>,
    /// The newest job of it, asked for or by a slot.
    pub last_job: Option<JobId>,
    pub submitted: u64,
    pub skipped: u64,
}

/// All of them, and which the leader has to look at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Schedules {
    known: BTreeMap<Arc<str>, Schedule>,
    by_slot: BTreeSet<(WallMs, Arc<str>)>,
    unplanned: BTreeSet<Arc<str>>,
}

impl Schedules {
    pub fn load(rows: &dyn Rows) -> Self {
        let mut schedules = Schedules::default();
        rows.scan(&RowKey::Schedule("".into()), &mut |key, row| {
            let (RowKey::Schedule(name), Row::Schedule(schedule)) = (key, row) else {
                panic!("a schedule's row holds a schedule")
            };
            schedules.put(name, *schedule);
            true
        });
        schedules
    }

    pub fn known(&self) -> &BTreeMap<Arc<str>, Schedule> {
        &self.known
    }

    /// At most `limit` schedules for which the leader has something to do: those to be planned, then those whose slot has
    /// come. Costs what it gives.
    pub fn to_advance(&self, now: WallMs, limit: usize) -> Vec<(Arc<str>, Schedule)> {
        let due = self.by_slot.iter().take_while(|(slot, _)| *slot <= now).map(|(_, name)| name);
        self.unplanned.iter().chain(due).take(limit).map(|name| (name.clone(), self.known[name].clone())).collect()
    }

    pub(super) fn put(&mut self, name: Arc<str>, schedule: Schedule) {
        self.remove(&name);
        match (schedule.paused, schedule.next) {
            (false, Next::Unplanned) => drop(self.unplanned.insert(name.clone())),
            (false, Next::Slot(slot)) => drop(self.by_slot.insert((slot, name.clone()))),
            (true, _) | (false, Next::Never) => {}
        }
        self.known.insert(name, schedule);
    }

    pub(super) fn remove(&mut self, name: &Arc<str>) -> Option<Schedule> {
        let schedule = self.known.remove(name)?;
        self.unplanned.remove(name);
        if let Next::Slot(slot) = schedule.next {
            self.by_slot.remove(&(slot, name.clone()));
        }
        Some(schedule)
    }
}
