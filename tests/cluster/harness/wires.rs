//! The wires between nodes, each of which can be cut: nothing is heard on it any more, and nobody is told.
//!
//! ```text
//!   node 1 ──► wire to 2 ──► peer listener of node 2        what node 2 advertises is the wire, not its listener
//! ```
//!
//! A wire knows who speaks by the process that owns the other end of the connection. Bytes on a wire that is cut wait, as
//! they would in a network that is: a reset would be news. It needs no root and no network of its own.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::{ErrorKind, Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Mutex, MutexGuard},
    thread,
    time::Duration,
};

/// How soon a cut, and a thread whose wires are gone, takes effect.
const LOOK: Duration = Duration::from_millis(20);

/// Shared by the nodes of a cluster and by whoever cuts.
#[derive(Clone, Default)]
pub struct Wires(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    /// Nodes by process.
    processes: BTreeMap<u32, u64>,
    /// From whom to whom nothing passes.
    cut: BTreeSet<(u64, u64)>,
    gone: bool,
}

impl Wires {
    /// A wire to `node`, which listens at `target`; gives the wire's address.
    pub fn lay(&self, node: u64, target: &str) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        listener.set_nonblocking(true).expect("a listener can be told not to block");
        let address = listener.local_addr().expect("bound").to_string();
        let (wires, target) = (self.clone(), target.to_owned());
        thread::spawn(move || wires.accept(&listener, node, &target));
        address
    }

    pub fn belongs(&self, process: u32, node: u64) {
        self.state().processes.insert(process, node);
    }

    /// Between two nodes, both ways.
    pub fn cut(&self, one: u64, other: u64) {
        self.state().cut.extend([(one, other), (other, one)]);
    }

    pub fn mend(&self) {
        self.state().cut.clear();
    }

    /// The threads end by themselves; nodes are dead by then.
    pub fn tear_down(&self) {
        self.state().gone = true;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("no test panics while it holds this")
    }

    fn is_cut(&self, from: u64, to: u64) -> bool {
        self.state().cut.contains(&(from, to))
    }

    fn is_gone(&self) -> bool {
        self.state().gone
    }

    fn accept(&self, listener: &TcpListener, to: u64, target: &str) {
        while !self.is_gone() {
            match listener.accept() {
                Ok((stream, from)) => {
                    let (wires, target) = (self.clone(), target.to_owned());
                    thread::spawn(move || wires.connect(stream, from, to, &target));
                }
                Err(_) => thread::sleep(LOOK),
            }
        }
    }

    fn connect(&self, near: TcpStream, speaker: SocketAddr, to: u64, target: &str) {
        near.set_nonblocking(false).expect("a stream can be told to block");
        // Tests ask nobody here; a speaker that has gone says nothing more.
        let Some(from) = self.speaker(speaker) else { return };
        self.hold(from, to);
        // Refused as it would be without a wire: the connection ends at once.
        let Ok(far) = TcpStream::connect(target) else { return };
        let copy = |stream: &TcpStream| stream.try_clone().expect("a stream can be duplicated");
        let (back_from, back_to, wires) = (copy(&far), copy(&near), self.clone());
        thread::spawn(move || wires.carry(back_from, back_to, to, from));
        self.carry(near, far, from, to);
    }

    /// The node at the other end of a connection on this machine.
    fn speaker(&self, end: SocketAddr) -> Option<u64> {
        let socket = socket(end)?;
        let processes = self.state().processes.clone();
        processes.into_iter().find(|(process, _)| holds(*process, &socket)).map(|(_, node)| node)
    }

    /// Waits while the wire is cut.
    fn hold(&self, from: u64, to: u64) {
        while self.is_cut(from, to) && !self.is_gone() {
            thread::sleep(LOOK);
        }
    }

    fn carry(&self, mut near: TcpStream, mut far: TcpStream, from: u64, to: u64) {
        near.set_nodelay(true).expect("a stream can be told not to gather");
        near.set_read_timeout(Some(LOOK)).expect("a stream can have a time-out");
        let mut bytes = vec![0; 64 << 10];
        while !self.is_gone() {
            let read = near.read(&mut bytes);
            self.hold(from, to);
            match read {
                Ok(count) if count > 0 && far.write_all(&bytes[..count]).is_ok() => {}
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                Ok(_) | Err(_) => break,
            }
        }
        // The other side may have ended first.
        let _ = far.shutdown(Shutdown::Both);
        let _ = near.shutdown(Shutdown::Both);
    }
}

/// As the files of whoever holds it name it.
fn socket(end: SocketAddr) -> Option<String> {
    let table = fs::read_to_string("/proc/net/tcp").expect("Linux keeps a table of connections");
    let port = format!(":{:04X}", end.port());
    let rows = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let own = |fields: &Vec<&str>| fields.get(1).is_some_and(|local| local.ends_with(&port));
    rows.filter(own).find_map(|fields| fields.get(9).map(|inode| format!("socket:[{inode}]")))
}

fn holds(process: u32, socket: &str) -> bool {
    let files = fs::read_dir(format!("/proc/{process}/fd")).into_iter().flatten().flatten();
    files.filter_map(|file| fs::read_link(file.path()).ok()).any(|link| link.as_os_str() == socket)
}
