//! The loop: messages from the node, output, ends of children, time.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use nix::sys::epoll::EpollTimeout;
use nix::sys::signalfd::SignalFd;

use super::super::boottime::Boottime;
use super::super::cgroup::Cgroup;
use super::super::protocol::{End, Ended, FromSupervisor, Start, ToSupervisor};
use super::super::reason::Reason;
use super::Orders;
use super::job::{Job, Right};
use super::node_end::NodeEnd;
use super::plumbing::{LEASE_MAX, Plumbing, Source};
use super::signals::oom_kills;
use super::spawn::Spawner;

/// Longest sleep of the loop while commands run: epoll does not count suspend, rights do.
const WAIT_MS_MAX: u64 = 200;

/// How long KILL tree by tree may take when the node is gone, before the cgroup is killed, and this process with it.
const TREES_MS: u64 = 500;

pub struct EventLoop {
    pub marker: String,
    /// Where the machine says how much memory it has.
    pub meminfo: PathBuf,
    pub right: Right,
    spawner: Spawner,
    pub node: NodeEnd,
    child_signal: SignalFd,
    pub plumbing: Plumbing,
    is_waiting_to_send: bool,
    pub jobs: BTreeMap<u64, Job>,
    /// The main processes that are not reaped yet.
    pub mains: HashMap<i32, u64>,
    /// Our other children, of which somebody is known to be responsible.
    pub orphans: HashMap<i32, u64>,
    /// The others, and when each is to be killed.
    pub strays: HashMap<i32, Boottime>,
    /// All descendants at the last look. It may be old: looks are taken only while there is a job to look at.
    pub seen: HashMap<i32, u64>,
    pub next_look: Boottime,
    pub next_kill: Boottime,
    /// When patience ends with trees that outlive the node.
    last_hour: Boottime,
    /// The kernel's count of processes killed for memory, when last read.
    pub oom_kills: u64,
}

impl EventLoop {
    pub fn new(orders: Orders, dev_null: OwnedFd, node: UnixStream, child_signal: SignalFd) -> io::Result<Self> {
        let Orders { marker, loss_grace_ms, meminfo } = orders;
        let plumbing = Plumbing::new()?;
        plumbing.listen(&node, Source::Node)?;
        plumbing.listen(&child_signal, Source::Children)?;
        Ok(Self {
            marker,
            meminfo,
            right: Right { alive_until: Boottime::ZERO, loss_grace_ms },
            spawner: Spawner::new(dev_null),
            node: NodeEnd::new(node),
            child_signal,
            plumbing,
            is_waiting_to_send: false,
            jobs: BTreeMap::new(),
            mains: HashMap::new(),
            orphans: HashMap::new(),
            strays: HashMap::new(),
            seen: HashMap::new(),
            next_look: Boottime::ZERO,
            next_kill: Boottime::ZERO,
            last_hour: Boottime::NEVER,
            oom_kills: oom_kills(),
        })
    }

    /// Returns when the node is gone and so is everything it had started.
    pub fn run(mut self, cgroup: Option<&Cgroup>) -> io::Result<()> {
        while self.node.is_open() || !self.jobs.is_empty() {
            let news = self.plumbing.wait(self.time_to_wait())?;
            news.into_iter().for_each(|source| self.handle(source));
            self.check_time(Boottime::now());
            self.flush()?;
            if let Some(cgroup) = cgroup.filter(|_| Boottime::now() >= self.last_hour) {
                cgroup.kill();
            }
        }
        self.kill_strays_until_none_is_left();
        Ok(())
    }

    fn time_to_wait(&self) -> EpollTimeout {
        if self.jobs.is_empty() && self.strays.is_empty() {
            return EpollTimeout::NONE;
        }
        let deadlines = self.jobs.values().map(|job| job.next_deadline(self.right, self.next_kill));
        let next = deadlines.chain(self.strays.values().copied()).min().unwrap_or(Boottime::NEVER);
        let next = next.min(self.next_look_due());
        let wait = next.ms_since(Boottime::now()).min(WAIT_MS_MAX);
        EpollTimeout::try_from(wait).expect("at most WAIT_MS_MAX")
    }

    fn handle(&mut self, source: Source) {
        match source {
            Source::Node => self.handle_messages(),
            Source::Children => {
                // One read takes the pending signal; children are then asked for one by one.
                let _may_have_been_read = self.child_signal.read_signal();
                self.reap();
            }
            Source::Stdout { lease } => self.read_stdout(lease),
            Source::Stderr { lease } => {
                if let Some(job) = self.jobs.get_mut(&lease) {
                    job.read_stderr(&mut self.plumbing);
                }
            }
        }
    }

