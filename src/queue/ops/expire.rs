//! expire: what time does, in one command that the leader proposes (design 2.1).
//!
//! Only a tick expires anything. The leader proposes it behind everything that had arrived before, so whoever was late only
//! because the leader stalled has been heard first; and what has moved on meanwhile is simply no longer due. A tick handles
//! a bounded piece; what is left is still due, and the next tick goes on.

use crate::queue::{
    applied::{Answer, Effect},
    attempt,
    command::Report,
    ids::JobId,
    job::{Hold, LeaseEnd, OpStatus},
    keys, limits,
    ops::{autoarchive, impossible, release::is_canceling, worker},
    step::Step,
};

pub fn tick(step: &mut Step, hold_wall: bool) -> Answer {
    let mut piece = limits::TICK_PIECE;
    while piece > 0 {
        let Some((_, id)) = step.state.order.first_due().filter(|(at, _)| *at <= step.now()) else { break };
        expire(step, id);
        piece -= 1;
    }
    keys::expire(step, limits::KEY_NAMES_PIECE);
    worker::expire(step, limits::TICK_PIECE);
    piece -= impossible::bury_ready(step, piece);
    if !hold_wall {
        piece -= run_due(step, piece);
        autoarchive::by_policy(step, piece);
    }
    Answer::Done
}

/// A lease or a delay of this job has run out.
fn expire(step: &mut Step, id: JobId) {
    let job = step.live(id).expect("what is due lives");
    if job.lease().is_some() {
        expire_lease(step, id);
    } else {
        step.change(id, |job, _| job.hold = Hold::None);
    }
}

/// Jobs whose wall time has come; says how many.
fn run_due(step: &mut Step, piece: usize) -> usize {
    let mut ready = 0;
    while ready < piece {
        let Some((_, id)) = step.state.order.first_run_at().filter(|(at, _)| *at <= step.wall()) else { break };
        step.change(id, |job, _| job.hold = Hold::None);
        ready += 1;
    }
    ready
}

/// The lease ends by itself: back to the queue if it was only reserved, lost if it was started.
pub fn expire_lease(step: &mut Step, id: JobId) {
    let lease = step.change(id, |job, writer| {
        let started = !matches!(job.current_op().status, OpStatus::Reserved(_));
        if started {
            attempt::record(job, writer, Some("lost_contact"), &Report::default());
        }
        let canceling = is_canceling(job);
        let lease = job.end_lease(LeaseEnd::Expired, writer.clocks.wall);
        if canceling || lease.cancel_after {
            job.cancel_rest(writer.clocks.wall);
        } else if started {
            attempt::lose(job, writer);
        }
        lease.id
    });
    step.emit(Effect::LeaseEnded { job: id, lease });
}

/// The first entry of another office: leases of an old pool get a deadline (design 2.3).
pub fn end_grace_of_old_pool(step: &mut Step) {
    let deadline = step.now().after(step.state.pool.timeout_ms);
    let ours = (step.office.node, step.office.incarnation);
    let held: Vec<JobId> = step.state.order.pool().iter().copied().collect();
    for id in held {
        let lease = step.live(id).and_then(|job| job.lease()).expect("the pool holds it");
        let office = lease.holder.office.expect("only the pool's leases have no deadline");
        if (office.node, office.incarnation) == ours {
            continue;
        }
        step.renew(id, |job, _| {
            let lease = job.current_op_mut().status.lease_mut().expect("the pool holds it");
            lease.deadline = Some(deadline);
        });
    }
}
