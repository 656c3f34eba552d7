//! Claims that wait for work: first come, first served, for each queue.
//!
//! When jobs become ready, as many claims are woken as there are jobs, the oldest first; a woken claim is proposed again. If it
//! finds nothing, though it asks for any job, nobody else would find something either; if it is choosy, the next in line is
//! tried. So a job wakes one claim, not ten thousand, and an unwanted job does not block the line.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Arc, Mutex, MutexGuard},
};

use tokio::sync::Notify;

/// Claims that may wait on one node.
const WAITING_MAX: usize = 20_000;

#[derive(Default)]
pub struct ClaimLine {
    // Held for moments, never across an await.
    lines: Mutex<Lines>,
}

#[derive(Default)]
struct Lines {
    next_number: u64,
    waiting: usize,
    queues: HashMap<Arc<str>, Line>,
}

/// The line before one queue.
#[derive(Default)]
struct Line {
    waiters: BTreeMap<u64, Arc<Waiter>>,
    /// Counts offers. What a claim learns is of its own round; it says nothing about jobs that came since.
    round: u64,
    /// Jobs that were ready when last looked at, less those taken since. Rather too high than too low: one claim too many
    /// finds nothing, one too few leaves a job lying.
    ready: usize,
    /// Claims woken for this queue that have not come back yet.
    trying: usize,
    /// In this round, whoever stands up to here was tried.
    tried: u64,
}

struct Waiter {
    wake: Notify,
    state: Mutex<State>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum State {
    Idle,
    Woken(Call),
    /// It knows, and proposes.
    Trying(Call),
    SentAway,
}

/// For which queue a claim was woken, and in which round.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Call {
    queue: Arc<str>,
    round: u64,
}

/// How a woken claim came back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Took(usize),
    Nothing,
    /// Its client went away before it was proposed.
    Gone,
}

/// A claim's place; given up by its drop.
pub struct InLine<'a> {
    line: &'a ClaimLine,
    number: u64,
    queues: BTreeSet<Arc<str>>,
    /// Takes only some kinds, groups or sizes of job.
    choosy: bool,
    waiter: Arc<Waiter>,
    outcome: Outcome,
}

/// Why a waiting claim was woken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wake {
    /// There may be something now.
    Try,
    /// This node no longer leads.
    SentAway,
}

impl ClaimLine {
    /// A place at the end of the lines before `queues`; `None` if too many wait already.
    pub fn enter(&self, queues: BTreeSet<Arc<str>>, choosy: bool) -> Option<InLine<'_>> {
        let mut lines = self.lock();
        if lines.waiting >= WAITING_MAX {
            return None;
        }
        lines.waiting += 1;
        lines.next_number += 1;
        let number = lines.next_number;
        let waiter = Arc::new(Waiter { wake: Notify::new(), state: Mutex::new(State::Idle) });
        for queue in &queues {
            lines.queues.entry(Arc::clone(queue)).or_default().waiters.insert(number, Arc::clone(&waiter));
        }
        Some(InLine { line: self, number, queues, choosy, waiter, outcome: Outcome::Gone })
    }

    /// `ready` jobs may be claimed from `queue` now.
    pub fn offer(&self, queue: &Arc<str>, ready: usize) {
        if let Some(line) = self.lock().queues.get_mut(queue) {
            line.round += 1;
            line.ready = ready;
            line.tried = 0;
            line.pump(queue);
        }
    }

    pub fn is_waited_for(&self, queue: &str) -> bool {
        self.lock().queues.contains_key(queue)
    }

    /// Queues that somebody waits for.
    pub fn queues(&self) -> BTreeSet<Arc<str>> {
        self.lock().queues.keys().cloned().collect()
    }

    /// This node no longer leads, or stops.
    pub fn send_away(&self) {
        for line in self.lock().queues.values() {
            for waiter in line.waiters.values() {
                *waiter.state() = State::SentAway;
                waiter.wake.notify_one();
            }
        }
    }

    fn leave(&self, number: u64, queues: &BTreeSet<Arc<str>>) {
        let mut lines = self.lock();
        lines.waiting -= 1;
        for queue in queues {
            if let Some(line) = lines.queues.get_mut(queue) {
                line.waiters.remove(&number);
            }
        }
    }

    fn came_back(&self, call: &Call, outcome: Outcome, choosy: bool) {
        if let Some(line) = self.lock().queues.get_mut(&call.queue) {
            line.came_back(call, outcome, choosy);
        }
    }

    fn forget_empty(&self, queues: &BTreeSet<Arc<str>>) {
        let mut lines = self.lock();
        for queue in queues {
            if lines.queues.get(queue).is_some_and(|line| line.waiters.is_empty() && line.trying == 0) {
                lines.queues.remove(queue);
            }
        }
    }

    /// Claims waiting now.
    pub fn count(&self) -> usize {
        self.lock().waiting
    }

    fn lock(&self) -> MutexGuard<'_, Lines> {
        self.lines.lock().expect("nothing panics under this lock")
    }
}

impl Line {
    /// Wakes the next in line for as long as there are more jobs than claims trying for them.
    fn pump(&mut self, queue: &Arc<str>) {
        while self.trying < self.ready {
            let idle = self.waiters.range(self.tried + 1..).find(|(_, waiter)| *waiter.state() == State::Idle);
            let Some((number, waiter)) = idle else { return };
            self.tried = *number;
            self.trying += 1;
            *waiter.state() = State::Woken(Call { queue: Arc::clone(queue), round: self.round });
            waiter.wake.notify_one();
        }
    }

