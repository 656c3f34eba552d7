//! start and touch: a lease goes on.

use std::sync::Arc;

use crate::queue::{
    applied::Effect,
    attempt::append_log,
    command::LeaseAction,
    ids::{ClusterMs, JobId},
    job::{Holder, Job, Lease, OpStatus},
    rows::{Row, RowKey},
    step::{Step, Writer},
};

/// reserved → running; for what runs already, the repeat of a start, which may say where it runs.
pub fn start(step: &mut Step, id: JobId, host: Option<&str>, pid: Option<u32>) {
    let job = step.live(id).expect("its lease was found");
    if matches!(job.current_op().status, OpStatus::Reserved(_)) {
        step.change(id, |job, writer| {
            job.start(writer.clocks.wall);
            place(job, host, pid);
            renew(held(job), writer.clocks.cluster);
        });
    } else if host.is_some() || pid.is_some() {
        step.renew(id, |job, _| place(job, host, pid));
    }
}

fn held(job: &mut Job) -> &mut Lease {
    job.current_op_mut().status.lease_mut().expect("its lease was found")
}

fn place(job: &mut Job, host: Option<&str>, pid: Option<u32>) {
    if host.is_some() || pid.is_some() {
        let lease = held(job);
        lease.holder = Arc::new(moved(&lease.holder, host, pid));
    }
}

fn moved(holder: &Holder, host: Option<&str>, pid: Option<u32>) -> Holder {
    let mut holder = holder.clone();
    if let Some(host) = host {
        holder.host = host.into();
    }
    holder.pid = pid.unwrap_or(holder.pid);
    holder
}

/// A touch sets the deadline anew, it does not add to it.
pub fn touch(step: &mut Step, id: JobId, action: &LeaseAction) {
    let LeaseAction::Touch { log, log_seq, progress, checkpoint } = action else { panic!("only touches come here") };
    let news = step.renew(id, |job, writer| {
        renew(held(job), writer.clocks.cluster);
        add_log(job, writer, log, *log_seq)
    });
    if let Some(progress) = progress {
        step.state.changes.put(RowKey::Progress(id), Row::Json(progress.clone()));
    }
    if let Some(checkpoint) = checkpoint {
        step.state.changes.put(RowKey::Checkpoint(id), Row::Json(checkpoint.clone()));
    }
    if news || progress.is_some() {
        let status = step.live(id).expect("its lease was found").status();
        step.emit(Effect::Changed { job: id, was: status, status });
    }
}

/// A pool's lease has no deadline in its office; the one that it gets afterwards is final (design 2.3).
fn renew(lease: &mut Lease, now: ClusterMs) {
    if lease.holder.office.is_none() {
        lease.deadline = Some(now.after(lease.length_ms));
    }
}

/// Appends lines unless a repeat brings them again; says whether any came.
pub fn add_log(job: &mut Job, writer: &mut Writer, lines: &[(Box<str>, Box<str>)], seq: Option<u64>) -> bool {
    let op = job.current();
    let lease = job.ops[op].status.lease_mut().expect("its lease was found");
    if seq.is_some_and(|seq| seq < lease.log_next) {
        return false;
    }
    lease.log_next = seq.map_or(lease.log_next, |seq| seq.saturating_add(1));
    append_log(job, writer, op, lines);
    !lines.is_empty()
}
