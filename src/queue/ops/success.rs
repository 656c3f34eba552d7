//! finish with success: the op is done, with its result and the jobs it brings along (design 2.2).

use crate::queue::{
    attempt,
    command::Report,
    ids::JobId,
    job::{Generated, Job, Json, LeaseEnd, OpResult, OpStatus},
    ops::{children, learn, release::is_canceling, submit::Member, touch},
    refusal::Refusal,
    rows::{Row, RowKey},
    step::{Step, Writer},
};

pub struct Success<'a> {
    pub result: &'a Option<Json>,
    pub jobs: &'a [Member],
    pub atomic: bool,
    pub report: &'a Report,
}

pub fn success(step: &mut Step, id: JobId, done: &Success) -> Result<(), Refusal> {
    let job = step.live(id).expect("its lease was found");
    let canceling = is_canceling(job);
    let jobs = if canceling { Vec::new() } else { take_along(step, id, done)? };
    learn::learn(step, id, done.report);
    step.change(id, |job, writer| {
        if matches!(job.current_op().status, OpStatus::Reserved(_)) {
            job.start(writer.clocks.wall);
        }
        touch::add_log(job, writer, &done.report.log, done.report.log_seq);
        if !canceling {
            keep_result(job, writer, OpResult { result: done.result.clone(), jobs });
        }
        // Behind the result, for which there was room: outputs may be left out.
        attempt::record(job, writer, None, done.report);
        let lease = job.end_lease(LeaseEnd::FinishedSuccess, writer.clocks.wall);
        if !canceling {
            job.succeed(writer.clocks.wall);
        }
        let rest = !job.status().is_final();
        if rest && !canceling {
            // They were of this op: the next one begins at its own beginning.
            writer.changes.delete(RowKey::Checkpoint(id));
            writer.changes.delete(RowKey::Progress(id));
        }
        if rest && (canceling || lease.cancel_after) {
            job.cancel_rest(writer.clocks.wall);
        }
    });
    Ok(())
}

fn take_along(step: &mut Step, id: JobId, done: &Success) -> Result<Vec<Generated>, Refusal> {
    check_size(step.live(id).expect("its lease was found"), done)?;
    children::submit(step, id, done.jobs, done.atomic)
}

fn check_size(job: &Job, done: &Success) -> Result<(), Refusal> {
    let bytes = done.result.as_ref().map_or(0, |json| json.0.len() as u64);
    if attempt::has_room(job, bytes) {
        return Ok(());
    }
    Err(attempt::too_large())
}

fn keep_result(job: &mut Job, writer: &mut Writer, result: OpResult) {
    let bytes = result.result.as_ref().map_or(0, |json| json.0.len() as u64);
    if bytes == 0 && result.jobs.is_empty() {
        return;
    }
    attempt::count_output(job, bytes);
    writer.changes.put(RowKey::Result(job.id, job.current() as u32), Row::Result(result));
}
