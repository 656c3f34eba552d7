//! Until when nobody else can lead, on the clock that includes suspend.
//!
//! Raft counts on a monotonic clock that stands still while a machine sleeps. What a leader does outside Raft (commands it
//! runs) must end in real time, so its lease is carried over to the boot-time clock: each sample remembers how far the two
//! clocks were apart, and a confirmation counts with the distance as of when it was asked for, not as of now.

use std::{collections::VecDeque, sync::Mutex, time::Duration};

use tokio::time::Instant;

use crate::clock::Clock;

/// At ten samples a second: longer than any confirmation that still counts.
const SAMPLES_MAX: usize = 64;

/// Pairs of readings of the two clocks.
#[derive(Debug, Default)]
pub struct LeaseClock(Mutex<VecDeque<(Instant, u64)>>);

impl LeaseClock {
    pub fn sample(&self, clock: &Clock) {
        let mut samples = self.0.lock().expect("no holder of this lock panics");
        if samples.len() == SAMPLES_MAX {
            samples.pop_front();
        }
        samples.push_back((Instant::now(), clock.monotonic_ms()));
    }

    /// The end of a lease of `length` that a quorum confirmed at `asked`, in milliseconds of [`Clock::monotonic_ms`].
    pub fn end(&self, asked: Instant, length: Duration) -> Option<u64> {
        let samples = self.0.lock().expect("no holder of this lock panics");
        let (at, boot_ms) = samples.iter().rev().find(|(at, _)| *at <= asked)?;
        let since = u64::try_from((asked - *at + length).as_millis()).unwrap_or(u64::MAX);
        Some(boot_ms.saturating_add(since))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn end_after_suspend_counts_from_before_it() {
        let (lease, clock) = (LeaseClock::default(), Clock::manual(0));
        lease.sample(&clock);
        let asked = Instant::now();
        // The machine sleeps: boot time moves, the monotonic clock does not.
        clock.advance_ms(60_000);
        lease.sample(&clock);
        let end = lease.end(asked, Duration::from_millis(400)).expect("sampled before it was asked");
        assert!((400..1_400).contains(&end), "{end}");
    }

    #[test]
    fn end_without_an_earlier_sample_is_unknown() {
        let (lease, asked) = (LeaseClock::default(), Instant::now());
        lease.sample(&Clock::manual(0));
        assert_eq!(lease.end(asked, Duration::ZERO), None);
    }
}
