//! What attempts leave behind, and what becomes of a job when one ends badly (design 2.2).

use super::{
    command::Report,
    ids::{ClusterMs, JobId, WallMs},
    job::{Attempt, Hold, Job, LogLine, OnFailure, PRECEDING_OP, Reason, Runs},
    limits,
    refusal::Refusal,
    rows::{Row, RowKey},
    step::Writer,
};

/// Stands in the place of an output that found no room, and weighs nothing.
const OMITTED: &str = "... omitted: the job has kept all that it may ...";

/// Records the attempt that the current op's lease was, before that lease ends.
///
/// Attempts that never ran have number 0: they are kept for their reason.
pub fn record(job: &mut Job, writer: &mut Writer, reason: Option<&str>, report: &Report) {
    let op = job.current();
    let lease = job.ops[op].status.lease().expect("an attempt is recorded while its lease lasts").clone();
    let runs = job.ops[op].runs();
    let ran = runs.exec_at.time().is_some();
    let attempt = Attempt {
        number: if ran { runs.attempts } else { 0 },
        lease: lease.id,
        worker: lease.holder.worker.clone(),
        host: lease.holder.host.clone(),
        pid: lease.holder.pid,
        started_at: runs.exec_at.time(),
        ended_at: Some(writer.clocks.wall),
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
    put(job, writer, op, attempt);
}

/// An op that never had a lease of its own but ended: the reason stands where an attempt's would.
pub fn record_unrun(job: &mut Job, writer: &mut Writer, op: usize, reason: &str, error: Option<&str>) {
    let attempt = Attempt {
        ended_at: Some(writer.clocks.wall),
        fail_reason: Some(reason.into()),
        error: error.map(Into::into),
        ..Attempt::default()
    };
    put(job, writer, op, attempt);
}

fn put(job: &mut Job, writer: &mut Writer, op: usize, mut attempt: Attempt) {
    let recorded = job.ops[op].runs().recorded;
    let key = RowKey::Attempt(job.id, op as u32, recorded % limits::ATTEMPTS_KEPT);
    if recorded >= limits::ATTEMPTS_KEPT {
        free(job, writer, &key);
    }
    fit(job, &mut attempt);
    drop_lines(job, writer);
    job.ops[op].runs_mut().recorded = recorded.wrapping_add(1);
    writer.keep_attempt(key, Box::new(attempt));
}

impl Runs {
    /// Puts what was read slot by slot into the order in which it was written: once all slots are taken, the next is the oldest.
    pub fn oldest_first<T>(&self, slots: &mut [T]) {
        if slots.len() == limits::ATTEMPTS_KEPT as usize {
            slots.rotate_left((self.recorded % limits::ATTEMPTS_KEPT) as usize);
        }
    }
}

/// Makes room for an attempt's outputs; where there is none, they are not kept and say so.
fn fit(job: &mut Job, attempt: &mut Attempt) {
    let bytes = output_bytes(attempt);
    if has_room(job, bytes) {
        return count_output(job, bytes);
    }
    for output in [&mut attempt.stdout, &mut attempt.stderr] {
        *output = output.as_ref().map(|_| OMITTED.into());
    }
}

/// The attempt whose slot is taken next frees what it weighs.
fn free(job: &mut Job, writer: &Writer, key: &RowKey) {
    if let Some(Row::Attempt(old)) = writer.read(key) {
        let more = job.more_mut();
        more.output_bytes = more.output_bytes.saturating_sub(output_bytes(&old) as u32);
    }
}

fn output_bytes(attempt: &Attempt) -> u64 {
    let outputs = [&attempt.stdout, &attempt.stderr].into_iter().flatten();
    outputs.filter(|output| &***output != OMITTED).map(|output| output.len() as u64).sum()
}

/// Whether the job may keep `bytes` more of results and outputs. Log lines make room.
pub fn has_room(job: &Job, bytes: u64) -> bool {
    u64::from(job.spec_bytes) + u64::from(job.more().output_bytes) + bytes <= limits::JOB_TOTAL_BYTES_MAX
}

pub fn too_large() -> Refusal {
    let message = format!("spec, outputs and results of a job must have at most {} bytes", limits::JOB_TOTAL_BYTES_MAX);
    Refusal::TooLarge { message: message.into() }
}

/// Whether a spec of `bytes` may stand in the place of the job's own.
pub fn has_room_for_spec(job: &Job, bytes: usize) -> bool {
    bytes as u64 + u64::from(job.more().output_bytes) <= limits::JOB_TOTAL_BYTES_MAX
}

/// The job's spec weighs this much from now on, for which there is room. Log lines make it.
pub fn count_spec(job: &mut Job, writer: &mut Writer, bytes: usize) {
    job.spec_bytes = u32::try_from(bytes).expect("a spec's size was checked");
    drop_lines(job, writer);
}

/// Counts `bytes` of results and outputs, for which there is room, against the job's total. Log lines make it when the attempt
/// that they are of is recorded.
pub fn count_output(job: &mut Job, bytes: u64) {
    if bytes > 0 {
        job.more_mut().output_bytes += u32::try_from(bytes).expect("there was room for it");
    }
}

/// Appends lines to the job's log; `at` op.
pub fn append_log(job: &mut Job, writer: &mut Writer, op: usize, lines: &[(Box<str>, Box<str>)]) {
    for (kind, text) in lines {
        let line = LogLine { op: op as u32, at: writer.clocks.wall, kind: kind.clone(), text: text.clone() };
        let (id, more) = (job.id, job.more_mut());
        more.log_serial += 1;
        more.log_bytes = more.log_bytes.saturating_add(line_bytes(&line));
        writer.changes.put(RowKey::Log(id, more.log_serial), Row::Log(line));
    }
    if !lines.is_empty() {
        drop_lines(job, writer);
    }
}

fn line_bytes(line: &LogLine) -> u32 {
    (line.kind.len() + line.text.len() + 16) as u32
}

/// Drops the oldest log lines until the job weighs no more than it may.
fn drop_lines(job: &mut Job, writer: &mut Writer) {
    let others = u64::from(job.spec_bytes) + u64::from(job.more().output_bytes);
    while others + u64::from(job.more().log_bytes) > limits::JOB_TOTAL_BYTES_MAX {
        let (id, more) = (job.id, job.more_mut());
        if more.log_dropped == more.log_serial {
            return;
        }
        more.log_dropped += 1;
        let key = RowKey::Log(id, more.log_dropped);
        let Some(Row::Log(line)) = writer.read(&key) else { panic!("a log has no gaps between dropped and newest") };
        more.log_bytes = more.log_bytes.saturating_sub(line_bytes(&line));
        writer.changes.delete(key);
    }
}

/// Appends to the trail of reasons, which keeps the newest.
pub fn append_reason(job: &mut Job, writer: &mut Writer, source: &str, text: &str) {
    let (id, more) = (job.id, job.more_mut());
    let reason = Reason { source: source.into(), text: text.into(), at: writer.clocks.wall };
    writer.changes.put(RowKey::Reason(id, more.reasons % limits::REASONS_KEPT), Row::Reason(reason));
    more.reasons = more.reasons.wrapping_add(1);
}

/// What becomes of a job whose op will not be tried again.
pub fn give_up(job: &mut Job, writer: &mut Writer) {
    match job.policy.on_failure {
        OnFailure::Bury => job.hold = Hold::Buried,
        OnFailure::Error => fail(job, writer),
    }
}

/// The current op → error, the later ones with it.
pub fn fail(job: &mut Job, writer: &mut Writer) {
    for op in job.current() + 1..job.ops.len() {
        record_unrun(job, writer, op, PRECEDING_OP, None);
    }
    job.fail_rest(writer.clocks.wall);
}

/// One more loss of the current op, whose lease has ended: run again, or given up (design 2.2, expiry).
pub fn lose(job: &mut Job, writer: &mut Writer) {
    let limit = job.policy.lost_limit;
    let runs = job.current_op_mut().runs_mut();
    runs.lost = runs.lost.saturating_add(1);
    if job.policy.rerun_on_loss && job.current_op().runs().lost <= limit {
        job.hold = Hold::None;
        return;
    }
    give_up(job, writer);
}

/// Holds the job for `delay_ms`, or not at all.
pub fn delay(job: &mut Job, now: ClusterMs, delay_ms: u64) {
    job.hold = if delay_ms == 0 { Hold::None } else { Hold::Delayed(now.after(delay_ms)) };
}

/// How long the `failures`-th failure in a row (from 1) keeps a job waiting: base, twice that each time, up to a cap, plus
/// up to base of jitter. The jitter is a function of job and attempt, so every replica finds the same.
pub fn back_off(job: &Job, failures: u32) -> u64 {
    let (base, cap) = (job.policy.backoff_base_ms, job.policy.backoff_cap_ms);
    let doubled = base.saturating_mul(1u64.checked_shl(failures.saturating_sub(1)).unwrap_or(u64::MAX));
    let attempt = job.current_op().runs().recorded;
    let jitter = mix(job.id, attempt) % base.saturating_add(1);
    doubled.min(cap).saturating_add(jitter).min(limits::DELAY_MS_MAX)
}

/// splitmix64: fixed for ever, as replicas of different versions must agree.
fn mix(id: JobId, attempt: u32) -> u64 {
    let mut bits = id.0.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(u64::from(attempt));
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

/// How long the attempt has run: as its holder measured, else by the wall clocks of start and end.
pub fn ran_ms(job: &Job, report: &Report, wall: WallMs) -> u64 {
    let since = |at: WallMs| wall.0.saturating_sub(at.0);
    report.wall_ms.unwrap_or_else(|| job.current_op().runs().exec_at.time().map_or(0, since))
}
