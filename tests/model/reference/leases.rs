//! The calls of a lease's holder: start, touch, finish, release, bury.

use std::sync::Arc;

use raftq::queue::{
    applied::{Answer, LeaseState},
    command::{Claim, LeaseAction, LeaseItem, Report},
    ids::{ClusterMs, JobId},
    job::{Hold, Json, LeaseEnd, LogLine, OnFailure, OpResult},
    refusal::Refusal,
};

use super::{
    Model,
    job::{Lasting, Lease, OpStatus},
    limits::{allow, wrong_call},
};

/// What the table of reasons says of one.
struct Rule {
    counts_as_attempt: bool,
    retry: Retry,
}

enum Retry {
    Yes,
    No,
    /// Up to five times, whatever the job's own retries are.
    StartFailure,
    Released,
    /// As if it had run out.
    Lost,
}

impl Model {
    pub(super) fn leases(&mut self, items: &[LeaseItem], claim: Option<&Claim>) -> Answer {
        let results = items.iter().map(|item| self.lease_item(item)).collect();
        match claim.map(|claim| self.claim(claim)) {
            None => Answer::Leases { results, claimed: Vec::new() },
            Some(Ok(claimed)) => Answer::Leases { results, claimed },
            Some(Err(refusal)) => Answer::Leases { results, claimed: vec![Err(refusal)] },
        }
    }

    fn lease_item(&mut self, item: &LeaseItem) -> Result<LeaseState, Refusal> {
        let (id, job) = (item.job, self.job(item.job)?);
        match job.held() {
            Some((op, lease)) if lease.id == item.lease => {
                let lease = lease.clone();
                let answer = self.holders_call(id, op, &lease, &item.action);
                self.bury_stirred();
                answer
            }
            _ if is_identical_repeat(job, item) => {
                allow(wrong_call(&item.action)).map(|()| LeaseState { cancel: None, lease_ms: 0 })
            }
            Some((_, lease)) => {
                let owner = Some(lease.worker.clone());
                Err(Refusal::StaleLease { status: job.status(), owner })
            }
            None => Err(Refusal::NotClaimed { status: job.status() }),
        }
    }

    fn holders_call(
        &mut self,
        id: JobId,
        op: usize,
        lease: &Lease,
        action: &LeaseAction,
    ) -> Result<LeaseState, Refusal> {
        allow(wrong_call(action))?;
        let state = self.lease_state(id, op);
        match action {
            LeaseAction::Start { host, pid } => self.start(id, op, host.as_deref(), *pid),
            LeaseAction::Touch { log, log_seq, progress, checkpoint } => {
                self.touch(id, op, log, *log_seq);
                let job = self.jobs.get_mut(&id).expect("its lease was found");
                job.progress = progress.clone().or(job.progress.take());
                job.checkpoint = checkpoint.clone().or(job.checkpoint.take());
                if progress.is_some() {
                    self.told.news.insert(id);
                }
            }
            LeaseAction::Success { result, jobs, atomic_children, report } => {
                self.check_room(id, op, result.as_ref())?;
                let jobs = self.submit_children(id, op, jobs, *atomic_children)?;
                self.learn(id, report);
                self.success(id, op, lease, OpResult { result: result.clone(), jobs }, report);
            }
            LeaseAction::Failure { fail_reason, retryable, delay_ms, report } => {
                self.failure(
                    id,
                    op,
                    lease,
                    &Failure { reason: fail_reason, retryable: *retryable, delay_ms: *delay_ms, report },
                );
            }
            LeaseAction::Release { delay_ms, reason } => {
                let reason = reason.as_deref().unwrap_or("released");
                self.release(
                    id,
                    op,
                    lease,
                    &Return { delay_ms: *delay_ms, how: LeaseEnd::Released, reason, report: &Report::default() },
                );
            }
            LeaseAction::Bury { reason } => {
                self.add_reason(id, reason.as_deref());
                self.bury_held(id, op, lease);
            }
        }
        Ok(state)
    }

    /// What the holder is told: how its lease stood when it called.
    fn lease_state(&self, id: JobId, op: usize) -> LeaseState {
        let op = &self.jobs[&id].ops[op];
        let cancel = match &op.status {
            OpStatus::Canceling(_, signal) => Some(*signal),
            OpStatus::Queued | OpStatus::Reserved(_) | OpStatus::Running(_) => None,
            OpStatus::Success | OpStatus::Error | OpStatus::Canceled => None,
        };
        LeaseState { cancel, lease_ms: op.lease().map_or(0, |lease| lease.length_ms) }
    }

