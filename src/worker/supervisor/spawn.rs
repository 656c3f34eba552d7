//! Starting one command: everything that can be refused is checked first, so that each refusal has its own reason; then
//! one `posix_spawn`, which shares the memory with the child until it has become the command and costs the same
//! whatever the size of this process. `std::process::Command` is not used: it would inherit the blocked SIGCHLD and the
//! ignored signals of the supervisor, and forks for a changed PATH.

use std::ffi::{CString, c_char};
use std::fs::File;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::ptr;
use std::sync::OnceLock;

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::unistd::{AccessFlags, access, pipe2};

use super::super::protocol::{End, Start};
use super::super::reason::Reason;

/// How much lower than the node's the priority of commands is.
const NICE: i32 = 5;

pub struct Spawned {
    pub pid: i32,
    pub stdout: OwnedFd,
    pub stderr: OwnedFd,
}

pub fn spawn(start: &Start, dev_null: &OwnedFd) -> Result<Spawned, End> {
    // A directory that is missing is the cause of whatever else is, so it is looked at when something is.
    try_spawn(start, dev_null).map_err(|end| check_cwd(&start.cwd).err().unwrap_or(end))
}

fn try_spawn(start: &Start, dev_null: &OwnedFd) -> Result<Spawned, End> {
    let stdin = open_stdin(start)?;
    let program = find_program(start)?;
    let (stdout, stdout_of_command) = pipe().map_err(start_failed)?;
    let (stderr, stderr_of_command) = pipe().map_err(start_failed)?;
    let stdin = stdin.as_ref().map_or(dev_null.as_raw_fd(), AsRawFd::as_raw_fd);
    let streams = [stdin, stdout_of_command.as_raw_fd(), stderr_of_command.as_raw_fd()];
    let pid = posix_spawn(start, &program, streams).map_err(|error| exec_failed(&program, error))?;
    lower_priority(pid);
    Ok(Spawned { pid, stdout, stderr })
}

fn refused(reason: Reason, error: String) -> End {
    End::Refused { reason, error }
}

fn start_failed(error: impl std::fmt::Display) -> End {
    refused(Reason::StartFailed, format!("no process could be started: {error}"))
}

fn check_cwd(cwd: &Path) -> Result<(), End> {
    let missing = |error: String| refused(Reason::CwdMissing, format!("cwd {}: {error}", cwd.display()));
    let metadata = cwd.metadata().map_err(|error| missing(error.to_string()))?;
    if !metadata.is_dir() {
        return Err(missing("not a directory".into()));
    }
    access(cwd, AccessFlags::X_OK).map_err(|error| missing(error.desc().into()))
}

/// Opened in the command's directory, as `<file` in a shell would be.
fn open_stdin(start: &Start) -> Result<Option<File>, End> {
    let Some(file) = &start.stdin_file else { return Ok(None) };
    let path = start.cwd.join(file);
    let refuse = |error: String| refused(Reason::EnvInvalid, format!("stdin_file {}: {error}", path.display()));
    // A FIFO without a writer would block the one thread of the supervisor for ever.
    if path.metadata().map_err(|error| refuse(error.to_string()))?.is_file() {
        File::open(&path).map(Some).map_err(|error| refuse(error.to_string()))
    } else {
        Err(refuse("not a regular file".into()))
    }
}

/// What `execvp` would find, seen from the command's directory. A name with a slash is not looked for.
fn find_program(start: &Start) -> Result<PathBuf, End> {
    let name = start.argv.first().map(String::as_str).unwrap_or_default();
    if name.contains('/') {
        return Ok(PathBuf::from(name));
    }
    let candidates = start.path.split(':').map(|directory| start.cwd.join(directory).join(name));
    let mut existing = candidates.filter(|path| !name.is_empty() && path.is_file()).peekable();
    let first = existing.peek().cloned();
    match (existing.find(|path| access(path, AccessFlags::X_OK).is_ok()), first) {
        (Some(path), _) => Ok(path),
        (None, Some(path)) => Err(refused(Reason::NotExecutable, format!("{}: not executable", path.display()))),
        (None, None) => Err(refused(Reason::NotFound, format!("{name}: not found in {}", start.path))),
    }
}

fn exec_failed(program: &Path, error: io::Error) -> End {
    let text = format!("{}: {error}", program.display());
    match error.raw_os_error() {
        Some(libc::ENOENT | libc::ENOTDIR | libc::ELOOP | libc::ENAMETOOLONG) => refused(Reason::NotFound, text),
        Some(libc::EACCES | libc::EPERM | libc::ENOEXEC | libc::EISDIR | libc::ELIBBAD) => {
            refused(Reason::NotExecutable, text)
        }
        Some(libc::E2BIG | libc::EINVAL) => refused(Reason::EnvInvalid, text),
        _ => start_failed(error),
    }
}

