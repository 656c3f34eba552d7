//! One running command, as the supervisor sees it.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::super::boottime::Boottime;
use super::super::output::Directives;
use super::super::protocol::{End, Ended, Start};
use super::super::reason::Reason;
use super::plumbing::{Plumbing, Source, Stream};
use super::spawn::Spawned;

const MIB: u64 = 1024 * 1024;
/// Jobs younger than this are not listened to: what most write waits in their pipes, and is read when they end. To be told
/// of it sooner, and of the end of both pipes, costs more than the rest of a short job.
const UNHEARD_MS: u64 = 5;
/// Lines to raftq taken from one read; of more the oldest are dropped.
const LINES_MAX: usize = 256;

pub struct Job {
    pub lease: u64,
    pub pid: i32,
    pub started: Boottime,
    pub stop: Option<Stop>,
    pub cpu: Duration,
    pub peak_bytes: u64,
    pub max_bytes: Option<u64>,
    /// Of the whole tree, when it was last looked at.
    resident_bytes: u64,
    needs_bytes: u64,
    pub grace_ms: u64,
    /// `None`: as long as the node leads.
    pub until: Option<Boottime>,
    times_out_at: Boottime,
    keep_output: bool,
    scratch: PathBuf,
    started_at: Instant,
    is_listened_to: bool,
    main_end: Option<(End, Duration)>,
    gave_way: bool,
    stdout: Stream,
    stderr: Stream,
    directives: Directives,
}

/// Until when commands may run that say nothing of their own, and how long they have from TERM to KILL after that.
#[derive(Clone, Copy)]
pub struct Right {
    pub alive_until: Boottime,
    pub loss_grace_ms: u64,
}

impl Right {
    pub fn lapses(self, own_until: Option<Boottime>) -> Boottime {
        own_until.unwrap_or(self.alive_until)
    }
}

/// The tree is to go: it has got TERM, and gets KILL from then on.
#[derive(Clone, Copy)]
pub struct Stop {
    /// `None` for what a command that ended by itself has left behind.
    pub reason: Option<Reason>,
    pub kill_at: Boottime,
    pub is_told: bool,
}

/// What is said of a command that went because the machine ran short.
const SHORTAGE: &str = "the machine ran short of memory, and this command was the furthest over its needs";

impl Job {
    pub fn new(start: &Start, spawned: Spawned, now: Boottime) -> Self {
        Self {
            lease: start.lease,
            pid: spawned.pid,
            started: now,
            stop: None,
            cpu: Duration::ZERO,
            peak_bytes: 0,
            max_bytes: start.max_ram_mb.map(|megabytes| megabytes.saturating_mul(MIB)),
            resident_bytes: 0,
            needs_bytes: start.needs_ram_mb.saturating_mul(MIB),
            grace_ms: start.grace_ms,
            until: start.until,
            // One more, as `now` was cut to whole milliseconds: never earlier than granted.
            times_out_at: start.timeout_ms.map_or(Boottime::NEVER, |limit| now.after_ms(limit + 1)),
            keep_output: start.keep_output,
            scratch: start.scratch.clone(),
            started_at: Instant::now(),
            is_listened_to: false,
            main_end: None,
            gave_way: false,
            stdout: Stream::new(spawned.stdout, Source::Stdout { lease: start.lease }),
            stderr: Stream::new(spawned.stderr, Source::Stderr { lease: start.lease }),
            directives: Directives::default(),
        }
    }

    /// A second stop can only be sooner; the first reason stands, unless the command had ended by itself before.
    pub fn stop(&mut self, reason: Option<Reason>, kill_at: Boottime) {
        let reason = reason.filter(|_| self.main_end.is_none());
        let stop = self.stop.get_or_insert(Stop { reason, kill_at, is_told: false });
        stop.kill_at = stop.kill_at.min(kill_at);
        stop.reason = stop.reason.or(reason);
    }

    /// Ends at once, so that the machine has memory for the others.
    pub fn give_way(&mut self, now: Boottime) {
        self.gave_way = true;
        self.stop(Some(Reason::Ram), now);
    }

    pub fn is_giving_way(&self) -> bool {
        self.gave_way
    }

    /// What time alone does to it: its right to run or its time limit runs out.
    pub fn check_time(&mut self, now: Boottime, right: Right, plumbing: &Plumbing) {
        if !self.is_listened_to && now >= self.listen_at() {
            self.is_listened_to = true;
            self.stdout.listen(plumbing);
            self.stderr.listen(plumbing);
        }
        let lapses = right.lapses(self.until);
        if now >= lapses {
            self.stop(Some(Reason::Interrupted), lapses.after_ms(right.loss_grace_ms));
        }
        if now >= self.times_out_at && self.main_end.is_none() {
            self.times_out_at = Boottime::NEVER;
            self.stop(Some(Reason::Time), now.after_ms(self.grace_ms));
        }
    }

