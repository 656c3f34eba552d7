//! Needs: what a job asked for, what its group has taught, what its failures raised.

use std::sync::Arc;

use raftq::queue::{
    applied::Answer,
    command::{Claim, Report},
    ids::JobId,
    job::{Needs, Spec},
    refusal::Refusal,
};

use super::{Model, job::Job, registry::fits};

const RAM_STEP_MB: u64 = 100;
const TIME_STEP_S: u64 = 1800;

/// Every run of a resource group that reported something, whole.
#[derive(Clone, Debug, Default)]
pub struct Runs {
    ram_mb: Vec<u64>,
    time_s: Vec<u64>,
}

impl Runs {
    fn ram_mb(&self) -> Option<u64> {
        recommended(&self.ram_mb, RAM_STEP_MB)
    }

    fn time_s(&self) -> Option<u64> {
        recommended(&self.time_s, TIME_STEP_S)
    }
}

/// The 95th percentile, rounded up to a step; the maximum while there are fewer than 20.
fn recommended(runs: &[u64], step: u64) -> Option<u64> {
    let mut sorted = runs.to_vec();
    sorted.sort_unstable();
    let rank = if runs.len() < 20 { runs.len() } else { (runs.len() * 95).div_ceil(100) };
    let amount = *sorted.get(rank.checked_sub(1)?)?;
    Some(amount.max(1).next_multiple_of(step))
}

impl Model {
    /// What counts when somebody asks whether the job fits: override 0 = learned if any, 1 = the larger, 2 = own only;
    /// and never less than what a failure raised.
    pub(super) fn needs(&self, job: &Job) -> Needs {
        let own = job.spec.needs.unwrap_or_default();
        let runs = job.spec.policy.resource_group.as_ref().and_then(|group| self.learned.get(group));
        let choose = |own: u64, learned: Option<u64>| match (job.spec.policy.needs_override, learned) {
            (0, Some(learned)) => learned,
            (1, Some(learned)) => learned.max(own),
            _ => own,
        };
        Needs {
            ram_mb: choose(own.ram_mb, runs.and_then(Runs::ram_mb)).max(job.raised.ram_mb),
            time_s: choose(own.time_s, runs.and_then(Runs::time_s)).max(job.raised.time_s),
            ..own
        }
    }

    /// From successes and resource failures that say something.
    pub(super) fn learn(&mut self, id: JobId, report: &Report) {
        if report.peak_ram_mb.is_none() && report.wall_ms.is_none() {
            return;
        }
        let Some(group) = self.jobs[&id].spec.policy.resource_group.clone() else { return };
        let runs = self.learned.entry(group).or_default();
        runs.ram_mb.extend(report.peak_ram_mb);
        runs.time_s.extend(report.wall_ms.map(|ms| ms.div_ceil(1000)));
    }

    /// A group is known from the first job that names it.
    pub(super) fn know_group(&mut self, spec: &Spec) {
        if let Some(group) = &spec.policy.resource_group {
            self.learned.entry(group.clone()).or_default();
        }
    }

    pub fn resource_groups(&self) -> impl Iterator<Item = &Arc<str>> {
        self.learned.keys()
    }

    pub(super) fn forget(&mut self, group: &str) -> Answer {
        match self.learned.remove(group) {
            Some(_) => Answer::Done,
            None => Answer::Refused(Refusal::NoResourceGroup { name: group.into() }),
        }
    }

    /// After `ram`: max(2 x peak up to 8192 MB, else 1.3 x peak; peak + 1000), rounded up to 100, never lower. After
    /// `time`: one hour more. Whoever does not say its peak is taken to have needed what it had asked for.
    pub(super) fn raise(&mut self, id: JobId, reason: &str, report: &Report) {
        let before = self.needs(&self.jobs[&id]);
        let raised = &mut self.jobs.get_mut(&id).expect("its lease was found").raised;
        match reason {
            "ram" => {
                let peak = report.peak_ram_mb.unwrap_or(before.ram_mb);
                let more = if peak <= 8192 { 2 * peak } else { (13 * peak).div_ceil(10) };
                raised.ram_mb = more.max(peak + 1000).next_multiple_of(RAM_STEP_MB).max(before.ram_mb);
            }
            "time" => raised.time_s = before.time_s + 3600,
            _ => {}
        }
    }

    pub(super) fn fits(&self, claim: &Claim, job: &Job) -> bool {
        fits(&self.needs(job), &claim.free.unwrap_or_default())
    }

    /// What one job takes, the next of the same claim can no longer have. Time is not used up by running side by side.
    pub(super) fn use_up(&self, claim: &mut Claim, id: JobId) {
        let needs = self.needs(&self.jobs[&id]);
        let Some(free) = &mut claim.free else { return };
        let less = |free: Option<u64>, need: u64| free.map(|free| free.saturating_sub(need));
        free.cores_milli = less(free.cores_milli, needs.cores_milli.into());
        free.ram_mb = less(free.ram_mb, needs.ram_mb);
        free.disk_mb = less(free.disk_mb, needs.disk_mb);
    }
}