    fn start(&mut self, id: JobId, op: usize, host: Option<&str>, pid: Option<u32>) {
        let wall = self.now.wall;
        let job = self.jobs.get_mut(&id).expect("its lease was found");
        let lease = job.ops[op].lease_mut().expect("its lease was found");
        lease.host = host.map_or(lease.host.clone(), Into::into);
        lease.pid = pid.unwrap_or(lease.pid);
        if let OpStatus::Reserved(lease) = job.ops[op].status.clone() {
            job.ops[op].status = OpStatus::Running(lease);
            job.count_start(op, wall);
            self.renew(id, op);
            self.changed(id);
        }
    }

    /// The deadline is set anew, not added to. A pool's lease has none in its office, and the one that it gets afterwards is final.
    fn touch(&mut self, id: JobId, op: usize, lines: &[(Box<str>, Box<str>)], seq: Option<u64>) {
        self.log(id, op, lines, seq);
        self.renew(id, op);
    }

    fn renew(&mut self, id: JobId, op: usize) {
        let now = self.now.cluster;
        let lease = self.jobs.get_mut(&id).and_then(|job| job.ops[op].lease_mut()).expect("its lease was found");
        if lease.office.is_none() {
            lease.deadline = Some(now.after(lease.length_ms));
        }
    }

    fn log_report(&mut self, id: JobId, op: usize, report: &Report) {
        self.log(id, op, &report.log, report.log_seq);
    }

    /// Lines under a sequence number that the lease has seen already are a repeat.
    fn log(&mut self, id: JobId, op: usize, lines: &[(Box<str>, Box<str>)], seq: Option<u64>) {
        let at = self.now.wall;
        let job = self.jobs.get_mut(&id).expect("its lease was found");
        let lease = job.ops[op].lease_mut().expect("its lease was found");
        if seq.is_some_and(|seq| seq < lease.log_next) {
            return;
        }
        lease.log_next = seq.map_or(lease.log_next, |seq| seq.saturating_add(1));
        let line =
            |(kind, text): &(Box<str>, Box<str>)| LogLine { op: op as u32, at, kind: kind.clone(), text: text.clone() };
        job.log.extend(lines.iter().map(line).map(Arc::new));
        job.shed();
        if !lines.is_empty() {
            self.told.news.insert(id);
        }
    }

    /// What an op says that it brought about is kept whole, or not taken. A job that ends canceled keeps none.
    fn check_room(&self, id: JobId, op: usize, result: Option<&Json>) -> Result<(), Refusal> {
        let job = &self.jobs[&id];
        let fits = result.is_none_or(|json| json.0.len() <= job.room());
        match job.ops[op].status {
            OpStatus::Canceling(..) => Ok(()),
            _ if fits => Ok(()),
            _ => Err(Refusal::TooLarge { message: "".into() }),
        }
    }

    fn success(&mut self, id: JobId, op: usize, lease: &Lease, result: OpResult, report: &Report) {
        self.count_start(id, op);
        self.log_report(id, op, report);
        let job = self.jobs.get_mut(&id).expect("its lease was found");
        if !matches!(job.ops[op].status, OpStatus::Canceling(..)) {
            job.ops[op].result = Arc::new(result);
        }
        self.remember(id, op, None, report);
        if self.ends_canceled(id, op, lease, LeaseEnd::FinishedSuccess) {
            return;
        }
        let job = self.end_lease(id, op, lease, LeaseEnd::FinishedSuccess);
        job.ops[op].status = OpStatus::Success;
        // They were for another attempt of this op.
        (job.progress, job.checkpoint) = (None, None);
        if lease.cancel_after {
            job.end_unfinished(&OpStatus::Canceled);
        }
        self.changed(id);
        self.settle(id);
    }

