//! Scripts that measure, started as a person would: that they still run, and count.

use std::{
    fs::{self, File},
    os::unix::process::CommandExt,
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    time::Duration,
};

use nix::{
    sys::signal::{Signal, killpg},
    unistd::{Pid, geteuid},
};

use crate::harness::within;

/// One round takes some ten seconds.
const ROUND: Duration = Duration::from_secs(90);
/// For the script to take its network down.
const CLEAN_UP: Duration = Duration::from_secs(15);

/// Needs root, network namespaces, and that nobody else drills on this machine.
#[test]
fn cut_drill_counts_a_cut_and_leaves_no_network_behind() {
    if let Some(reason) = no_drill_because() {
        return eprintln!("skipped: {reason}");
    }
    let directory = tempfile::tempdir().expect("a directory can be made");
    let status = end_of(start_cut_drill(directory.path()));
    let said = fs::read_to_string(directory.path().join("said")).expect("text");
    assert!(status.is_some_and(|status| status.success()), "{status:?}: {said}");
    let told = |name: &str| Some(said.lines().find_map(|line| line.strip_prefix(name))?.trim().to_owned());
    assert_eq!((told("missing"), told("granted twice")), (Some("0".into()), Some("0".into())), "{said}");
    let gap = told("longest gap ms").and_then(|gap| gap.parse::<u64>().ok());
    assert!(gap.is_some_and(|gap| gap > 0), "a cut is felt: {said}");
    assert!(!namespaces().contains("raftq-cut"), "{}", namespaces());
}

fn no_drill_because() -> Option<&'static str> {
    let ip = |arguments: &[&str]| Command::new("ip").args(arguments).output().is_ok_and(|ended| ended.status.success());
    if !geteuid().is_root() {
        return Some("network namespaces need root");
    }
    if namespaces().contains("raftq-cut") {
        return Some("another drill runs");
    }
    let probe = format!("raftq-probe-{}", std::process::id());
    let can = ip(&["netns", "add", &probe]) && ip(&["netns", "del", &probe]);
    (!can).then_some("no network namespace may be made here")
}

fn namespaces() -> String {
    let listed = Command::new("ip").args(["netns", "list"]).output();
    listed.map(|listed| String::from_utf8_lossy(&listed.stdout).into_owned()).unwrap_or_default()
}

/// In a process group of its own, which can be ended as a whole.
fn start_cut_drill(directory: &Path) -> Child {
    let said = File::create(directory.join("said")).expect("a file can be made");
    Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/cut-drill"))
        .arg("1")
        .env("RAFTQ_BIN", env!("CARGO_BIN_EXE_raftq"))
        .env("TMPDIR", directory)
        .env_remove("RAFTQ_SERVER")
        .stdin(Stdio::null())
        .stdout(said.try_clone().expect("a descriptor can be duplicated"))
        .stderr(said)
        .process_group(0)
        .spawn()
        .expect("the script can be started")
}

/// What takes too long is ended, and cleans up.
fn end_of(mut drill: Child) -> Option<ExitStatus> {
    let group = Pid::from_raw(drill.id() as i32);
    let mut ended = |limit| within(limit, || drill.try_wait().expect("a child can be waited for"));
    let status = ended(ROUND);
    for signal in [Signal::SIGTERM, Signal::SIGKILL] {
        // There is none any more, if it has ended in order.
        let _ = killpg(group, signal);
        if status.is_some() || ended(CLEAN_UP).is_some() {
            break;
        }
    }
    status
}