    /// When `check_time` or a signal is next due.
    pub fn next_deadline(&self, right: Right, next_kill: Boottime) -> Boottime {
        let lapses = right.lapses(self.until);
        if !self.is_listened_to {
            return self.listen_at().min(lapses);
        }
        match self.stop {
            None => lapses.min(self.times_out_at),
            Some(stop) if !stop.is_told => Boottime::ZERO,
            Some(stop) if stop.kill_at <= lapses.after_ms(right.loss_grace_ms) => stop.kill_at.max(next_kill),
            Some(_) => lapses,
        }
    }

    fn listen_at(&self) -> Boottime {
        self.started.after_ms(UNHEARD_MS)
    }

    /// What the whole tree was found to hold.
    pub fn measured(&mut self, resident_bytes: u64) {
        self.resident_bytes = resident_bytes;
        self.peak_bytes = self.peak_bytes.max(resident_bytes);
    }

    /// By how much it was over its needs then.
    pub fn excess_bytes(&self) -> u64 {
        self.resident_bytes.saturating_sub(self.needs_bytes)
    }

    /// Of a process of this tree that has been reaped.
    pub fn used(&mut self, usage: &libc::rusage) {
        let time = |time: libc::timeval| Duration::new(time.tv_sec as u64, time.tv_usec as u32 * 1000);
        self.cpu += time(usage.ru_utime) + time(usage.ru_stime);
        self.peak_bytes = self.peak_bytes.max(usage.ru_maxrss as u64 * 1024);
    }

    pub fn main_ended(&mut self, end: End) {
        self.main_end = Some((end, self.started_at.elapsed()));
    }

    pub fn has_main_ended(&self) -> bool {
        self.main_end.is_some()
    }

    /// Lines to raftq in what it wrote, and how many there were too many.
    pub fn read_stdout(&mut self, plumbing: &mut Plumbing) -> (Vec<String>, u64) {
        let mut lines = Vec::new();
        let (stdout, directives) = (&mut self.stdout, &mut self.directives);
        stdout.read(plumbing, |bytes| directives.push(bytes, &mut |line| lines.push(line)));
        newest(lines)
    }

    pub fn read_stderr(&mut self, plumbing: &mut Plumbing) {
        self.stderr.read(plumbing, |_| ());
    }

    /// Nobody writes any more: what the pipes still hold.
    pub fn drain(&mut self, plumbing: &mut Plumbing) -> (Vec<String>, u64) {
        let mut lines = Vec::new();
        let directives = &mut self.directives;
        self.stdout.drain(plumbing, |bytes| directives.push(bytes, &mut |line| lines.push(line)));
        self.stderr.drain(plumbing, |_| ());
        directives.end(&mut |line| lines.push(line));
        newest(lines)
    }

    pub fn live_tail(&self) -> (String, String) {
        (self.stdout.capture().live_tail(), self.stderr.capture().live_tail())
    }

    pub fn into_ended(self) -> Ended {
        let (end, wall) = self.main_end.expect("a tree without a child of ours has lost its main process too");
        let stopped = self.stop.and_then(|stop| stop.reason);
        let succeeded = end == End::Exited(0) && stopped.is_none();
        let text = |stream: &Stream| match succeeded && !self.keep_output {
            true => stream.capture().last_end(),
            false => stream.capture().both_ends(),
        };
        Ended {
            lease: self.lease,
            stopped,
            note: (self.gave_way && stopped == Some(Reason::Ram)).then(|| SHORTAGE.to_owned()),
            pid: Some(self.pid),
            has_files: has_files(&self.scratch),
            stdout: text(&self.stdout),
            stderr: text(&self.stderr),
            wall_ms: wall.as_millis() as u64,
            cpu_ms: self.cpu.as_millis() as u64,
            peak_ram_mb: self.peak_bytes.div_ceil(MIB),
            end,
        }
    }
}

/// A directory that cannot be read has been tampered with, and is to be looked after.
fn has_files(directory: &Path) -> bool {
    directory.read_dir().map_or(true, |mut entries| entries.next().is_some())
}

fn newest(mut lines: Vec<String>) -> (Vec<String>, u64) {
    let dropped = lines.len().saturating_sub(LINES_MAX);
    lines.drain(..dropped);
    (lines, dropped as u64)
}
