//! Which indices the log is kept for: those of snapshots that are being taken away.
//!
//! Whoever installs one asks for the entries behind it next. If the log were cut meanwhile, it would need another snapshot, and
//! under a steady load another after that.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::time::Instant;

/// How long after the end of a transfer the log stays: until Raft tells how far that peer is, which then counts.
const LINGER: Duration = Duration::from_secs(2);

/// All that are under way.
#[derive(Clone, Debug, Default)]
pub struct TakenAway(Arc<Mutex<Indices>>);

#[derive(Debug, Default)]
struct Indices {
    /// By a number of their own; the moment at which those that have ended no longer count.
    taken: BTreeMap<u64, (u64, Option<Instant>)>,
    last: u64,
}

/// One that is under way, until this is dropped.
#[derive(Debug)]
pub struct Taken {
    number: u64,
    all: TakenAway,
}

impl TakenAway {
    pub fn add(&self, index: u64) -> Taken {
        let mut indices = self.0.lock().expect("no holder of this lock panics");
        indices.last += 1;
        let number = indices.last;
        indices.taken.insert(number, (index, None));
        Taken { number, all: self.clone() }
    }

    /// The lowest of them.
    pub fn lowest(&self, now: Instant) -> Option<u64> {
        let mut indices = self.0.lock().expect("no holder of this lock panics");
        indices.taken.retain(|_, (_, until)| until.is_none_or(|until| now < until));
        indices.taken.values().map(|(index, _)| *index).min()
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        let mut indices = self.all.0.lock().expect("no holder of this lock panics");
        let (_, until) = indices.taken.get_mut(&self.number).expect("only those that ended are dropped");
        *until = Some(Instant::now() + LINGER);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lowest_counts_what_is_under_way_or_has_just_ended() {
        let (all, now) = (TakenAway::default(), Instant::now());
        assert_eq!(all.lowest(now), None);
        let (one, other) = (all.add(7), all.add(9));
        assert_eq!(all.lowest(now), Some(7));
        drop(one);
        assert_eq!(all.lowest(now), Some(7));
        let later = Instant::now() + LINGER;
        assert_eq!(all.lowest(later), Some(9));
        drop(other);
        assert_eq!(all.lowest(later + LINGER), None);
    }
}
