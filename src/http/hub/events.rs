//! What happened lately, for streams of events and for rates.
//!
//! Every node derives the same events from the same entries, so a position `index.n` means the same on each, and a stream that
//! breaks goes on at another node without a gap or a double. Only the last [`EVENTS_MAX`] are kept; who asks for older ones is
//! told so, instead of being given a part.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard},
};

use tokio::{sync::watch, time::Instant};

use crate::{
    queue::{
        applied::{Effect, ScheduleNews},
        ids::{JobId, WallMs},
        job::Status,
        schedule::Taken,
    },
    raft::AppliedBatch,
};

/// A few seconds at the highest rates, hours at usual ones; about 5 MB.
const EVENTS_MAX: usize = 65_536;
/// Rates are means over so many seconds.
const RATE_SECONDS: usize = 60;

/// Behind which event: entry, and number within it.
pub type Position = (u64, u32);

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    pub at: Position,
    /// `posted`, `started`, `finished`, `removed`, or the status that a job took; of schedules `schedule_...`.
    pub kind: &'static str,
    pub about: About,
    pub time: WallMs,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum About {
    Job {
        id: JobId,
        was: Option<Status>,
        status: Option<Status>,
    },
    /// And what came of its slot, if the event is that.
    Schedule {
        name: Arc<str>,
        taken: Option<Box<Taken>>,
    },
}

pub struct Events {
    // Held for moments, never across an await.
    ring: Mutex<Ring>,
    newest: watch::Sender<Position>,
}

struct Ring {
    events: VecDeque<Event>,
    /// What came after this is all here.
    floor: Position,
    /// Batches were missed: the next one sets a new floor.
    torn: bool,
    seconds: VecDeque<Second>,
    began: Instant,
}

/// What one second brought.
#[derive(Clone, Copy, Default)]
struct Second {
    number: u64,
    posted: u64,
    ended: u64,
}

/// Jobs per second, over the last minute.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Rates {
    pub posted: f64,
    pub ended: f64,
}

/// The position is older than what is kept: everything after `oldest` is here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooOld {
    pub oldest: Position,
}

impl Default for Events {
    fn default() -> Self {
        let (events, seconds) = (VecDeque::new(), VecDeque::new());
        let ring = Ring { events, floor: (0, 0), torn: false, seconds, began: Instant::now() };
        Self { ring: Mutex::new(ring), newest: watch::Sender::new((0, u32::MAX)) }
    }
}

impl Events {
    /// Entries up to `index` were applied before anybody listened. Before the first entry there was nothing to miss.
    pub fn begin(&self, index: u64) {
        self.lock().floor = if index == 0 { (0, 0) } else { (index, u32::MAX) };
        self.newest.send_replace((index, u32::MAX));
    }

    /// Batches were missed.
    pub fn tear(&self) {
        self.lock().torn = true;
    }

    pub fn add(&self, batch: &AppliedBatch) {
        let mut ring = self.lock();
        if ring.torn || batch.skipped {
            ring.torn = false;
            ring.events.clear();
            ring.floor = (batch.index, u32::MAX);
        }
        ring.begin_second();
        for entry in &batch.entries {
            let mut number = 0;
            for effect in &entry.effects {
                let Some(event) = event((entry.index, number), entry.clocks.wall, effect) else { continue };
                number += 1;
                if event.at > ring.floor {
                    ring.push(event);
                }
            }
        }
        drop(ring);
        self.newest.send_replace((batch.index, u32::MAX));
    }

    /// To await more.
    pub fn newest(&self) -> watch::Receiver<Position> {
        self.newest.subscribe()
    }

    /// At most `max` events after `position`.
    pub fn after(&self, position: Position, max: usize) -> Result<Vec<Event>, TooOld> {
        let ring = self.lock();
        if position < ring.floor {
            return Err(TooOld { oldest: ring.floor });
        }
        let start = ring.events.partition_point(|event| event.at <= position);
        Ok(ring.events.range(start..).take(max).cloned().collect())
    }

    pub fn rates(&self) -> Rates {
        let ring = self.lock();
        let now = ring.began.elapsed().as_secs();
        let recent = ring.seconds.iter().filter(|second| second.number + RATE_SECONDS as u64 >= now);
        let (posted, ended) =
            recent.fold((0, 0), |(posted, ended), second| (posted + second.posted, ended + second.ended));
        let seconds = now.clamp(1, RATE_SECONDS as u64) as f64;
        Rates { posted: posted as f64 / seconds, ended: ended as f64 / seconds }
    }

    fn lock(&self) -> MutexGuard<'_, Ring> {
        self.ring.lock().expect("nothing panics under this lock")
    }
}

impl Ring {
    fn begin_second(&mut self) {
        let number = self.began.elapsed().as_secs();
        if self.seconds.back().is_none_or(|second| second.number != number) {
            self.seconds.push_back(Second { number, ..Second::default() });
        }
        if self.seconds.len() > RATE_SECONDS {
            self.seconds.pop_front();
        }
    }