    pub fn handle_messages(&mut self) {
        if !self.node.is_open() {
            return;
        }
        for message in self.node.receive() {
            self.handle_message(message);
        }
        if !self.node.is_open() {
            self.plumbing.forget(&self.node);
            self.stop_all(Reason::Interrupted, self.right.loss_grace_ms);
            self.last_hour = Boottime::now().after_ms(self.right.loss_grace_ms + TREES_MS);
        }
    }

    fn handle_message(&mut self, message: ToSupervisor) {
        match message {
            ToSupervisor::Start(start) => self.start(&start),
            ToSupervisor::Stop { lease, reason, grace_ms } => {
                if let Some(job) = self.jobs.get_mut(&lease) {
                    job.stop(Some(reason), Boottime::now().after_ms(grace_ms));
                }
            }
            ToSupervisor::StopAll { reason, grace_ms } => self.stop_all(reason, grace_ms),
            ToSupervisor::Alive { until } => self.right.alive_until = self.right.alive_until.max(until),
            ToSupervisor::Extend { lease, until } => {
                if let Some(job) = self.jobs.get_mut(&lease) {
                    job.until = job.until.max(Some(until));
                }
            }
            ToSupervisor::Tail { lease } => self.send_tail(lease),
            ToSupervisor::Ping => self.node.send(&FromSupervisor::Pong),
        }
    }

    fn stop_all(&mut self, reason: Reason, grace_ms: u64) {
        let kill_at = Boottime::now().after_ms(grace_ms);
        self.jobs.values_mut().for_each(|job| job.stop(Some(reason), kill_at));
    }

    fn start(&mut self, start: &Start) {
        match self.try_start(start) {
            Ok(pid) => self.node.send(&FromSupervisor::Started { lease: start.lease, pid }),
            Err(end) => self.node.send(&FromSupervisor::Ended(Box::new(never_started(start.lease, end)))),
        }
    }

    fn try_start(&mut self, start: &Start) -> Result<i32, End> {
        let refuse = |reason, error: &str| Err(End::Refused { reason, error: error.into() });
        if Boottime::now() >= self.right.lapses(start.until) || !self.node.is_open() {
            return refuse(Reason::Interrupted, "the right to run it has ended");
        }
        if start.lease == 0 || start.lease > LEASE_MAX || self.jobs.contains_key(&start.lease) {
            return refuse(Reason::StartFailed, "its lease is in use, or no lease");
        }
        let spawned = self.spawner.spawn(start)?;
        let pid = spawned.pid;
        let job = Job::new(start, spawned, Boottime::now());
        self.mains.insert(pid, start.lease);
        self.jobs.insert(start.lease, job);
        Ok(pid)
    }

    fn read_stdout(&mut self, lease: u64) {
        if let Some(job) = self.jobs.get_mut(&lease) {
            let (lines, dropped) = job.read_stdout(&mut self.plumbing);
            self.send_lines(lease, lines, dropped);
        }
    }

    fn send_lines(&mut self, lease: u64, mut lines: Vec<String>, mut dropped: u64) {
        if self.node.is_full() {
            dropped += lines.len() as u64;
            lines.clear();
        }
        if dropped > 0 || !lines.is_empty() {
            self.node.send(&FromSupervisor::Lines { lease, lines, dropped });
        }
    }

    fn send_tail(&mut self, lease: u64) {
        let Some(job) = self.jobs.get(&lease).filter(|_| !self.node.is_full()) else { return };
        let (stdout, stderr) = job.live_tail();
        self.node.send(&FromSupervisor::Tail { lease, stdout, stderr });
    }

    /// The tree is gone: the report, with what the pipes still held.
    pub fn finish(&mut self, lease: u64) {
        let Some(mut job) = self.jobs.remove(&lease) else { return };
        let (lines, dropped) = job.drain(&mut self.plumbing);
        self.send_lines(lease, lines, dropped);
        self.node.send(&FromSupervisor::Ended(Box::new(job.into_ended())));
    }

    fn flush(&mut self) -> io::Result<()> {
        self.node.flush();
        if self.node.is_open() && self.node.has_unsent() != self.is_waiting_to_send {
            self.is_waiting_to_send = self.node.has_unsent();
            self.plumbing.listen_for_room(&self.node, Source::Node, self.is_waiting_to_send)?;
        }
        Ok(())
    }
}

fn never_started(lease: u64, end: End) -> Ended {
    Ended {
        lease,
        end,
        stopped: None,
        note: None,
        pid: None,
        has_files: true,
        stdout: String::new(),
        stderr: String::new(),
        wall_ms: 0,
        cpu_ms: 0,
        peak_ram_mb: 0,
    }
}
