//! The only clocks. The pure core sees none: the leader stamps what it proposes (design 2.1).
//!
//! - *Wall* time is what people read; it may jump.
//! - *Monotonic* time never jumps and includes the time a machine slept (`CLOCK_BOOTTIME`), so that a lease counted on it
//!   is never believed longer than it is.
//!
//! `RAFTQ_TEST_WALL_OFFSET_MS=OFFSET[@AFTER]` shifts this process's wall clock by OFFSET ms, from AFTER ms past its start
//! on. Tests make the clock of one node jump with it; nothing else reads it.

use std::sync::{
    Arc,
    atomic::{AtomicI64, AtomicU64, Ordering},
};

/// A source of both times. Clones share it.
#[derive(Clone, Debug)]
pub struct Clock {
    source: Arc<Source>,
}

#[derive(Debug)]
enum Source {
    System { jump: Option<Jump> },
    Manual { monotonic_ms: AtomicU64, wall_ms: AtomicI64 },
}

/// A wall clock that jumps once, for tests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Jump {
    offset_ms: i64,
    from_monotonic_ms: u64,
}

impl Clock {
    /// The machine's clocks.
    pub fn system() -> Self {
        let typed = std::env::var("RAFTQ_TEST_WALL_OFFSET_MS").ok();
        let jump = typed.as_deref().and_then(|text| Jump::parse(text, boot_time_ms()));
        Self { source: Arc::new(Source::System { jump }) }
    }

    /// A clock that moves only when told.
    pub fn manual(wall_ms: u64) -> Self {
        let source = Source::Manual { monotonic_ms: AtomicU64::new(0), wall_ms: AtomicI64::new(signed(wall_ms)) };
        Self { source: Arc::new(source) }
    }

    /// Milliseconds since the Unix epoch.
    pub fn wall_ms(&self) -> u64 {
        match &*self.source {
            Source::System { jump } => {
                let offset = jump.filter(|jump| boot_time_ms() >= jump.from_monotonic_ms).map_or(0, |j| j.offset_ms);
                read(libc::CLOCK_REALTIME).saturating_add_signed(offset)
            }
            Source::Manual { wall_ms, .. } => u64::try_from(wall_ms.load(Ordering::SeqCst)).unwrap_or(0),
        }
    }

    /// Milliseconds since some fixed moment, suspend included.
    pub fn monotonic_ms(&self) -> u64 {
        match &*self.source {
            Source::System { .. } => boot_time_ms(),
            Source::Manual { monotonic_ms, .. } => monotonic_ms.load(Ordering::SeqCst),
        }
    }

    /// Moves a manual clock; both times advance alike.
    ///
    /// # Panics
    /// On the system's clocks.
    pub fn advance_ms(&self, by: u64) {
        let Source::Manual { monotonic_ms, wall_ms } = &*self.source else {
            panic!("only a manual clock can be moved");
        };
        monotonic_ms.fetch_add(by, Ordering::SeqCst);
        wall_ms.fetch_add(signed(by), Ordering::SeqCst);
    }
}

impl Jump {
    fn parse(text: &str, now_ms: u64) -> Option<Self> {
        let (offset, after) = text.split_once('@').unwrap_or((text, "0"));
        let from_monotonic_ms = now_ms.saturating_add(after.parse().ok()?);
        Some(Self { offset_ms: offset.parse().ok()?, from_monotonic_ms })
    }
}

fn signed(ms: u64) -> i64 {
    i64::try_from(ms).unwrap_or(i64::MAX)
}

fn boot_time_ms() -> u64 {
    read(libc::CLOCK_BOOTTIME)
}

fn read(clock: libc::clockid_t) -> u64 {
    let id = nix::time::ClockId::from_raw(clock);
    let time = nix::time::clock_gettime(id).expect("Linux has had these clocks since 2.6.39");
    let ms = time.tv_sec().saturating_mul(1000).saturating_add(time.tv_nsec() / 1_000_000);
    u64::try_from(ms).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn monotonic_system_clock_never_falls() {
        let clock = Clock::system();
        let first = clock.monotonic_ms();
        assert!(clock.monotonic_ms() >= first);
        assert!(clock.wall_ms() > 1_700_000_000_000);
    }

    #[test]
    fn advance_manual_clock_moves_both_times() {
        let clock = Clock::manual(1_000);
        clock.clone().advance_ms(5);
        assert_eq!((clock.monotonic_ms(), clock.wall_ms()), (5, 1_005));
    }

    #[test]
    fn jump_parses_offset_and_delay() {
        assert_eq!(Jump::parse("-5", 10), Some(Jump { offset_ms: -5, from_monotonic_ms: 10 }));
        assert_eq!(Jump::parse("7@100", 10), Some(Jump { offset_ms: 7, from_monotonic_ms: 110 }));
        assert_eq!(Jump::parse("soon", 10), None);
    }
}
