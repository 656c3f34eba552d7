//! Ends of children: whose they were, what they had used, and whether their job is thereby over.

use std::mem::MaybeUninit;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::unistd::Pid;

use super::super::boottime::Boottime;
use super::super::protocol::End;
use super::super::reason::Reason;
use super::super::tree::{lease_in_environment, own_children, process};
use super::event_loop::EventLoop;
use super::signals::oom_kills;

/// How long a child may be unknown before it is killed, and then is killed again.
const STRAY_MS: u64 = 10;
/// How long to wait between two attempts on strays at the very end.
const STRAY_WAIT: Duration = Duration::from_millis(5);

impl EventLoop {
    /// Takes every child that has ended. It is looked at first and reaped then: until it is, /proc still says whose it was.
    pub fn reap(&mut self) {
        let mut may_be_over = false;
        while let Some(pid) = next_ended_child() {
            match self.mains.remove(&pid) {
                Some(lease) => self.reap_main(pid, lease),
                None => self.reap_orphan(pid),
            }
            may_be_over = true;
        }
        if may_be_over {
            self.finish_jobs_without_children();
        }
    }

    fn reap_main(&mut self, pid: i32, lease: u64) {
        let (status, usage) = wait4(pid);
        let end = match libc::WIFEXITED(status) {
            true => End::Exited(libc::WEXITSTATUS(status)),
            false => End::Signaled(libc::WTERMSIG(status)),
        };
        let is_out_of_memory = end == End::Signaled(libc::SIGKILL) && self.has_kernel_killed_for_memory();
        let Some(job) = self.jobs.get_mut(&lease) else { return };
        if is_out_of_memory {
            job.stop(Some(Reason::Ram), Boottime::now());
        }
        job.used(&usage);
        job.main_ended(end);
    }

    fn has_kernel_killed_for_memory(&mut self) -> bool {
        let before = std::mem::replace(&mut self.oom_kills, oom_kills());
        self.oom_kills > before
    }

    fn reap_orphan(&mut self, pid: i32) {
        self.strays.remove(&pid);
        let lease = self.orphans.remove(&pid).or_else(|| self.responsible_for(pid));
        let (_, usage) = wait4(pid);
        if let Some(job) = lease.and_then(|lease| self.jobs.get_mut(&lease)) {
            job.used(&usage);
            if job.stop.is_some() {
                // What it had started is ours now, and the next to be killed.
                self.next_kill = Boottime::now();
            }
        }
    }

    /// The job that an orphan came from, if that can be known and is not over.
    pub fn responsible_for(&self, pid: i32) -> Option<u64> {
        let by_look = self.seen.get(&pid).copied().filter(|lease| self.jobs.contains_key(lease));
        let by_group = || {
            let group = process(pid)?.group;
            self.jobs.values().find(|job| job.pid == group).map(|job| job.lease)
        };
        let lease = by_look.or_else(by_group).or_else(|| lease_in_environment(pid, &self.marker))?;
        self.jobs.contains_key(&lease).then_some(lease)
    }

    /// A job is over when its main process has ended and none of our children is its orphan.
    pub fn finish_jobs_without_children(&mut self) {
        let ended: Vec<u64> = self.jobs.values().filter(|job| job.has_main_ended()).map(|job| job.lease).collect();
        if ended.is_empty() {
            return;
        }
        self.adopt_orphans();
        if !self.strays.is_empty() {
            // Whose they are is not known yet: it may be one of these.
            return;
        }
        for lease in ended {
            if !self.orphans.values().any(|owner| *owner == lease) {
                self.finish(lease);
            } else if let Some(job) = self.jobs.get_mut(&lease) {
                let kill_at = Boottime::now().after_ms(job.grace_ms);
                if job.stop.is_none() {
                    job.stop(None, kill_at);
                }
            }
        }
    }

    /// Finds out about children that came to us since the last time. One that hides from every trace is killed: whatever
    /// job it was from must not be reported over while it runs, and no other may be held up by it. But not at first sight:
    /// while a process becomes another program, its environment is not to be seen for a moment.
    pub fn adopt_orphans(&mut self) {
        let now = Boottime::now();
        for pid in own_children() {
            if self.mains.contains_key(&pid) || self.orphans.contains_key(&pid) {
                continue;
            }
            if let Some(lease) = self.responsible_for(pid) {
                self.strays.remove(&pid);
                self.orphans.insert(pid, lease);
                continue;
            }
            let kill_at = self.strays.entry(pid).or_insert(now.after_ms(STRAY_MS));
            if now >= *kill_at {
                kill_child(pid);
                *kill_at = now.after_ms(STRAY_MS);
            }
        }
    }

    pub fn kill_strays_until_none_is_left(&mut self) {
        loop {
            self.reap();
            let strays = own_children();
            if strays.is_empty() {
                return;
            }
            strays.into_iter().for_each(kill_child);
            std::thread::sleep(STRAY_WAIT);
        }
    }
}

/// Only for children that are not reaped, whose number is therefore nobody else's.
fn kill_child(pid: i32) {
    let _may_be_a_zombie = kill(Pid::from_raw(pid), Signal::SIGKILL);
}

fn next_ended_child() -> Option<i32> {
    let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
    match waitid(Id::All, flags) {
        Ok(WaitStatus::Exited(pid, _) | WaitStatus::Signaled(pid, _, _)) => Some(pid.as_raw()),
        // None has ended, or there is none.
        _ => None,
    }
}

/// The status and the use of a child that has ended, with those of its own children that it had waited for.
fn wait4(pid: i32) -> (i32, libc::rusage) {
    let mut status = 0;
    let mut usage = MaybeUninit::zeroed();
    // SAFETY: both are written by the call; a rusage of zeros is a valid one, should the call fail.
    unsafe {
        libc::wait4(pid, &raw mut status, libc::WNOHANG, usage.as_mut_ptr());
        (status, usage.assume_init())
    }
}
