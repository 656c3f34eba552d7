//! Starting one command: everything that can be refused is checked first, so that each refusal has its own reason; then
//! it is [launched](Launcher). `std::process::Command` is not used: it would inherit the blocked SIGCHLD and the ignored
//! signals of the supervisor, and forks for a changed PATH.

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::unistd::{AccessFlags, access, pipe2};

use super::super::protocol::{End, Start};
use super::super::reason::Reason;
use super::launch::{Image, Launcher};

/// How much lower than the node's the priority of commands is.
const NICE: i32 = 5;

pub struct Spawned {
    pub pid: i32,
    pub stdout: OwnedFd,
    pub stderr: OwnedFd,
}

/// Starts commands, one at a time.
pub struct Spawner {
    launcher: Launcher,
    dev_null: OwnedFd,
    /// The priority of commands.
    nice: i32,
}

impl Spawner {
    /// To be made when this process has settled which signals it ignores.
    pub fn new(dev_null: OwnedFd) -> Self {
        // SAFETY: no memory is passed.
        let own = unsafe { libc::getpriority(libc::PRIO_PROCESS, 0) };
        Self { launcher: Launcher::new(), dev_null, nice: own + NICE }
    }

    pub fn spawn(&mut self, start: &Start) -> Result<Spawned, End> {
        // A directory that is missing is the cause of whatever else is, so it is looked at when something is.
        self.try_spawn(start).map_err(|end| check_cwd(&start.cwd).err().unwrap_or(end))
    }

    fn try_spawn(&mut self, start: &Start) -> Result<Spawned, End> {
        let stdin = open_stdin(start)?;
        let program = find_program(start)?;
        let (stdout, stdout_of_command) = pipe().map_err(start_failed)?;
        let (stderr, stderr_of_command) = pipe().map_err(start_failed)?;
        let stdin = stdin.as_ref().map_or(self.dev_null.as_raw_fd(), AsRawFd::as_raw_fd);
        let streams = [stdin, stdout_of_command.as_raw_fd(), stderr_of_command.as_raw_fd()];
        let pid = image(start, &program, streams)
            .and_then(|image| self.launcher.launch(&image))
            .map_err(|error| exec_failed(&program, error))?;
        self.lower_priority(pid);
        Ok(Spawned { pid, stdout, stderr })
    }

    /// A best effort, and after the fact: what the command forks before this keeps its old priority.
    fn lower_priority(&self, pid: i32) {
        // SAFETY: no memory is passed.
        unsafe { libc::setpriority(libc::PRIO_PROCESS, pid as libc::id_t, self.nice) };
    }
}

fn image<'a>(start: &'a Start, program: &Path, streams: [i32; 3]) -> io::Result<Image<'a>> {
    let path = |path: &Path| {
        CString::new(path.as_os_str().as_bytes()).map_err(|_zero| io::Error::from_raw_os_error(libc::EINVAL))
    };
    Ok(Image { program: path(program)?, argv: &start.argv, env: &start.env, cwd: path(&start.cwd)?, streams })
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
    let name = start.argv.first();
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
