//! The process that owns the commands. It does one thing: start what the node asks for, and see to it that nothing of it
//! outlives the node's right to run it. One thread, one loop over epoll, no runtime, no log; every way out of the loop
//! leads past "no tree is left".
//!
//! Right to run ends when the socket to the node closes (the node is dead), or when the last proof that the node sent
//! runs out (the node is stopped, or no longer leads). The proof is a time on a clock that both read, so messages that
//! waited in the socket while all were frozen prove nothing.
//!
//! ```text
//!   Start ──► running ──main process ends──► only leftovers? ──none──► Ended
//!                │                              │ some: TERM, grace    ▲
//!                │ Stop, time-out, RAM, no proof▼                      │ last child reaped
//!                └──────────► TERM ──grace──► KILL, again and again ───┘
//! ```
//!
//! **Whose process is it?** As a child subreaper this process inherits whatever the commands orphan: a child of ours that
//! is no command itself is an orphan of some job. It is known by an earlier look at the tree, by its process group, or
//! by the marker in its environment; what hides from all three belongs to nobody and is killed. As children stay
//! children until they are reaped here, "no child of ours belongs to this job" is exact, and costs one small read of
//! /proc. All of /proc is read only for jobs older than 100 ms, to measure them, and to signal trees.

mod event_loop;
mod job;
mod launch;
mod node_end;
mod plumbing;
mod reap;
mod signals;
mod spawn;

use std::fs;
use std::io;
use std::os::fd::{FromRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use nix::fcntl::{FcntlArg, fcntl};
use nix::sys::prctl;
use nix::sys::signal::{SigHandler, SigSet, SigmaskHow, Signal, signal, sigprocmask};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::unistd::setsid;

use super::cgroup::Cgroup;
use event_loop::EventLoop;

/// The first argument by which the binary knows that it is to be the supervisor: `raftq __supervisor MARKER LOSS_GRACE_MS
/// MEMINFO`.
pub const ARGUMENT: &str = "__supervisor";

/// Commands are the first that the kernel kills when memory runs out; the supervisor shares their value, being far smaller.
const OOM_SCORE_ADJ: i32 = 500;
/// For schedulers that weigh whole sessions (autogroup), where the nice value of a process says nothing to other sessions.
const SESSION_NICE: &str = "5";

/// What the node says when it starts this process.
struct Orders {
    marker: String,
    loss_grace_ms: u64,
    meminfo: PathBuf,
}

impl Orders {
    fn read(mut arguments: impl Iterator<Item = String>) -> Option<Self> {
        let (marker, loss_grace_ms, meminfo) = (arguments.next()?, arguments.next()?, arguments.next()?);
        Some(Self { marker, loss_grace_ms: loss_grace_ms.parse().ok()?, meminfo: meminfo.into() })
    }
}

/// To be called first thing in `main`, before any thread is started. Does not return if this process is to be the supervisor.
pub fn run_if_asked() {
    let mut arguments = std::env::args().skip(1);
    if arguments.next().as_deref() != Some(ARGUMENT) {
        return;
    }
    let code = match Orders::read(arguments) {
        Some(orders) => serve(orders),
        None => Err(io::Error::other("this command is for raftq itself")),
    };
    if let Err(error) = &code {
        eprintln!("raftq supervisor: {error}");
    }
    #[allow(clippy::exit, reason = "this process is the supervisor and nothing else: there is nothing to return to")]
    std::process::exit(i32::from(code.is_err()));
}

fn serve(orders: Orders) -> io::Result<()> {
    let dev_null = OwnedFd::from(fs::File::options().read(true).write(true).open("/dev/null")?);
    let node = take_socket(&dev_null)?;
    let child_signal = prepare_signals()?;
    // Its own session: neither Ctrl-C nor the hang-up of a terminal is for the commands. Fails only if it has one already.
    let _already_leads = setsid();
    prctl::set_child_subreaper(true)?;
    prctl::set_name(c"raftq-commands")?;
    yield_to_the_node();
    let cgroup = Cgroup::of_supervisor(&orders.marker).filter(|cgroup| cgroup.enter().is_ok());
    EventLoop::new(orders, dev_null, node, child_signal)?.run(cgroup.as_ref())?;
    if let Some(cgroup) = cgroup {
        cgroup.leave();
    }
    Ok(())
}

/// The socket comes as standard input. It moves out of the way, so that no command can ever get it.
fn take_socket(dev_null: &OwnedFd) -> io::Result<UnixStream> {
    close_inherited();
    let moved = fcntl(io::stdin(), FcntlArg::F_DUPFD_CLOEXEC(3))?;
    // SAFETY: the call has just made it, for nobody else.
    let socket = UnixStream::from(unsafe { OwnedFd::from_raw_fd(moved) });
    nix::unistd::dup2_stdin(dev_null)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// Whatever the node's parents left open is not for commands either. Kernels before 5.11 refuse; then there is only what
/// careless parents leave open.
fn close_inherited() {
    // SAFETY: marks descriptors as closed on exec; none is closed here.
    unsafe { libc::syscall(libc::SYS_close_range, 3, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) };
}

/// It ends when its node does, not when somebody signals a whole group or service: else the commands would be orphans.
fn prepare_signals() -> io::Result<SignalFd> {
    for ignored in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGQUIT, Signal::SIGPIPE] {
        // SAFETY: no handler is installed.
        unsafe { signal(ignored, SigHandler::SigIgn) }?;
    }
    let children = SigSet::from(Signal::SIGCHLD);
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&children), None)?;
    Ok(SignalFd::with_flags(&children, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?)
}

/// Best efforts: a kernel without these files, or a container that hides them, still runs commands.
fn yield_to_the_node() {
    let inherited =
        fs::read_to_string("/proc/self/oom_score_adj").ok().and_then(|text| text.trim().parse::<i32>().ok());
    let raised = inherited.unwrap_or(0).saturating_add(OOM_SCORE_ADJ).min(1000);
    let _may_be_hidden = fs::write("/proc/self/oom_score_adj", raised.to_string());
    let _may_be_absent = fs::write("/proc/self/autogroup", SESSION_NICE);
}
