//! What is done to whole trees: measured, asked to end, killed. All three need a look at /proc, so they share one.

use std::collections::HashMap;
use std::fs;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::super::boottime::Boottime;
use super::super::memory::Memory;
use super::super::reason::Reason;
use super::super::tree::{Process, all_processes, by_lease};
use super::event_loop::EventLoop;
use super::job::Job;

/// Jobs younger than this are never looked at: most are over before, and a look costs as much as starting one.
const UNSEEN_MS: u64 = 100;
/// Between two looks for the sake of measuring.
const LOOK_MS: u64 = 250;
/// Looking takes at most this share of one core: on a machine with very many processes it becomes rarer.
const LOOK_SHARE: u64 = 20;
/// Whoever is over its needs by less is not what the machine lacks.
const EXCESS_BYTES_MIN: u64 = 32 << 20;
/// Between two rounds of KILL on a tree that does not go: it breeds, or waits in the kernel.
const KILL_AGAIN_MS: u64 = 20;

impl EventLoop {
    /// Everything that is due.
    pub fn check_time(&mut self, now: Boottime) {
        if self.jobs.values().any(|job| now >= self.right.lapses(job.until)) {
            // After a stall of this process the proof may lie in the socket, behind the output of many commands.
            self.handle_messages();
        }
        self.jobs.values_mut().for_each(|job| job.check_time(now, self.right, &self.plumbing));
        if self.strays.values().any(|kill_at| now >= *kill_at) {
            self.adopt_orphans();
            self.finish_jobs_without_children();
        }
        let is_signal_due = self
            .jobs
            .values()
            .any(|job| job.stop.is_some_and(|stop| !stop.is_told || (now >= stop.kill_at && now >= self.next_kill)));
        if is_signal_due || now >= self.next_look_due() {
            self.look(now);
        }
    }

    /// When the oldest job is old enough to be measured.
    pub fn next_look_due(&self) -> Boottime {
        let oldest = self.jobs.values().map(|job| job.started.after_ms(UNSEEN_MS)).min();
        oldest.map_or(Boottime::NEVER, |oldest| oldest.max(self.next_look))
    }

    fn look(&mut self, now: Boottime) {
        self.adopt_orphans();
        let processes = all_processes();
        let own = std::process::id() as i32;
        let owner = |pid: &i32| self.mains.get(pid).or_else(|| self.orphans.get(pid)).copied();
        let trees = by_lease(&processes, own, |child| owner(&child.pid));
        self.seen = trees.iter().flat_map(|(lease, tree)| tree.iter().map(|process| (process.pid, *lease))).collect();
        self.measure(&trees, now);
        self.relieve(now);
        self.signal(&trees, now);
        self.next_look = now.after_ms(LOOK_MS.max(LOOK_SHARE * Boottime::now().ms_since(now)));
        self.oom_kills = oom_kills();
    }

    fn measure(&mut self, trees: &HashMap<u64, Vec<Process>>, now: Boottime) {
        for (lease, tree) in trees {
            let Some(job) = self.jobs.get_mut(lease) else { continue };
            let resident = tree.iter().map(|process| process.resident_bytes).sum();
            job.measured(resident);
            if job.max_bytes.is_some_and(|limit| resident > limit) {
                // No grace: a command that is over its limit could go on growing in it.
                job.stop(Some(Reason::Ram), now);
            }
        }
    }

    /// Where the machine runs short, whoever is furthest over its needs goes before the kernel chooses somebody. One at a time:
    /// what that frees is known when it is gone.
    fn relieve(&mut self, now: Boottime) {
        let is_short = || Memory::read(&self.meminfo).is_some_and(|memory| memory.lacking_mb() > 0);
        if self.jobs.values().any(Job::is_giving_way) || !is_short() {
            return;
        }
        let staying = self.jobs.values_mut().filter(|job| job.stop.is_none());
        let furthest = staying.max_by_key(|job| job.excess_bytes());
        if let Some(job) = furthest.filter(|job| job.excess_bytes() >= EXCESS_BYTES_MIN) {
            job.give_way(now);
        }
    }

    fn signal(&mut self, trees: &HashMap<u64, Vec<Process>>, now: Boottime) {
        for (lease, job) in &mut self.jobs {
            let Some(stop) = &mut job.stop else { continue };
            let tree = trees.get(lease).map(Vec::as_slice).unwrap_or_default();
            if now >= stop.kill_at {
                kill_tree(tree, job.pid);
                self.next_kill = now.after_ms(KILL_AGAIN_MS);
            } else if !stop.is_told {
                ask_tree(tree);
            }
            stop.is_told = true;
        }
    }
}

/// TERM to each, and CONT, as a stopped process could not obey.
fn ask_tree(tree: &[Process]) {
    for signal in [Signal::SIGTERM, Signal::SIGCONT] {
        tree.iter().for_each(|process| send(process.pid, signal));
    }
}

/// Groups first: the kernel kills a group in one step, which nothing that forks in it escapes. Only groups that the tree
/// made itself: it could have joined another.
fn kill_tree(tree: &[Process], main: i32) {
    let is_own = |group: i32| group == main || tree.iter().any(|process| process.pid == group);
    let mut groups: Vec<i32> = tree.iter().map(|process| process.group).filter(|group| is_own(*group)).collect();
    groups.sort_unstable();
    groups.dedup();
    groups.iter().for_each(|group| send(-group, Signal::SIGKILL));
    let outside = tree.iter().filter(|process| groups.binary_search(&process.group).is_err());
    outside.for_each(|process| send(process.pid, Signal::SIGKILL));
}

fn send(target: i32, signal: Signal) {
    // It may have ended since the look; a setuid program may not be ours to signal, and the next round tries again.
    let _ = kill(Pid::from_raw(target), signal);
}

/// How often the kernel has killed for lack of memory, over the whole machine.
pub fn oom_kills() -> u64 {
    let counters = fs::read_to_string("/proc/vmstat").unwrap_or_default();
    let count = counters.lines().find_map(|line| line.strip_prefix("oom_kill ")?.parse().ok());
    count.unwrap_or(0)
}
