//! The last line: the supervisor itself was killed, and its commands, if they were not to be adopted by init, came to the
//! node. The node is a child subreaper for this case alone, and kills what carries the marker of its supervisor.

use std::collections::HashSet;
use std::process::Child;
use std::time::{Duration, Instant};

use nix::sys::prctl;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;

use super::cgroup::Cgroup;
use super::tree::{Process, all_processes, by_lease, children_of, lease_in_environment};

const POLL: Duration = Duration::from_millis(5);
/// Only a process that waits in the kernel can survive KILL for so long.
const PATIENCE: Duration = Duration::from_secs(10);

pub fn adopt_orphans_of_supervisors() -> std::io::Result<()> {
    Ok(prctl::set_child_subreaper(true)?)
}

/// Waits until the supervisor has ended, kills it if it does not, and then all it has left: the processes in its cgroup,
/// where it has one, those with its marker, and the process groups of its commands.
pub fn bury(mut supervisor: Child, patience: Duration, marker: &str, groups: HashSet<i32>) -> std::io::Result<()> {
    let give_up = Instant::now() + patience;
    while supervisor.try_wait()?.is_none() {
        if Instant::now() >= give_up {
            supervisor.kill()?;
        }
        std::thread::sleep(POLL);
    }
    let mut orphans = Orphans { marker, groups, cgroup: Cgroup::of_supervisor(marker), members: HashSet::new() };
    let give_up = Instant::now() + PATIENCE;
    while orphans.kill() > 0 && Instant::now() < give_up {
        std::thread::sleep(POLL);
    }
    if let Some(cgroup) = orphans.cgroup {
        cgroup.remove();
    }
    Ok(())
}

/// What is known of the processes that a dead supervisor has left.
struct Orphans<'a> {
    marker: &'a str,
    groups: HashSet<i32>,
    cgroup: Option<Cgroup>,
    /// Whoever was seen in the cgroup, for the dead are not.
    members: HashSet<i32>,
}

impl Orphans<'_> {
    /// Returns how many there were, dead ones included.
    fn kill(&mut self) -> usize {
        if let Some(cgroup) = &self.cgroup {
            self.members.extend(cgroup.members());
            cgroup.kill();
        }
        let own = std::process::id() as i32;
        let processes = all_processes();
        let trees = by_lease(&processes, own, |child| self.is_ours(child).then_some(0));
        let living = trees.into_values().flatten().map(|process| process.pid);
        let dead = children_of(own, &processes).filter(|child| child.is_zombie && self.is_known(child));
        let pids: Vec<i32> = living.chain(dead.map(|child| child.pid)).collect();
        for pid in pids.iter().map(|pid| Pid::from_raw(*pid)) {
            let _may_have_ended = kill(pid, Signal::SIGKILL);
            let _may_not_be_a_child_yet = waitpid(pid, Some(WaitPidFlag::WNOHANG));
        }
        pids.len()
    }

    fn is_known(&self, process: &Process) -> bool {
        self.groups.contains(&process.group) || self.members.contains(&process.pid)
    }

    fn is_ours(&self, process: &Process) -> bool {
        self.is_known(process) || lease_in_environment(process.pid, self.marker).is_some()
    }
}
