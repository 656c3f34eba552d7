//! What a run measured.

use std::{
    cell::{Cell, RefCell},
    time::Duration,
};

use tokio::time::Instant;

/// The part of a run that counts.
#[derive(Clone, Copy, Debug)]
pub struct Window {
    pub from: Instant,
    pub to: Instant,
}

/// Everything that one loop, or all of them, saw.
#[derive(Clone, Debug, Default)]
pub struct Samples {
    /// Microseconds of each request in the window.
    pub latencies: Vec<u32>,
    /// Microseconds of each whole life, where a round is more than one request.
    pub rounds: Vec<u32>,
    pub requests: u64,
    /// Jobs acknowledged, finished, or read, in the window.
    pub jobs: u64,
    /// Attempts that were repeated: no answer, no leader, another leader.
    pub repeats: u64,
    /// Acknowledged ids, in and out of the window; all of them must be there afterwards.
    pub submitted: Vec<u64>,
    /// Of those, the ones whose success was acknowledged.
    pub finished: Vec<u64>,
    /// Ids granted by claims, each as often as it was.
    pub granted: Vec<u64>,
    pub window: Duration,
    /// Silence of the whole cluster.
    pub longest_silence: Duration,
    pub client_cpu: Duration,
}

impl Samples {
    pub fn request(&mut self, window: Window, sent: Instant, jobs: u64) {
        let now = Instant::now();
        if window.contains(now) {
            self.requests += 1;
            self.jobs += jobs;
            self.latencies.push(micros(now - sent));
        }
    }

    pub fn round(&mut self, window: Window, began: Instant) {
        let now = Instant::now();
        if window.contains(now) {
            self.rounds.push(micros(now - began));
        }
    }

    pub fn merge(&mut self, other: Samples) {
        self.latencies.extend(other.latencies);
        self.rounds.extend(other.rounds);
        self.requests += other.requests;
        self.jobs += other.jobs;
        self.repeats += other.repeats;
        self.submitted.extend(other.submitted);
        self.finished.extend(other.finished);
        self.granted.extend(other.granted);
    }

    pub fn sort(&mut self) {
        self.latencies.sort_unstable();
        self.rounds.sort_unstable();
    }
}

impl Window {
    pub fn contains(&self, moment: Instant) -> bool {
        self.from <= moment && moment < self.to
    }

    pub fn is_over(&self) -> bool {
        Instant::now() >= self.to
    }
}

/// The beat of acknowledgements over all loops: how long the cluster was silent, and when.
#[derive(Debug, Default)]
pub struct Pulse {
    last: Cell<Option<Instant>>,
    longest: Cell<Duration>,
    /// The longest silence since each disturbance.
    rounds: RefCell<Vec<Duration>>,
    stopped: Cell<bool>,
    /// Submissions until it stops by itself, if it does.
    left: Cell<Option<u64>>,
}

impl Pulse {
    /// One that stops when so many jobs have been submitted.
    pub fn of_total(jobs: Option<u64>) -> Self {
        Self { left: Cell::new(jobs), ..Self::default() }
    }

    pub fn submitted(&self, jobs: u64) {
        let left = self.left.get().map(|left| left.saturating_sub(jobs));
        self.left.set(left);
        if left == Some(0) {
            self.stop();
        }
    }

    /// An answer came.
    pub fn beat(&self, now: Instant, window: Window) {
        let silence = self.last.replace(Some(now)).filter(|last| window.contains(*last)).map(|last| now - last);
        let Some(silence) = silence else { return };
        self.longest.set(self.longest.get().max(silence));
        if let Some(round) = self.rounds.borrow_mut().last_mut() {
            *round = silence.max(*round);
        }
    }

    /// From now on silences belong to a new round.
    pub fn begin_round(&self) {
        self.rounds.borrow_mut().push(Duration::ZERO);
    }

    pub fn rounds(&self) -> Vec<Duration> {
        self.rounds.borrow().clone()
    }

    pub fn longest(&self) -> Duration {
        self.longest.get()
    }

    /// The loops end after their round.
    pub fn stop(&self) {
        self.stopped.set(true);
    }

    pub fn is_stopped(&self) -> bool {
        self.stopped.get()
    }
}

/// The value below which a share of the sorted values lies, in milliseconds.
pub fn percentile(sorted: &[u32], share: f64) -> Option<f64> {
    let rank = (share * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.clamp(1, sorted.len().max(1)) - 1).map(|micros| f64::from(*micros) / 1000.0)
}

fn micros(duration: Duration) -> u32 {
    u32::try_from(duration.as_micros()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_counts_for_the_round_it_ends_in() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let (pulse, window) = (Pulse::default(), Window { from: start, to: at(9000) });
        pulse.beat(at(0), window);
        pulse.beat(at(20), window);
        pulse.begin_round();
        pulse.beat(at(320), window);
        pulse.beat(at(325), window);
        assert_eq!((pulse.rounds(), pulse.longest()), (vec![Duration::from_millis(300)], Duration::from_millis(300)));
    }

    #[test]
    fn pulse_of_a_total_stops_when_that_was_submitted() {
        let pulse = Pulse::of_total(Some(5));
        pulse.submitted(4);
        assert!(!pulse.is_stopped());
        pulse.submitted(4);
        assert!(pulse.is_stopped());
        let endless = Pulse::of_total(None);
        endless.submitted(u64::MAX);
        assert!(!endless.is_stopped());
    }

    #[test]
    fn percentiles_are_nearest_ranks() {
        let sorted: Vec<u32> = (1..=100).map(|value| value * 1000).collect();
        assert_eq!(percentile(&sorted, 0.5), Some(50.0));
        assert_eq!(percentile(&sorted, 0.99), Some(99.0));
        assert_eq!(percentile(&sorted, 1.0), Some(100.0));
        assert_eq!(percentile(&[7000], 0.5), Some(7.0));
        assert_eq!(percentile(&[], 0.5), None);
    }
}