    fn push(&mut self, event: Event) {
        if let Some(second) = self.seconds.back_mut() {
            second.posted += u64::from(event.kind == POSTED);
            second.ended += u64::from(event.kind == FINISHED);
        }
        self.events.push_back(event);
        if self.events.len() > EVENTS_MAX
            && let Some(oldest) = self.events.pop_front()
        {
            self.floor = oldest.at;
        }
    }
}

const POSTED: &str = "posted";
const FINISHED: &str = "finished";

/// What a client is told of an effect; changes that leave the status as it is are no events.
fn event(at: Position, time: WallMs, effect: &Effect) -> Option<Event> {
    let event = |kind, about| Some(Event { at, kind, about, time });
    let job = |kind, id, was, status| event(kind, About::Job { id, was, status });
    match effect {
        Effect::Posted { job: id } => job(POSTED, *id, None, None),
        Effect::Removed { job: id } => job("removed", *id, None, None),
        Effect::Changed { job: id, was, status } if was != status => job(kind(*status), *id, Some(*was), Some(*status)),
        Effect::Schedule { name, news } => {
            let (kind, taken) = schedule(news);
            event(kind, About::Schedule { name: name.clone(), taken })
        }
        Effect::Changed { .. }
        | Effect::Ready { .. }
        | Effect::Stop { .. }
        | Effect::LeaseEnded { .. }
        | Effect::SettingsChanged => None,
    }
}

fn schedule(news: &ScheduleNews) -> (&'static str, Option<Box<Taken>>) {
    match news {
        ScheduleNews::Defined => ("schedule_defined", None),
        ScheduleNews::Paused => ("schedule_paused", None),
        ScheduleNews::Resumed => ("schedule_resumed", None),
        ScheduleNews::Removed => ("schedule_removed", None),
        ScheduleNews::Taken(taken) => ("schedule_slot", Some(taken.clone())),
    }
}

fn kind(status: Status) -> &'static str {
    match status {
        Status::Running => "started",
        Status::Success | Status::Error | Status::Canceled => FINISHED,
        Status::Queued | Status::Delayed | Status::Blocked | Status::Buried | Status::Reserved | Status::Canceling => {
            status.name()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{queue::command::Clocks, raft::AppliedEntry};

    fn batch(index: u64, jobs: std::ops::Range<u64>) -> AppliedBatch {
        let effects = jobs.map(|job| Effect::Posted { job: JobId(job) }).collect();
        let entries = vec![AppliedEntry { index, clocks: Clocks::default(), effects }];
        AppliedBatch { index, entries, skipped: false }
    }

    fn jobs(events: &Events, after: Position) -> Result<Vec<u64>, TooOld> {
        let job = |event: &Event| match &event.about {
            About::Job { id, .. } => id.0,
            About::Schedule { name, .. } => panic!("no job: {name}"),
        };
        Ok(events.after(after, 100)?.iter().map(job).collect())
    }

    #[test]
    fn stream_goes_on_exactly_after_a_position() {
        let events = Events::default();
        events.begin(4);
        events.add(&batch(4, 1..3));
        events.add(&batch(5, 3..6));
        events.add(&batch(7, 6..7));
        assert_eq!(jobs(&events, (4, u32::MAX)), Ok(vec![3, 4, 5, 6]));
        assert_eq!(jobs(&events, (5, 1)), Ok(vec![5, 6]));
        assert_eq!(jobs(&events, (9, 0)), Ok(vec![]));
        assert_eq!(jobs(&events, (3, 0)), Err(TooOld { oldest: (4, u32::MAX) }));
    }

    #[test]
    fn skipped_range_is_told_instead_of_passed_over() {
        let events = Events::default();
        events.begin(0);
        events.add(&batch(1, 1..2));
        assert_eq!(jobs(&events, (0, 0)), Ok(vec![1]));
        events.add(&AppliedBatch { index: 50, entries: Vec::new(), skipped: true });
        assert_eq!(jobs(&events, (1, 0)), Err(TooOld { oldest: (50, u32::MAX) }));
        assert_eq!(jobs(&events, (50, u32::MAX)), Ok(vec![]));
        events.tear();
        events.add(&batch(60, 1..2));
        assert_eq!(jobs(&events, (50, u32::MAX)), Err(TooOld { oldest: (60, u32::MAX) }));
    }

    #[test]
    fn oldest_events_make_room() {
        let events = Events::default();
        events.begin(0);
        for index in 1..=(EVENTS_MAX as u64 + 10) {
            events.add(&batch(index, index..index + 1));
        }
        assert_eq!(jobs(&events, (9, 0)), Err(TooOld { oldest: (10, 0) }));
        assert_eq!(jobs(&events, (10, 0)).map(|jobs| jobs[0]), Ok(11));
        assert!(events.rates().posted > 0.0);
    }
}