    fn failure(&mut self, id: JobId, op: usize, lease: &Lease, failure: &Failure<'_>) {
        let rule = rule_of(failure.reason, failure.retryable);
        // An interrupted op that must not run twice is lost, and what is lost was an attempt.
        let lost = matches!(rule.retry, Retry::Released) && !self.jobs[&id].spec.policy.rerun_on_loss;
        if rule.counts_as_attempt {
            self.count_start(id, op);
        } else if !lost {
            self.uncount_start(id, op);
        }
        self.log_report(id, op, failure.report);
        if matches!(failure.reason, "ram" | "time") {
            self.learn(id, failure.report);
            self.raise(id, failure.reason, failure.report);
        }
        if let Retry::Released = rule.retry {
            let Failure { reason, delay_ms, report, .. } = *failure;
            let back = Return { delay_ms: delay_ms.unwrap_or(0), how: LeaseEnd::FinishedFailure, reason, report };
            return self.release(id, op, lease, &back);
        }
        self.remember(id, op, Some(failure.reason), failure.report);
        if self.ends_canceled(id, op, lease, LeaseEnd::FinishedFailure) {
            return;
        }
        self.end_lease(id, op, lease, LeaseEnd::FinishedFailure);
        if lease.cancel_after {
            self.jobs.get_mut(&id).expect("its lease was found").ops[op].status = OpStatus::Error;
            return self.end_all(id, &OpStatus::Canceled);
        }
        if let Retry::Lost = rule.retry {
            self.jobs.get_mut(&id).expect("its lease was found").ops[op].start_failures = 0;
            return self.lose_once(id, op);
        }
        match self.takes_retry(id, op, failure, &rule) {
            Some(turn) => self.retry_later(id, op, failure.delay_ms, turn),
            None => self.fail_for_good(id, op),
        }
    }

    /// Uses up a retry if there is one to use; says which in turn it is, from 0.
    fn takes_retry(&mut self, id: JobId, op: usize, failure: &Failure<'_>, rule: &Rule) -> Option<u32> {
        let wall = self.now.wall;
        let job = self.jobs.get_mut(&id).expect("its lease was found");
        let policy = &job.spec.policy;
        let op = &mut job.ops[op];
        let ran = failure.report.wall_ms.unwrap_or(op.exec_at.map_or(0, |at| wall.0.saturating_sub(at.0)));
        let too_long = policy.no_retry_after_ms.is_some_and(|most| ran > most);
        if !matches!(rule.retry, Retry::StartFailure) {
            op.start_failures = 0;
        }
        match rule.retry {
            Retry::Yes if !too_long && op.retries_used < policy.retries => {
                op.retries_used += 1;
                Some(op.retries_used - 1)
            }
            Retry::StartFailure => {
                op.start_failures += 1;
                (op.start_failures <= 5).then(|| op.start_failures - 1)
            }
            Retry::Yes | Retry::No | Retry::Released | Retry::Lost => None,
        }
    }

    fn retry_later(&mut self, id: JobId, op: usize, given: Option<u64>, turn: u32) {
        let job = &self.jobs[&id];
        let hold = match given {
            Some(ms) => self.delayed(ms),
            None => self.back_off(job.spec.policy.backoff_base_ms, job.spec.policy.backoff_cap_ms, turn),
        };
        let job = self.jobs.get_mut(&id).expect("it was just held");
        job.ops[op].status = OpStatus::Queued;
        job.hold = hold;
        self.changed(id);
    }

    /// Twice as long each time up to the cap, plus up to `base` of jitter.
    fn back_off(&self, base: u64, cap: u64, turn: u32) -> Lasting {
        let doubled = (0..turn).fold(base, |ms, _| ms.saturating_mul(2)).min(cap);
        if doubled == 0 && base == 0 {
            return Lasting::exactly(Hold::None);
        }
        Lasting { hold: Hold::Delayed(ClusterMs(self.now.cluster.0 + doubled)), slack_ms: base }
    }

    pub(super) fn end_all(&mut self, id: JobId, status: &OpStatus) {
        self.jobs.get_mut(&id).expect("the caller found it").end_unfinished(status);
        self.changed(id);
    }

    /// By `on_failure`: kept aside, or the op and all after it end in error.
    pub(super) fn fail_for_good(&mut self, id: JobId, op: usize) {
        let job = self.jobs.get_mut(&id).expect("it was just held");
        match job.spec.policy.on_failure {
            OnFailure::Error => self.fail_from(id, op),
            OnFailure::Bury => {
                job.ops[op].status = OpStatus::Queued;
                job.hold = Lasting::exactly(Hold::Buried);
            }
        }
        self.changed(id);
    }

    /// Back to the queue, without a retry used; a started op that must not run twice is lost instead.
    fn release(&mut self, id: JobId, op: usize, lease: &Lease, back: &Return<'_>) {
        let is_lost = !self.jobs[&id].spec.policy.rerun_on_loss;
        self.remember_started(id, op, if is_lost { "lost_contact" } else { back.reason }, back.report);
        if self.ends_canceled(id, op, lease, back.how) {
            return;
        }
        let hold = self.delayed(back.delay_ms);
        let job = self.end_lease(id, op, lease, back.how);
        let started = matches!(job.ops[op].status, OpStatus::Running(_));
        if lease.cancel_after {
            return self.end_all(id, &OpStatus::Canceled);
        }
        if started && !job.spec.policy.rerun_on_loss {
            job.ops[op].lost += 1;
            return self.fail_for_good(id, op);
        }
        job.ops[op].status = OpStatus::Queued;
        job.hold = hold;
        self.changed(id);
    }

