//! One cgroup for all commands of a supervisor, where this user may make one (version 2 of the hierarchy, as root or in a
//! part that was delegated to the user).
//!
//! It is the safety net below the trees: nothing leaves a cgroup by forking, daemonizing or clearing its environment, and
//! the kernel kills all of one in a single step, faster than anything breeds. The supervisor moves into it itself, so its
//! commands are born there at no cost; one cgroup for each job would cost more than a short job does. So it is of use
//! only when the supervisor is to go as well: in its last hour, or when it is dead.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Begins the names of all cgroups made here, followed by the supervisor's marker.
const NAME: &str = "raftq-";

pub struct Cgroup {
    parent: PathBuf,
    directory: PathBuf,
}

impl Cgroup {
    /// Where it is, for a supervisor that has not entered it and for its node.
    pub fn of_supervisor(marker: &str) -> Option<Self> {
        let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
        let own = fs::read_to_string("/proc/self/cgroup").ok()?;
        let parent = Path::new(mount_point(&mounts)?).join(own_path(&own)?);
        let directory = parent.join(format!("{NAME}{marker}"));
        Some(Self { parent, directory })
    }

    /// Makes it and moves this process there. It is not needed; where it is not allowed, the trees must do.
    pub fn enter(&self) -> io::Result<()> {
        self.remove_those_of_the_dead();
        match fs::create_dir(&self.directory) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        // Kernels before 5.14 have no such file, and then there is no use in it.
        let entered = fs::metadata(self.directory.join("cgroup.kill"));
        entered.and_then(|_| self.move_into(&self.directory)).inspect_err(|_| self.remove())
    }

    /// For a supervisor that has nothing left to own.
    pub fn leave(&self) {
        if self.move_into(&self.parent).is_ok() {
            self.remove();
        }
    }

    /// Kills all in it, and so the caller if that is the supervisor.
    pub fn kill(&self) {
        let _there_may_be_none = fs::write(self.directory.join("cgroup.kill"), "1");
    }

    /// The processes in it. Zombies are not among them.
    pub fn members(&self) -> Vec<i32> {
        let list = fs::read_to_string(self.directory.join("cgroup.procs")).unwrap_or_default();
        list.lines().filter_map(|line| line.parse().ok()).collect()
    }

    /// The kernel refuses while there is anybody in it.
    pub fn remove(&self) {
        let _may_be_in_use = fs::remove_dir(&self.directory);
    }

    fn move_into(&self, directory: &Path) -> io::Result<()> {
        fs::write(directory.join("cgroup.procs"), std::process::id().to_string())
    }

    fn remove_those_of_the_dead(&self) {
        let siblings = fs::read_dir(&self.parent).into_iter().flatten().flatten();
        for sibling in siblings.filter(|sibling| sibling.file_name().to_string_lossy().starts_with(NAME)) {
            let _may_be_in_use = fs::remove_dir(sibling.path());
        }
    }
}

/// `36 25 0:30 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw`, of all mounts.
fn mount_point(mounts: &str) -> Option<&str> {
    let is_second_version = |line: &&str| line.split(" - ").nth(1).is_some_and(|rest| rest.starts_with("cgroup2 "));
    mounts.lines().find(is_second_version)?.split(' ').nth(4)
}

/// `0::/user.slice/session.scope`, beside lines of the first version; without the slash at its beginning.
fn own_path(memberships: &str) -> Option<&str> {
    memberships.lines().find_map(|line| line.strip_prefix("0::/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn place_is_found_beside_the_first_version() {
        let mounts = "31 23 0:26 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n36 25 0:30 / /sys/fs/cgroup/unified rw,nosuid \
                      shared:4 - cgroup2 cgroup2 rw\n";
        assert_eq!(mount_point(mounts), Some("/sys/fs/cgroup/unified"));
        assert_eq!(mount_point("31 23 0:26 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n"), None);
        assert_eq!(own_path("8:pids:/a\n0::/user.slice/b.scope\n"), Some("user.slice/b.scope"));
        assert_eq!(own_path("0::/\n"), Some(""));
        assert_eq!(own_path("8:pids:/a\n"), None);
    }
}
