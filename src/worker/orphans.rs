//! The last line: the supervisor itself was killed, and its commands, if they were not to be adopted by init, came to the
//! node. The node is a child subreaper for this case alone, and kills what carries the marker of its supervisor.

use std::collections::HashSet;
use std::process::Child;
use std::time::{Duration, Instant};

use nix::sys::prctl;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;

use super::tree::{all_processes, by_lease, children_of, lease_in_environment};

const POLL: Duration = Duration::from_millis(5);
/// Only a process that waits in the kernel can survive KILL for so long.
const PATIENCE: Duration = Duration::from_secs(10);

pub fn adopt_orphans_of_supervisors() -> std::io::Result<()> {
    Ok(prctl::set_child_subreaper(true)?)
}

/// Waits until the supervisor has ended, kills it if it does not, and then all it has left: processes with its marker,
/// and the process groups of its commands.
pub fn bury(mut supervisor: Child, patience: Duration, marker: &str, groups: &HashSet<i32>) -> std::io::Result<()> {
    let give_up = Instant::now() + patience;
    while supervisor.try_wait()?.is_none() {
        if Instant::now() >= give_up {
            supervisor.kill()?;
        }
        std::thread::sleep(POLL);
    }
    let give_up = Instant::now() + PATIENCE;
    while kill_orphans(marker, groups) > 0 && Instant::now() < give_up {
        std::thread::sleep(POLL);
    }
    Ok(())
}

/// Returns how many there were.
fn kill_orphans(marker: &str, groups: &HashSet<i32>) -> usize {
    let own = std::process::id() as i32;
    let processes = all_processes();
    let is_orphan = |pid: i32, group: i32| groups.contains(&group) || lease_in_environment(pid, marker).is_some();
    let trees = by_lease(&processes, own, |child| is_orphan(child.pid, child.group).then_some(0));
    let living = trees.into_values().flatten().map(|process| process.pid);
    // Of the dead only the group is left to know them by.
    let dead = children_of(own, &processes).filter(|child| child.is_zombie && groups.contains(&child.group));
    let pids: Vec<i32> = living.chain(dead.map(|child| child.pid)).collect();
    for pid in pids.iter().map(|pid| Pid::from_raw(*pid)) {
        let _may_have_ended = kill(pid, Signal::SIGKILL);
        let _may_not_be_a_child_yet = waitpid(pid, Some(WaitPidFlag::WNOHANG));
    }
    pids.len()
}
