//! Process trees as /proc shows them. One read of /proc is not a moment in time: processes come and go while it is read.
//! It is exact where it matters: whoever is a child of the reading subreaper stays listed until it is reaped, so a tree
//! of which no such child is left is gone.

use std::collections::HashMap;
use std::fs;

use super::protocol::{LEASE_VARIABLE, MARKER_VARIABLE};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    pub pid: i32,
    pub parent: i32,
    pub group: i32,
    pub is_zombie: bool,
    pub resident_bytes: u64,
}

/// Every process of the machine.
pub fn all_processes() -> Vec<Process> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter_map(process).collect()
}

pub fn process(pid: i32) -> Option<Process> {
    parse_stat(pid, &fs::read(format!("/proc/{pid}/stat")).ok()?)
}

/// `pid (name) state parent group ...`, where the name may hold anything, parentheses and spaces too.
fn parse_stat(pid: i32, stat: &[u8]) -> Option<Process> {
    let after_name = stat.iter().rposition(|byte| *byte == b')')? + 2;
    let fields: Vec<&str> = std::str::from_utf8(stat.get(after_name..)?).ok()?.split(' ').collect();
    Some(Process {
        pid,
        parent: fields.get(1)?.parse().ok()?,
        group: fields.get(2)?.parse().ok()?,
        is_zombie: matches!(*fields.first()?, "Z" | "X"),
        resident_bytes: fields.get(21)?.parse::<u64>().ok()? * page_bytes(),
    })
}

fn page_bytes() -> u64 {
    // SAFETY: no memory is passed.
    u64::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).expect("every Linux knows its page size")
}

/// The children of this process, which must have one thread only. Kernels without CONFIG_PROC_CHILDREN are asked the long way.
pub fn own_children() -> Vec<i32> {
    let own = std::process::id() as i32;
    match fs::read_to_string(format!("/proc/{own}/task/{own}/children")) {
        Ok(list) => list.split_ascii_whitespace().filter_map(|pid| pid.parse().ok()).collect(),
        Err(_) => children_of(own, &all_processes()).map(|process| process.pid).collect(),
    }
}

pub fn children_of(parent: i32, processes: &[Process]) -> impl Iterator<Item = &Process> {
    processes.iter().filter(move |process| process.parent == parent)
}

/// The lease in whose name this supervisor started the process, from its environment, unless it cleared that.
pub fn lease_in_environment(pid: i32, marker: &str) -> Option<u64> {
    let environment = fs::read(format!("/proc/{pid}/environ")).ok()?;
    let value = |name: &str| {
        let mut variables = environment.split(|byte| *byte == 0);
        variables.find_map(|variable| variable.strip_prefix(name.as_bytes())?.strip_prefix(b"="))
    };
    if value(MARKER_VARIABLE)? != marker.as_bytes() {
        return None;
    }
    std::str::from_utf8(value(LEASE_VARIABLE)?).ok()?.parse().ok()
}

/// Sorts the living descendants of `root` by the lease that each child of `root` belongs to.
pub fn by_lease(
    processes: &[Process],
    root: i32,
    lease_of: impl Fn(&Process) -> Option<u64>,
) -> HashMap<u64, Vec<Process>> {
    let mut children: HashMap<i32, Vec<&Process>> = HashMap::new();
    processes.iter().for_each(|process| children.entry(process.parent).or_default().push(process));
    let mut sorted: HashMap<u64, Vec<Process>> = HashMap::new();
    for top in children.remove(&root).unwrap_or_default() {
        let Some(lease) = lease_of(top) else { continue };
        let tree = sorted.entry(lease).or_default();
        let mut pending = vec![top];
        while let Some(process) = pending.pop() {
            // Taken out, not looked up: lists read while processes move may hold a circle.
            pending.extend(children.remove(&process.pid).unwrap_or_default());
            if !process.is_zombie {
                tree.push(process.clone());
            }
        }
    }
    sorted
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(pid: i32, parent: i32) -> Process {
        Process { pid, parent, group: pid, is_zombie: false, resident_bytes: 0 }
    }

    #[test]
    fn parse_stat_survives_strange_names() {
        let stat = b"7 (a) R 1 (b)) S 3 5 5 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 100 1000000 250 18446744073709551615";
        let parsed = parse_stat(7, stat).unwrap();
        assert_eq!(
            parsed,
            Process { pid: 7, parent: 3, group: 5, is_zombie: false, resident_bytes: 250 * page_bytes() }
        );
        assert_eq!(parse_stat(7, b"7 (cut"), None);
        assert_eq!(parse_stat(7, b""), None);
    }

    #[test]
    fn all_processes_lists_this_one() {
        let own = std::process::id() as i32;
        let found = all_processes().into_iter().find(|process| process.pid == own).unwrap();
        assert!(found.resident_bytes > 0 && !found.is_zombie);
    }

    #[test]
    fn by_lease_follows_the_tree_below_each_child() {
        let processes =
            [process(10, 1), process(11, 10), process(12, 11), process(20, 1), process(30, 2), process(40, 1)];
        let sorted = by_lease(&processes, 1, |top| (top.pid != 40).then_some(top.pid as u64));
        let pids = |lease: u64| sorted[&lease].iter().map(|process| process.pid).collect::<Vec<_>>();
        assert_eq!((pids(10), pids(20), sorted.len()), (vec![10, 11, 12], vec![20], 2));
    }

    #[test]
    fn by_lease_ends_on_a_circle() {
        let processes = [process(10, 1), process(11, 12), process(12, 11), process(10, 10)];
        assert_eq!(by_lease(&processes, 1, |_| Some(1))[&1].len(), 2);
    }
}
