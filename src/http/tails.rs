//! Output of commands that remote workers run: what came with their touches, kept by the leader alone and by nobody for long.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard},
};

use super::local::LiveOutput;
use crate::queue::ids::{JobId, LeaseId};

/// As much of one stream as the end of a report shows, several times over.
const STREAM_BYTES_MAX: usize = 32 << 10;
/// Then the oldest lease's goes: 64 MiB at most.
const LEASES_MAX: usize = 1_024;

#[derive(Default)]
pub struct Tails {
    // Held for moments, never across an await.
    by_lease: Mutex<BTreeMap<LeaseId, (JobId, LiveOutput)>>,
}

impl Tails {
    /// The last of what the command has written so far.
    pub fn put(&self, job: JobId, lease: LeaseId, output: LiveOutput) {
        let output = LiveOutput { stdout: end_of(output.stdout), stderr: end_of(output.stderr) };
        let mut by_lease = self.lock();
        by_lease.insert(lease, (job, output));
        if by_lease.len() > LEASES_MAX {
            by_lease.pop_first();
        }
    }

    pub fn of(&self, lease: LeaseId) -> Option<LiveOutput> {
        self.lock().get(&lease).map(|(_, output)| output.clone())
    }

    /// The command has ended: its report says more.
    pub fn forget(&self, job: JobId) {
        self.lock().retain(|_, (of, _)| *of != job);
    }

    pub fn clear(&self) {
        self.lock().clear();
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<LeaseId, (JobId, LiveOutput)>> {
        self.by_lease.lock().expect("nothing panics under this lock")
    }
}

fn end_of(text: String) -> String {
    let surplus = text.len().saturating_sub(STREAM_BYTES_MAX);
    match (surplus..=text.len()).find(|at| text.is_char_boundary(*at)) {
        Some(from) if surplus > 0 => text[from..].to_owned(),
        _ => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn output(stdout: &str) -> LiveOutput {
        LiveOutput { stdout: stdout.to_owned(), stderr: String::new() }
    }

    #[test]
    fn each_lease_has_its_own_and_long_output_keeps_its_end() {
        let tails = Tails::default();
        tails.put(JobId(1), LeaseId(2), output("old"));
        tails.put(JobId(1), LeaseId(3), output(&format!("{}end", "ä".repeat(STREAM_BYTES_MAX))));
        assert_eq!(tails.of(LeaseId(2)), Some(output("old")));
        let tail = tails.of(LeaseId(3)).unwrap().stdout;
        assert!(tail.ends_with("äend") && tail.len() <= STREAM_BYTES_MAX);
        tails.forget(JobId(1));
        assert_eq!((tails.of(LeaseId(2)), tails.of(LeaseId(3))), (None, None));
    }

    #[test]
    fn oldest_leases_make_room() {
        let tails = Tails::default();
        for lease in 0..=LEASES_MAX as u64 {
            tails.put(JobId(lease), LeaseId(lease), output("x"));
        }
        assert_eq!((tails.of(LeaseId(0)), tails.of(LeaseId(1))), (None, Some(output("x"))));
    }
}
