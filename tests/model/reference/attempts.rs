//! What attempts leave behind, and how much of a job is kept: of each op the last ten attempts, of a job two mebibytes in
//! all. Log lines make way, the oldest first; outputs that find no room are not kept; what weighs too much is refused.

use std::sync::Arc;

use raftq::queue::{
    command::Report,
    ids::JobId,
    job::{Attempt, LogLine, Spec},
    refusal::Refusal,
};

use super::{
    Model,
    job::{Job, Op, OpStatus},
};

const ATTEMPTS_KEPT: usize = 10;
const REASONS_KEPT: usize = 100;
const SPEC_BYTES_MAX: usize = 1 << 20;
const JOB_BYTES_MAX: usize = 2 << 20;
/// Stands in the place of an output that found no room.
const OMITTED: &str = "... omitted: the job has kept all that it may ...";

/// The newest few.
pub fn last<T>(all: &[T], few: usize) -> &[T] {
    &all[all.len().saturating_sub(few)..]
}

impl Op {
    /// What is kept of its attempts, the oldest first.
    pub fn attempts_kept(&self) -> &[Arc<Attempt>] {
        last(&self.history, ATTEMPTS_KEPT)
    }
}

impl Job {
    pub fn reasons_kept(&self) -> &[raftq::queue::job::Reason] {
        last(&self.reasons, REASONS_KEPT)
    }

    /// Lines that are there, by their serials.
    pub fn log_kept(&self) -> impl Iterator<Item = (u64, &LogLine)> {
        let numbered = self.log.iter().enumerate().skip(self.log_dropped);
        numbered.map(|(at, line)| (at as u64 + 1, &**line))
    }

    pub fn output_bytes(&self) -> usize {
        let results = self.ops.iter().filter_map(|op| op.result.result.as_ref()).map(|json| json.0.len());
        let attempts = self.ops.iter().flat_map(Op::attempts_kept).map(|attempt| weight(attempt));
        results.chain(attempts).sum()
    }

    /// What a line weighs beside its words is left to the implementation.
    pub fn log_bytes(&self) -> usize {
        self.log_kept().map(|(_, line)| line.kind.len() + line.text.len() + 16).sum()
    }

    /// How much more this may keep of results and outputs.
    pub fn room(&self) -> usize {
        JOB_BYTES_MAX.saturating_sub(self.spec.bytes() + self.output_bytes())
    }

    /// Drops the oldest lines until the rest fits.
    pub(super) fn shed(&mut self) {
        while self.log_dropped < self.log.len()
            && self.spec.bytes() + self.output_bytes() + self.log_bytes() > JOB_BYTES_MAX
        {
            self.log_dropped += 1;
        }
    }

    /// The oldest attempt leaves before it is seen whether the outputs of the new one fit.
    fn keep(&mut self, op: usize, attempt: Attempt) {
        self.ops[op].history.push(Arc::new(attempt));
        if self.spec.bytes() + self.output_bytes() > JOB_BYTES_MAX {
            let attempt = self.ops[op].history.last_mut().map(Arc::make_mut).expect("it came a line ago");
            for output in [&mut attempt.stdout, &mut attempt.stderr] {
                *output = output.as_ref().map(|_| OMITTED.into());
            }
        }
        self.shed();
    }

    pub fn has_omitted(&self) -> bool {
        let attempts = self.ops.iter().flat_map(|op| &op.history);
        attempts.flat_map(|attempt| [&attempt.stdout, &attempt.stderr]).any(|output| output.as_deref() == Some(OMITTED))
    }
}

fn weight(attempt: &Attempt) -> usize {
    let outputs = [&attempt.stdout, &attempt.stderr].into_iter().flatten();
    outputs.filter(|output| &***output != OMITTED).map(|output| output.len()).sum()
}

impl Model {
    /// The attempt that the lease of this op was, which is about to end.
    pub(super) fn remember(&mut self, id: JobId, op: usize, reason: Option<&str>, report: &Report) {
        let wall = self.now.wall;
        let job = self.jobs.get_mut(&id).expect("its lease was found");
        let of = &job.ops[op];
        let lease = of.lease().expect("its lease was found");
        let attempt = Attempt {
            number: of.exec_at.map_or(0, |_| of.attempts),
            lease: lease.id,
            worker: lease.worker.clone(),
            host: lease.host.clone(),
            pid: lease.pid,
            started_at: of.exec_at,
            ended_at: Some(wall),
            exit_code: report.exit_code,
            fail_reason: reason.map(Into::into),
            error: report.error.clone(),
            wall_ms: report.wall_ms,
            cpu_ms: report.cpu_ms,
            peak_ram_mb: report.peak_ram_mb,
            stdout: report.stdout.clone(),
            stderr: report.stderr.clone(),
            shell: report.shell.clone(),
        };
        job.keep(op, attempt);
    }

    /// A lease that ends without an outcome was an attempt if the op had been started.
    pub(super) fn remember_started(&mut self, id: JobId, op: usize, reason: &str, report: &Report) {
        if !matches!(self.jobs[&id].ops[op].status, OpStatus::Reserved(_)) {
            self.remember(id, op, Some(reason), report);
        }
    }

    /// Why an op ended, or was put aside, that nobody ran.
    pub(super) fn remember_unrun(&mut self, id: JobId, op: usize, reason: &str, error: Option<&str>) {
        let ended_at = Some(self.now.wall);
        let job = self.jobs.get_mut(&id).expect("the caller found it");
        let (fail_reason, error) = (Some(reason.into()), error.map(Into::into));
        job.keep(op, Attempt { ended_at, fail_reason, error, ..Attempt::default() });
    }

    /// The op at hand fails, and all after it, which say so.
    pub(super) fn fail_from(&mut self, id: JobId, op: usize) {
        let ops = self.jobs[&id].ops.len();
        (op + 1..ops).for_each(|later| self.remember_unrun(id, later, "preceding_op", None));
        self.jobs.get_mut(&id).expect("the caller found it").end_unfinished(&OpStatus::Error);
    }
}

/// A spec that weighs too much by itself, or with what the job has kept.
pub fn too_heavy(spec: &Spec, kept: usize) -> Option<Refusal> {
    let bytes = spec.bytes();
    (bytes > SPEC_BYTES_MAX || bytes + kept > JOB_BYTES_MAX).then(|| Refusal::TooLarge { message: "".into() })
}