    fn came_back(&mut self, call: &Call, outcome: Outcome, choosy: bool) {
        self.trying = self.trying.saturating_sub(1);
        if call.round == self.round {
            match outcome {
                Outcome::Took(jobs) => self.ready = self.ready.saturating_sub(jobs),
                // It asked for any job.
                Outcome::Nothing if !choosy => self.ready = 0,
                Outcome::Nothing | Outcome::Gone => {}
            }
        }
        self.pump(&call.queue);
    }
}

impl Waiter {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nothing panics under this lock")
    }
}

impl InLine<'_> {
    /// Until there may be work, or none will come here.
    pub async fn woken(&self) -> Wake {
        loop {
            if let Some(wake) = self.look() {
                return wake;
            }
            self.waiter.wake.notified().await;
        }
    }

    fn look(&self) -> Option<Wake> {
        let mut state = self.waiter.state();
        match std::mem::replace(&mut *state, State::Idle) {
            State::Idle => None,
            State::Woken(call) | State::Trying(call) => {
                *state = State::Trying(call);
                Some(Wake::Try)
            }
            State::SentAway => {
                *state = State::SentAway;
                Some(Wake::SentAway)
            }
        }
    }

    /// The claim was proposed and found nothing: back to its place.
    pub fn found_nothing(&self) {
        let trying = {
            let mut state = self.waiter.state();
            match std::mem::replace(&mut *state, State::Idle) {
                State::Trying(call) => Some(call),
                // Woken only after it was proposed: that call still stands.
                other => {
                    *state = other;
                    None
                }
            }
        };
        if let Some(call) = trying {
            self.line.came_back(&call, Outcome::Nothing, self.choosy);
        }
    }

    /// The claim found jobs: out of the line.
    pub fn leave_with(mut self, jobs: usize) {
        self.outcome = Outcome::Took(jobs);
    }
}

impl Drop for InLine<'_> {
    fn drop(&mut self) {
        self.line.leave(self.number, &self.queues);
        let state = std::mem::replace(&mut *self.waiter.state(), State::SentAway);
        if let State::Woken(call) | State::Trying(call) = state {
            self.line.came_back(&call, self.outcome, self.choosy);
        }
        self.line.forget_empty(&self.queues);
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    fn queue() -> Arc<str> {
        "q".into()
    }

    fn enter(line: &ClaimLine, choosy: bool) -> InLine<'_> {
        line.enter(BTreeSet::from([queue()]), choosy).unwrap()
    }

    fn woken(place: &InLine<'_>) -> Option<Wake> {
        place.woken().now_or_never()
    }

    #[test]
    fn one_job_wakes_the_oldest_claim_only() {
        let line = ClaimLine::default();
        let (first, second) = (enter(&line, false), enter(&line, false));
        line.offer(&queue(), 1);
        assert_eq!((woken(&first), woken(&second)), (Some(Wake::Try), None));
        first.leave_with(1);
        assert_eq!(woken(&second), None);
        line.offer(&queue(), 1);
        assert_eq!(woken(&second), Some(Wake::Try));
    }

    #[test]
    fn claim_that_goes_away_passes_its_call_on() {
        let line = ClaimLine::default();
        let (first, second) = (enter(&line, false), enter(&line, false));
        line.offer(&queue(), 1);
        drop(first);
        assert_eq!(woken(&second), Some(Wake::Try));
    }

    #[test]
    fn choosy_claim_that_finds_nothing_lets_the_next_try() {
        let line = ClaimLine::default();
        let (choosy, any, last) = (enter(&line, true), enter(&line, false), enter(&line, false));
        line.offer(&queue(), 1);
        assert_eq!(woken(&choosy), Some(Wake::Try));
        choosy.found_nothing();
        assert_eq!((woken(&choosy), woken(&any)), (None, Some(Wake::Try)));
        any.found_nothing();
        assert_eq!(woken(&last), None);
    }

    #[test]
    fn job_that_comes_while_a_claim_tries_is_not_forgotten() {
        let line = ClaimLine::default();
        let place = enter(&line, false);
        line.offer(&queue(), 1);
        assert_eq!(woken(&place), Some(Wake::Try));
        line.offer(&queue(), 1);
        place.found_nothing();
        assert_eq!(woken(&place), Some(Wake::Try));
    }

    #[test]
    fn line_at_its_limit_takes_nobody_more() {
        let line = ClaimLine::default();
        let places: Vec<_> = (0..WAITING_MAX).map(|_| enter(&line, false)).collect();
        assert!(line.enter(BTreeSet::from([queue()]), false).is_none());
        line.offer(&queue(), 3);
        assert_eq!(places.iter().filter(|place| woken(place).is_some()).count(), 3);
        drop(places);
        assert!(line.enter(BTreeSet::from([queue()]), false).is_some());
    }

    #[test]
    fn all_are_sent_away_and_lines_end_empty() {
        let line = ClaimLine::default();
        let (first, second) = (enter(&line, false), enter(&line, false));
        line.send_away();
        assert_eq!((woken(&first), woken(&second)), (Some(Wake::SentAway), Some(Wake::SentAway)));
        drop((first, second));
        assert_eq!((line.count(), line.queues().len()), (0, 0));
    }
}
