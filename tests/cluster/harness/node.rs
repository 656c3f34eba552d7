//! One node: a child process, its configuration, its data and its log.

use std::{
    collections::BTreeSet,
    fs::{self, File, OpenOptions},
    net::TcpListener,
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::Mutex,
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use super::{wait::eventually, wires::Wires};

/// Ports are drawn from below the range that the kernel gives to outgoing connections. A port from `bind(0)` would lie in
/// it, and could be taken by any client while its node is down for a restart.
const PORTS: std::ops::Range<u16> = 10_000..32_000;

pub struct Node {
    pub id: u64,
    pub api: String,
    pub peer: String,
    directory: PathBuf,
    /// A library that stands between the process and the C library.
    preload: Option<PathBuf>,
    wall_offset_ms: Mutex<Option<i64>>,
    /// Between this node and its peers, and what it is reached at there.
    wires: Option<(Wires, String)>,
    child: Mutex<Option<Child>>,
}

impl Node {
    /// A node with free ports; its configuration is written by the cluster, which knows all members.
    pub fn new(id: u64, directory: &Path) -> Self {
        Self::at(id, free_address(), free_address(), directory)
    }

    /// A node at addresses that are known already.
    pub fn at(id: u64, api: String, peer: String, directory: &Path) -> Self {
        Self {
            id,
            api,
            peer,
            directory: directory.to_owned(),
            preload: None,
            wires: None,
            wall_offset_ms: Mutex::new(None),
            child: Mutex::new(None),
        }
    }

    /// From the next start on.
    pub fn preload(&mut self, library: &Path) {
        self.preload = Some(library.to_owned());
    }

    /// Its wall clock is wrong by this, from the next start on.
    pub fn wall_clock_off_by(&self, ms: i64) {
        *self.wall_offset_ms.lock().expect("no test panics while it holds this") = Some(ms);
    }

    /// Puts a wire before the peer listener.
    pub fn wire(&mut self, wires: &Wires) {
        self.wires = Some((wires.clone(), wires.lay(self.id, &self.peer)));
    }

    /// What other nodes reach it at.
    pub fn advertised_peer(&self) -> &str {
        self.wires.as_ref().map_or(&self.peer, |(_, address)| address)
    }

    /// Where the faults of this node's machine are written down.
    pub fn faults(&self) -> PathBuf {
        self.directory.join("faults").join(format!("node{}", self.id))
    }

    pub fn config_path(&self) -> PathBuf {
        self.directory.join(format!("node{}.toml", self.id))
    }

    pub fn data_dir(&self) -> PathBuf {
        self.directory.join("data").join(format!("node{}", self.id))
    }

    pub fn log_path(&self) -> PathBuf {
        self.directory.join(format!("node{}.log", self.id))
    }

    /// Starts the process; it may not be ready yet, and it may have refused to start.
    pub fn start(&self) {
        self.start_with(&["--init-if-new"]);
    }

    pub fn start_with(&self, arguments: &[&str]) {
        let mut child = self.child.lock().expect("no test panics while it holds this");
        assert!(child.is_none(), "node {} is running already", self.id);
        let process = self.spawn(arguments);
        if let Some((wires, _)) = &self.wires {
            wires.belongs(process.id(), self.id);
        }
        *child = Some(process);
    }

    fn spawn(&self, arguments: &[&str]) -> Child {
        let log = append(&self.log_path());
        let offset = *self.wall_offset_ms.lock().expect("no test panics while it holds this");
        Command::new(env!("CARGO_BIN_EXE_raftq"))
            .arg("node")
            .arg("--config")
            .arg(self.config_path())
            .args(arguments)
            .current_dir(&self.directory)
            .env_remove("RAFTQ_SERVER")
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a descriptor can be duplicated"))
            .stderr(log)
            .envs(self.preload.iter().map(|library| ("LD_PRELOAD", library)))
            .envs(offset.iter().map(|ms| ("RAFTQ_TEST_WALL_OFFSET_MS", ms.to_string())))
            .envs(self.preload.iter().flat_map(|library| [("LD_PRELOAD", library.clone()), ("FAULTS", self.faults())]))
            .spawn()
            .expect("the binary can be started")
    }

    pub fn is_running(&self) -> bool {
        self.child.lock().expect("no test panics while it holds this").is_some()
    }

    pub fn pid(&self) -> Option<u32> {
        self.child.lock().expect("no test panics while it holds this").as_ref().map(Child::id)
    }

    /// kill -9, and reaped. Nothing happens to a node that is down.
    pub fn kill(&self) {
        if let Some(mut child) = self.child.lock().expect("no test panics while it holds this").take() {
            end(&mut child);
        }
    }

    /// The host that freezes.
    pub fn pause(&self) {
        self.signal(Signal::SIGSTOP);
    }

    pub fn resume(&self) {
        self.signal(Signal::SIGCONT);
    }

    /// Asks the node to stop, and waits until it has.
    pub fn terminate(&self, limit: Duration) -> ExitStatus {
        self.signal(Signal::SIGTERM);
        self.wait_exit(limit)
    }

    /// Waits until the process has ended by itself.
    pub fn wait_exit(&self, limit: Duration) -> ExitStatus {
        let status = eventually(&format!("node {} ends", self.id), limit, || {
            let mut child = self.child.lock().expect("no test panics while it holds this");
            child.as_mut().expect("the node was started").try_wait().expect("a child can be waited for")
        });
        self.child.lock().expect("no test panics while it holds this").take();
        status
    }

    /// Its exit code, should it have ended by itself.
    pub fn exited(&self) -> Option<i32> {
        let mut child = self.child.lock().expect("no test panics while it holds this");
        let status = child.as_mut()?.try_wait().expect("a child can be waited for")?;
        Some(status.code().unwrap_or_else(|| -status.signal().unwrap_or(0)))
    }

    fn signal(&self, signal: Signal) {
        let pid = self.pid().unwrap_or_else(|| panic!("node {} is not running", self.id));
        kill(Pid::from_raw(pid as i32), signal).expect("a child that was not reaped can be signalled");
    }

    /// The disk that was lost.
    pub fn wipe(&self) {
        assert!(!self.is_running(), "wiping the data of a running node tests nothing");
        fs::remove_dir_all(self.data_dir()).expect("the data directory can be removed");
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.log_path()).unwrap_or_default()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.kill();
    }
}

/// SIGKILL ends a stopped process too.
fn end(child: &mut Child) {
    // It may have ended by itself; then there is nothing to kill, and still something to reap.
    let _ = child.kill();
    child.wait().expect("a child can be waited for");
}

fn append(path: &Path) -> File {
    OpenOptions::new().create(true).append(true).open(path).expect("the log can be opened")
}

/// An address that nobody has now, and that this test has not had: its nodes bind theirs only later.
fn free_address() -> String {
    static GIVEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());
    let mut given = GIVEN.lock().expect("no holder of this lock panics");
    let free = (0..1000)
        .map(|_| rand::random_range(PORTS))
        .find(|port| given.insert(*port) && TcpListener::bind(("127.0.0.1", *port)).is_ok());
    format!("127.0.0.1:{}", free.expect("one of a thousand ports is free"))
}
