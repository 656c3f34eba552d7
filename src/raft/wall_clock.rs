//! Whether this node, leading, may believe its wall clock: what wall time triggers cannot be taken back (design 2.1).
//!
//! Once a second the leader compares it with the members'. In between it is held against the monotonic clock, so that a jump
//! is noticed by the first who asks and not by the next comparison. A new leader believes nothing until it has compared.

use crate::clock::Clock;

/// Clocks that are kept by NTP differ by milliseconds; this is a wrong clock.
const OFF_MS: u64 = 10_000;

/// How the wall clock stood when the members were last asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WallClock {
    /// In which term that was.
    term: u64,
    off: bool,
    /// Wall time less monotonic time.
    ahead_ms: i128,
}

impl WallClock {
    /// Compares with the members' clocks, this node's own among them.
    pub fn compare(term: u64, clock: &Clock, mut walls: Vec<u64>) -> Self {
        walls.sort_unstable();
        let off = walls.get(walls.len() / 2).is_some_and(|median| clock.wall_ms().abs_diff(*median) > OFF_MS);
        Self { term, off, ahead_ms: ahead_ms(clock) }
    }

    pub fn is_off(&self) -> bool {
        self.off
    }

    /// Whether it still holds: in this term, and by a clock that has not jumped.
    pub fn is_trusted(&self, term: u64, clock: &Clock) -> bool {
        !self.off && self.term == term && self.ahead_ms.abs_diff(ahead_ms(clock)) <= u128::from(OFF_MS)
    }
}

fn ahead_ms(clock: &Clock) -> i128 {
    i128::from(clock.wall_ms()) - i128::from(clock.monotonic_ms())
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_700_000_000_000;

    #[test]
    fn clock_is_trusted_near_the_median_only() {
        let clock = Clock::manual(NOW);
        for (others, trusted) in [
            (vec![], true),
            (vec![NOW + 9_000, NOW - 9_000], true),
            (vec![NOW + 86_400_000, NOW + 5], true),
            (vec![NOW + 11_000, NOW + 11_000], false),
        ] {
            let walls = others.iter().copied().chain([NOW]).collect();
            assert_eq!(WallClock::compare(1, &clock, walls).is_trusted(1, &clock), trusted, "{others:?}");
        }
    }

    #[test]
    fn clock_is_trusted_in_its_term_and_while_it_keeps_pace() {
        let clock = Clock::manual(NOW);
        let compared = WallClock::compare(1, &clock, vec![NOW]);
        clock.advance_ms(86_400_000);
        assert!(compared.is_trusted(1, &clock));
        assert!(!compared.is_trusted(2, &clock), "a new leader compares first");
        assert!(!compared.is_trusted(1, &Clock::manual(NOW + 20_000)), "it has jumped");
    }
}
