//! finish with failure: by the table of reasons (design 2.2) a retry, or the end of trying.

use crate::queue::{
    attempt,
    command::Report,
    ids::{JobId, Stamp},
    job::{Job, LeaseEnd, OpStatus},
    limits,
    ops::{
        learn,
        release::{self, Ending, is_canceling},
        touch,
    },
    step::{Step, Writer},
};

pub struct Failure<'a> {
    pub reason: &'a str,
    pub retryable: Option<bool>,
    pub delay_ms: Option<u64>,
    pub report: &'a Report,
}

/// What the table says about a reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Rule {
    /// Whether the command ran at all: else this was no attempt.
    attempt: bool,
    then: Then,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Then {
    /// As long as there are retries.
    Retry,
    Never,
    /// Up to five in a row, no retry used.
    StartAgain,
    /// As if released.
    Release,
    Lost,
}

impl Rule {
    fn of(reason: &str, retryable: Option<bool>) -> Self {
        let (attempt, then) = match reason {
            "exit_nonzero" | "signal" | "ram" | "time" => (true, Then::Retry),
            "not_executable" | "not_found" | "invalid_exit" | "killed" => (true, Then::Never),
            "cwd_missing" | "env_invalid" | "resources_impossible" | "preceding_op" | "dependency" => {
                (false, Then::Never)
            }
            "start_failed" => (false, Then::StartAgain),
            "interrupted" => (false, Then::Release),
            "lost_contact" => (true, Then::Lost),
            _ => (true, Then::Retry),
        };
        // A holder who knows that trying again is useless is believed; the table's noes stand.
        let then = if then == Then::Retry && retryable == Some(false) { Then::Never } else { then };
        Self { attempt, then }
    }
}

pub fn failure(step: &mut Step, id: JobId, failed: &Failure) {
    let rule = Rule::of(failed.reason, failed.retryable);
    let raise = matches!(failed.reason, "ram" | "time");
    if raise {
        learn::learn(step, id, failed.report);
    }
    let asked = step.state.needs(&step.live(id).expect("its lease was found").shape);
    step.change(id, |job, writer| {
        count_attempt(job, writer, rule);
        touch::add_log(job, writer, &failed.report.log, failed.report.log_seq);
        if rule.then == Then::Release {
            let (delay_ms, report) = (failed.delay_ms.unwrap_or(0), failed.report);
            let ending = Ending { ended_by: LeaseEnd::FinishedFailure, delay_ms, reason: failed.reason, report };
            return release::give_back(job, writer, &ending);
        }
        if raise {
            learn::raise(job, asked, failed);
        }
        attempt::record(job, writer, Some(failed.reason), failed.report);
        let ran_ms = attempt::ran_ms(job, failed.report, writer.clocks.wall);
        let canceling = is_canceling(job);
        let lease = job.end_lease(LeaseEnd::FinishedFailure, writer.clocks.wall);
        if canceling {
            job.cancel_rest(writer.clocks.wall);
        } else if lease.cancel_after {
            job.fail_one(writer.clocks.wall);
        } else {
            settle(job, writer, rule, failed, ran_ms);
        }
    });
}

/// Finish from reserved counts as started; what could not run at all was no attempt, even if it was called started.
fn count_attempt(job: &mut Job, writer: &Writer, rule: Rule) {
    let lost = rule.then == Then::Release && !job.policy.rerun_on_loss;
    match &job.current_op().status {
        OpStatus::Reserved(_) if rule.attempt => job.start(writer.clocks.wall),
        OpStatus::Reserved(_) => {}
        _ if rule.attempt || lost => {}
        _ => {
            let runs = job.current_op_mut().runs_mut();
            runs.attempts = runs.attempts.saturating_sub(1);
            runs.exec_at = Stamp::NONE;
        }
    }
}

/// Retry, or the end of trying.
fn settle(job: &mut Job, writer: &mut Writer, rule: Rule, failed: &Failure, ran_ms: u64) {
    let (retries, too_long) = (job.policy.retries, job.policy.no_retry_after_ms.is_some_and(|max| ran_ms > max));
    let runs = job.current_op_mut().runs_mut();
    if rule.then != Then::StartAgain {
        runs.start_failures = 0;
    }
    match rule.then {
        Then::Retry if runs.retries_used < retries && !too_long => {
            runs.retries_used += 1;
            let failures = runs.retries_used;
            hold(job, writer, failed, failures);
        }
        Then::StartAgain if runs.start_failures < limits::START_FAILURES_MAX => {
            runs.start_failures += 1;
            let failures = runs.start_failures;
            hold(job, writer, failed, failures);
        }
        Then::Lost => attempt::lose(job, writer),
        Then::Retry | Then::StartAgain | Then::Never | Then::Release => attempt::give_up(job, writer),
    }
}

fn hold(job: &mut Job, writer: &Writer, failed: &Failure, failures: u32) {
    let delay_ms = failed.delay_ms.unwrap_or_else(|| attempt::back_off(job, failures));
    attempt::delay(job, writer.clocks.cluster, delay_ms);
}
