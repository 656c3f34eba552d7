//! What a run comes to: the report, made from what the supervisor saw and what the command wrote.

use super::protocol::{End, Ended};
use super::reason::Reason;
use super::scratch::Written;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Success,
    Failure(Reason),
}

/// How an attempt ended. Its whole process tree is gone.
#[derive(Clone, Debug)]
pub struct Report {
    pub outcome: Outcome,
    /// Whether it counts as an attempt: something ran, or the program it names can't be run.
    pub started: bool,
    /// Also set (126, 127) where a shell would have given it for a program that can't be run.
    pub exit_code: Option<i32>,
    pub error: Option<String>,
    pub stdout: String,
    pub stderr: String,
    pub wall_ms: u64,
    /// User and system, of every process of the tree that was waited for.
    pub cpu_ms: u64,
    /// The largest sum over the tree that was seen, or the largest single process.
    pub peak_ram_mb: u64,
    /// JSON.
    pub result: Option<String>,
    /// Specs of jobs to submit with the finish, one JSON text each, unparsed.
    pub jobs: Vec<String>,
    pub pid: Option<i32>,
    /// The shell that ran it, where one did.
    pub shell: Option<String>,
}

impl Report {
    /// A failure of something that wrote and measured nothing.
    pub(super) fn failure(reason: Reason, started: bool, error: impl Into<String>) -> Self {
        Self { outcome: Outcome::Failure(reason), error: Some(error.into()), ..Self::empty(started) }
    }

    pub(super) fn slept(wall_ms: u64) -> Self {
        Self { wall_ms, ..Self::empty(true) }
    }

    fn empty(started: bool) -> Self {
        Self {
            outcome: Outcome::Success,
            started,
            exit_code: None,
            error: None,
            stdout: String::new(),
            stderr: String::new(),
            wall_ms: 0,
            cpu_ms: 0,
            peak_ram_mb: 0,
            result: None,
            jobs: Vec::new(),
            pid: None,
            shell: None,
        }
    }

    /// `written` is asked only for a success.
    pub(super) fn of(ended: Ended, written: impl FnOnce() -> Result<Written, String>) -> Self {
        let (failure, exit_code, error) = judge(&ended);
        let never_ran = matches!(ended.end, End::Refused { .. });
        let report = Self {
            outcome: failure.map_or(Outcome::Success, Outcome::Failure),
            exit_code,
            error: ended.note.or(error),
            stdout: ended.stdout,
            stderr: ended.stderr,
            wall_ms: ended.wall_ms,
            cpu_ms: ended.cpu_ms,
            peak_ram_mb: ended.peak_ram_mb,
            pid: ended.pid,
            ..Self::empty(!never_ran || exit_code.is_some())
        };
        if failure.is_some() {
            return report;
        }
        match written() {
            Ok(Written { result, jobs }) => Self { result, jobs, ..report },
            Err(error) => Self { outcome: Outcome::Failure(Reason::InvalidExit), error: Some(error), ..report },
        }
    }
}

/// Why it failed, if it did; its exit code; and a text for what neither says.
fn judge(ended: &Ended) -> (Option<Reason>, Option<i32>, Option<String>) {
    let stopped = |otherwise: Option<Reason>| ended.stopped.or(otherwise);
    match &ended.end {
        End::Exited(code) => (stopped(Reason::of_exit_code(*code)), Some(*code), None),
        End::Signaled(signal) => (stopped(Some(Reason::Signal)), None, Some(format!("ended by signal {signal}"))),
        End::Refused { reason, error } => {
            let as_a_shell_would = match reason {
                Reason::NotExecutable => Some(126),
                Reason::NotFound => Some(127),
                _ => None,
            };
            (Some(*reason), as_a_shell_would, Some(error.clone()))
        }
        End::Lost => (stopped(Some(Reason::LostContact)), None, Some("the supervisor of this worker has ended".into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(end: End, stopped: Option<Reason>) -> Report {
        let pid = if matches!(end, End::Refused { .. }) { None } else { Some(1) };
        let (stdout, stderr) = (String::new(), String::new());
        let ended = Ended {
            lease: 1,
            end,
            stopped,
            note: None,
            pid,
            has_files: true,
            stdout,
            stderr,
            wall_ms: 1,
            cpu_ms: 1,
            peak_ram_mb: 1,
        };
        Report::of(ended, || Ok(Written::default()))
    }

    fn check(end: End, stopped: Option<Reason>, outcome: Outcome, started: bool, exit_code: Option<i32>) {
        let report = report(end, stopped);
        assert_eq!((report.outcome, report.started, report.exit_code), (outcome, started, exit_code));
    }

    #[test]
    fn report_follows_the_table_of_reasons() {
        use Outcome::{Failure, Success};
        let refused = |reason| End::Refused { reason, error: "because".into() };
        check(End::Exited(0), None, Success, true, Some(0));
        check(End::Exited(3), None, Failure(Reason::ExitNonzero), true, Some(3));
        check(End::Signaled(11), None, Failure(Reason::Signal), true, None);
        check(End::Signaled(15), Some(Reason::Killed), Failure(Reason::Killed), true, None);
        check(End::Exited(0), Some(Reason::Time), Failure(Reason::Time), true, Some(0));
        check(refused(Reason::NotFound), None, Failure(Reason::NotFound), true, Some(127));
        check(refused(Reason::NotExecutable), None, Failure(Reason::NotExecutable), true, Some(126));
        check(refused(Reason::CwdMissing), None, Failure(Reason::CwdMissing), false, None);
        check(refused(Reason::StartFailed), None, Failure(Reason::StartFailed), false, None);
        check(End::Lost, Some(Reason::LostContact), Failure(Reason::LostContact), true, None);
    }
}