/// The reading end, which must not block this process, and the writing end, which must block the command.
fn pipe() -> nix::Result<(OwnedFd, OwnedFd)> {
    let (read, write) = pipe2(OFlag::O_CLOEXEC)?;
    fcntl(&read, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
    Ok((read, write))
}

/// A best effort, and after the fact: what the command forks before this keeps its old priority.
fn lower_priority(pid: i32) {
    static NICE_OF_COMMANDS: OnceLock<i32> = OnceLock::new();
    // SAFETY: no memory is passed.
    let nice = *NICE_OF_COMMANDS.get_or_init(|| NICE + unsafe { libc::getpriority(libc::PRIO_PROCESS, 0) });
    // SAFETY: nor here.
    unsafe { libc::setpriority(libc::PRIO_PROCESS, pid as libc::id_t, nice) };
}

fn posix_spawn(start: &Start, program: &Path, streams: [i32; 3]) -> io::Result<i32> {
    let nul = |_| io::Error::from_raw_os_error(libc::EINVAL);
    let strings = |list: &[String]| list.iter().map(|text| CString::new(text.as_str())).collect::<Result<Vec<_>, _>>();
    let program = CString::new(program.as_os_str().as_bytes()).map_err(nul)?;
    let cwd = CString::new(start.cwd.as_os_str().as_bytes()).map_err(nul)?;
    let (argv, env) = (strings(&start.argv).map_err(nul)?, strings(&start.env).map_err(nul)?);
    let actions = Actions::new(&cwd, streams)?;
    let attributes = Attributes::new()?;
    let mut pid = 0;
    // SAFETY: both tables end in a null pointer and, like everything they point to, live until the call returns.
    check(unsafe {
        libc::posix_spawn(
            &raw mut pid,
            program.as_ptr(),
            &raw const *actions.0,
            &raw const *attributes.0,
            null_terminated(&argv).as_ptr(),
            null_terminated(&env).as_ptr(),
        )
    })?;
    Ok(pid)
}

fn null_terminated(strings: &[CString]) -> Vec<*mut c_char> {
    strings.iter().map(|string| string.as_ptr().cast_mut()).chain([ptr::null_mut()]).collect()
}

fn check(error: i32) -> io::Result<()> {
    if error == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(error)) }
}

struct Actions(Box<libc::posix_spawn_file_actions_t>);

impl Actions {
    fn new(cwd: &CString, streams: [i32; 3]) -> io::Result<Self> {
        let mut actions = MaybeUninit::uninit();
        // SAFETY: initialised by the call, and only read if that succeeded.
        let mut actions = unsafe {
            check(libc::posix_spawn_file_actions_init(actions.as_mut_ptr()))?;
            Self(Box::new(actions.assume_init()))
        };
        for (target, stream) in streams.into_iter().enumerate() {
            // SAFETY: initialised above. The streams are above 2 (the supervisor keeps 0 to 2 open), so none hides another.
            check(unsafe { libc::posix_spawn_file_actions_adddup2(&raw mut *actions.0, stream, target as i32) })?;
        }
        // SAFETY: initialised above; the path is copied.
        check(unsafe { libc::posix_spawn_file_actions_addchdir_np(&raw mut *actions.0, cwd.as_ptr()) })?;
        Ok(actions)
    }
}

impl Drop for Actions {
    fn drop(&mut self) {
        // SAFETY: initialised in `new`, destroyed once.
        unsafe { libc::posix_spawn_file_actions_destroy(&raw mut *self.0) };
    }
}

/// A group of its own, no signal blocked, none ignored.
struct Attributes(Box<libc::posix_spawnattr_t>);

impl Attributes {
    fn new() -> io::Result<Self> {
        let flags = libc::POSIX_SPAWN_SETPGROUP | libc::POSIX_SPAWN_SETSIGMASK | libc::POSIX_SPAWN_SETSIGDEF;
        let mut attributes = MaybeUninit::uninit();
        let mut none = MaybeUninit::uninit();
        let mut all = MaybeUninit::uninit();
        // SAFETY: each value is initialised by the first call on it, before anything reads it.
        unsafe {
            check(libc::posix_spawnattr_init(attributes.as_mut_ptr()))?;
            let mut attributes = Self(Box::new(attributes.assume_init()));
            libc::sigemptyset(none.as_mut_ptr());
            libc::sigfillset(all.as_mut_ptr());
            check(libc::posix_spawnattr_setsigmask(&raw mut *attributes.0, none.as_ptr()))?;
            check(libc::posix_spawnattr_setsigdefault(&raw mut *attributes.0, all.as_ptr()))?;
            check(libc::posix_spawnattr_setpgroup(&raw mut *attributes.0, 0))?;
            check(libc::posix_spawnattr_setflags(&raw mut *attributes.0, flags as i16))?;
            Ok(attributes)
        }
    }
}

impl Drop for Attributes {
    fn drop(&mut self) {
        // SAFETY: initialised in `new`, destroyed once.
        unsafe { libc::posix_spawnattr_destroy(&raw mut *self.0) };
    }
}