    fn bury_held(&mut self, id: JobId, op: usize, lease: &Lease) {
        self.remember_started(id, op, "buried", &Report::default());
        if self.ends_canceled(id, op, lease, LeaseEnd::Buried) {
            return;
        }
        let job = self.end_lease(id, op, lease, LeaseEnd::Buried);
        job.ops[op].status = OpStatus::Queued;
        job.hold = Lasting::exactly(Hold::Buried);
        if lease.cancel_after {
            job.end_unfinished(&OpStatus::Canceled);
        }
        self.changed(id);
    }

    /// A finish from reserved counts as started too.
    fn count_start(&mut self, id: JobId, op: usize) {
        let wall = self.now.wall;
        let job = self.jobs.get_mut(&id).expect("its lease was found");
        if let OpStatus::Reserved(_) = job.ops[op].status {
            job.count_start(op, wall);
        }
    }

    /// What failed before the command was ever run is no attempt, whether or not the worker had said start.
    fn uncount_start(&mut self, id: JobId, op: usize) {
        let job = self.jobs.get_mut(&id).expect("its lease was found");
        if !matches!(job.ops[op].status, OpStatus::Reserved(_)) {
            (job.ops[op].attempts, job.ops[op].exec_at) = (job.ops[op].attempts - 1, None);
        }
    }

    /// A job that is being canceled ends canceled, whatever its holder reports.
    pub(super) fn ends_canceled(&mut self, id: JobId, op: usize, lease: &Lease, how: LeaseEnd) -> bool {
        let job = self.jobs.get_mut(&id).expect("its lease was found");
        if !matches!(job.ops[op].status, OpStatus::Canceling(..)) {
            return false;
        }
        self.end_lease(id, op, lease, how).end_unfinished(&OpStatus::Canceled);
        self.changed(id);
        true
    }

    pub(super) fn end_lease(&mut self, id: JobId, op: usize, lease: &Lease, how: LeaseEnd) -> &mut super::Job {
        let wall = self.now.wall;
        let job = self.jobs.get_mut(&id).expect("its lease was found");
        (job.ops[op].last, job.ops[op].lease_ended_at) = (Some((lease.id, how)), Some(wall));
        job
    }
}

/// A lease given back, without an outcome.
struct Return<'a> {
    delay_ms: u64,
    how: LeaseEnd,
    reason: &'a str,
    report: &'a Report,
}

pub struct Failure<'a> {
    reason: &'a str,
    retryable: Option<bool>,
    delay_ms: Option<u64>,
    report: &'a Report,
}

/// The table of design 2.2. Any other text is a remote worker's own, which says itself whether to retry.
/// Whoever says that it is useless to try again is believed; the table's noes stand.
fn rule_of(reason: &str, retryable: Option<bool>) -> Rule {
    match table(reason) {
        Rule { counts_as_attempt, retry: Retry::Yes } if retryable == Some(false) => {
            Rule { counts_as_attempt, retry: Retry::No }
        }
        rule => rule,
    }
}

fn table(reason: &str) -> Rule {
    let rule = |counts_as_attempt, retry| Rule { counts_as_attempt, retry };
    match reason {
        "exit_nonzero" | "signal" | "ram" | "time" => rule(true, Retry::Yes),
        "not_executable" | "not_found" | "invalid_exit" | "killed" => rule(true, Retry::No),
        "cwd_missing" | "env_invalid" | "resources_impossible" | "preceding_op" | "dependency" => {
            rule(false, Retry::No)
        }
        "lost_contact" => rule(true, Retry::Lost),
        "start_failed" => rule(false, Retry::StartFailure),
        "interrupted" => rule(false, Retry::Released),
        _ => rule(true, Retry::Yes),
    }
}

/// The last lease and outcome of an op are kept, and the identical repeat is answered ok.
fn is_identical_repeat(job: &super::Job, item: &LeaseItem) -> bool {
    let outcome = match item.action {
        LeaseAction::Success { .. } => LeaseEnd::FinishedSuccess,
        LeaseAction::Failure { .. } => LeaseEnd::FinishedFailure,
        LeaseAction::Release { .. } => LeaseEnd::Released,
        LeaseAction::Bury { .. } => LeaseEnd::Buried,
        LeaseAction::Start { .. } | LeaseAction::Touch { .. } => return false,
    };
    job.ops.iter().any(|op| op.last == Some((item.lease, outcome)))
}
