//! Cancel: at once for what does not run; a running op is asked to stop, or to be the last.

use raftq::queue::{
    applied::JobBrief,
    command::CancelHow,
    ids::JobId,
    job::{CancelSignal, LeaseEnd, Status},
    refusal::Refusal,
};

use super::{Model, job::OpStatus};

impl Model {
    pub(super) fn cancel(&mut self, id: JobId, how: CancelHow, reason: Option<&str>) -> Result<JobBrief, Refusal> {
        let status = self.job(id)?.status();
        let changed = match status {
            Status::Success | Status::Error | Status::Canceled => return Err(Refusal::Finished { status }),
            Status::Queued | Status::Delayed | Status::Blocked | Status::Buried | Status::Reserved => {
                self.add_reason(id, reason);
                self.cancel_now(id);
                true
            }
            Status::Running => self.stop_running(id, how, reason)?,
            Status::Canceling => self.escalate(id, how),
        };
        Ok(self.jobs[&id].brief(changed))
    }

    pub(super) fn cancel_now(&mut self, id: JobId) {
        let job = self.jobs.get_mut(&id).expect("the caller found it");
        if let Some((op, lease)) = job.held().map(|(op, lease)| (op, lease.clone())) {
            self.end_lease(id, op, &lease, LeaseEnd::Canceled);
            self.told.leases_ended.insert((id, lease.id));
        }
        self.jobs.get_mut(&id).expect("the caller found it").end_unfinished(&OpStatus::Canceled);
        self.changed(id);
    }

    fn stop_running(&mut self, id: JobId, how: CancelHow, reason: Option<&str>) -> Result<bool, Refusal> {
        let job = self.jobs.get_mut(&id).expect("the caller found it");
        let op = job.held().expect("it runs").0;
        let status = &mut job.ops[op].status;
        let OpStatus::Running(lease) = status else { unreachable!("it runs") };
        let changed = match how {
            CancelHow::Waiting => return Err(Refusal::NotCancelable { status: Status::Running }),
            CancelHow::AfterOp => !std::mem::replace(&mut lease.cancel_after, true),
            CancelHow::Kill => {
                self.told.stops.push((id, lease.id, CancelSignal::Term));
                *status = OpStatus::Canceling(lease.clone(), CancelSignal::Term);
                true
            }
        };
        if changed {
            self.add_reason(id, reason);
            self.changed(id);
        }
        Ok(changed)
    }

    /// A second kill asks harder.
    fn escalate(&mut self, id: JobId, how: CancelHow) -> bool {
        let job = self.jobs.get_mut(&id).expect("the caller found it");
        let op = job.held().expect("it is being canceled").0;
        match &mut job.ops[op].status {
            OpStatus::Canceling(lease, signal @ CancelSignal::Term) if how == CancelHow::Kill => {
                *signal = CancelSignal::Kill;
                self.told.stops.push((id, lease.id, CancelSignal::Kill));
                self.changed(id);
                true
            }
            _ => false,
        }
    }
}
