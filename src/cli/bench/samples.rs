//! What a run measured.

use std::time::Duration;

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
    /// When answers came, for the longest silence.
    last_answer: Option<Instant>,
    pub longest_gap: Duration,
    pub window: Duration,
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

    /// An answer came: the silence before it may be the longest.
    pub fn answered(&mut self, window: Window) {
        let now = Instant::now();
        if let Some(last) = self.last_answer.filter(|last| window.contains(*last)) {
            self.longest_gap = self.longest_gap.max(now - last);
        }
        self.last_answer = Some(now);
    }

    pub fn merge(&mut self, other: Samples) {
        self.latencies.extend(other.latencies);
        self.rounds.extend(other.rounds);
        self.requests += other.requests;
        self.jobs += other.jobs;
        self.repeats += other.repeats;
        self.submitted.extend(other.submitted);
        self.finished.extend(other.finished);
        self.longest_gap = self.longest_gap.max(other.longest_gap);
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
    fn percentiles_are_nearest_ranks() {
        let sorted: Vec<u32> = (1..=100).map(|value| value * 1000).collect();
        assert_eq!(percentile(&sorted, 0.5), Some(50.0));
        assert_eq!(percentile(&sorted, 0.99), Some(99.0));
        assert_eq!(percentile(&sorted, 1.0), Some(100.0));
        assert_eq!(percentile(&[7000], 0.5), Some(7.0));
        assert_eq!(percentile(&[], 0.5), None);
    }
}
