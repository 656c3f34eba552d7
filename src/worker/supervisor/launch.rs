//! From a start that is in order to a process: a child that borrows this process' memory until it has become the command.
//!
//! `posix_spawn` does the same, and more: each time it maps a stack and takes it away again, asks for and sets what every
//! signal does, and asks for the limit of open descriptors before each copy of one. Around a command as short as
//! `/bin/true` that was a fourteenth of all that the processor did for it (890 000 cycles, 830 000 without).
//!
//! What makes it sound is what this process is: it has one thread, which stands still until the child has become the command
//! or ended; all signals are blocked meanwhile; and the child makes system calls and nothing else. It allocates nothing,
//! cannot panic, and writes to no memory but its stack and one word.

use std::{
    ffi::{CString, c_char, c_int, c_void},
    io,
    mem::MaybeUninit,
    ptr,
};

use nix::sys::signal::{SigSet, SigmaskHow, sigprocmask};

use super::super::protocol::Strings;

/// A few calls deep, none of them with more than a few hundred bytes of its own.
const STACK_BYTES: usize = 64 * 1024;

/// What the next commands have in common.
pub struct Launcher {
    stack: Box<[MaybeUninit<u8>]>,
    /// Signals that this process ignores. A program that is started goes on ignoring them; what has a handler loses it.
    ignored: Vec<c_int>,
}

/// A command, with strings that the kernel can read.
pub struct Image<'a> {
    pub program: CString,
    pub argv: &'a Strings,
    pub env: &'a Strings,
    pub cwd: CString,
    /// Become descriptors 0, 1 and 2. All are above 2, as the supervisor keeps those open; so none hides another.
    pub streams: [c_int; 3],
}

/// What the child looks at, and the one word that it leaves.
struct Errand<'a> {
    ignored: &'a [c_int],
    image: &'a Image<'a>,
    argv: &'a [*const c_char],
    env: &'a [*const c_char],
    error: c_int,
}

impl Launcher {
    /// Looks at what is ignored now: to be called when that is settled.
    pub fn new() -> Self {
        let ignored = (1..=libc::SIGRTMAX()).filter(|signal| is_ignored(*signal)).collect();
        Self { stack: Box::new_uninit_slice(STACK_BYTES), ignored }
    }

    /// A process group of its own, no signal blocked, none ignored.
    ///
    /// # Errors
    /// As `execve`, `chdir` and `clone` have them; there is no child then.
    pub fn launch(&mut self, image: &Image<'_>) -> io::Result<i32> {
        let (argv, env) = (image.argv.pointers(), image.env.pointers());
        let mut errand = Errand { ignored: &self.ignored, image, argv: &argv, env: &env, error: 0 };
        let before = block_all_signals()?;
        // SAFETY: the stack grows down from its end, is aligned, and large enough for what `child` does; `errand` and what it
        // points to live on, as this process goes on only when the child no longer shares its memory.
        let pid = unsafe {
            let end = self.stack.as_mut_ptr().add(STACK_BYTES);
            let end = end.sub(end.addr() % 16).cast::<c_void>();
            let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD;
            libc::clone(child, end, flags, (&raw mut errand).cast())
        };
        let cloned = if pid < 0 { Err(io::Error::last_os_error()) } else { Ok(pid) };
        sigprocmask(SigmaskHow::SIG_SETMASK, Some(&before), None)?;
        // SAFETY: a plain read; the child wrote it, if it did, before this process went on.
        match (cloned?, unsafe { ptr::read_volatile(&raw const errand.error) }) {
            (pid, 0) => Ok(pid),
            (pid, error) => {
                reap(pid);
                Err(io::Error::from_raw_os_error(error))
            }
        }
    }
}

fn block_all_signals() -> nix::Result<SigSet> {
    let mut before = SigSet::empty();
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::all()), Some(&mut before))?;
    Ok(before)
}

fn is_ignored(signal: c_int) -> bool {
    let mut action = MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: asks without setting, and is believed only if it succeeded; some numbers are the C library's own.
    unsafe {
        libc::sigaction(signal, ptr::null(), action.as_mut_ptr()) == 0
            && action.assume_init().sa_sigaction == libc::SIG_IGN
    }
}

/// What ended before it became anything; its exit is waited for by nobody else.
fn reap(pid: i32) {
    // SAFETY: nothing is asked for but that it be reaped.
    unsafe { libc::waitpid(pid, ptr::null_mut(), 0) };
}

extern "C" fn child(errand: *mut c_void) -> c_int {
    // SAFETY: made by `launch`, which waits, so nobody else has it now.
    unsafe {
        let errand = errand.cast::<Errand<'_>>();
        become_command(&*errand);
        // Still here: a call has failed, and said why in the one place where both processes look.
        ptr::write_volatile(&raw mut (*errand).error, *libc::__errno_location());
        libc::_exit(127)
    }
}

/// Returns if a call fails.
///
/// # Safety
/// To be called in a child of its own, with all signals blocked: it changes what signals do, descriptors and the directory.
unsafe fn become_command(errand: &Errand<'_>) {
    let image = errand.image;
    // SAFETY: system calls with strings and tables that end as they must.
    unsafe {
        for signal in errand.ignored {
            libc::signal(*signal, libc::SIG_DFL);
        }
        if libc::setpgid(0, 0) < 0 {
            return;
        }
        for (target, stream) in (0..).zip(image.streams) {
            if libc::dup2(stream, target) < 0 {
                return;
            }
        }
        if libc::chdir(image.cwd.as_ptr()) < 0 {
            return;
        }
        let mut none = MaybeUninit::uninit();
        libc::sigemptyset(none.as_mut_ptr());
        libc::sigprocmask(libc::SIG_SETMASK, none.as_ptr(), ptr::null_mut());
        libc::execve(image.program.as_ptr(), errand.argv.as_ptr(), errand.env.as_ptr());
    }
}
