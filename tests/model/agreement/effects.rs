//! What an entry tells those who wait: a story that leads from how jobs stood to how they stand, and nothing left out.

use std::collections::{BTreeMap, BTreeSet};

use raftq::queue::{
    applied::{Effect, ScheduleNews},
    ids::{JobId, LeaseId},
    job::{CancelSignal, Needs, Status},
};

use super::compare::same;
use crate::reference::{Model, Told};

/// The effects of one entry, sorted by what they say.
struct Heard<'a> {
    /// How each job stands, as far as the story has come.
    stands: BTreeMap<JobId, Status>,
    posted: Vec<JobId>,
    news: BTreeSet<JobId>,
    stops: Vec<(JobId, LeaseId, CancelSignal)>,
    leases_ended: BTreeSet<(JobId, LeaseId)>,
    removed: BTreeSet<JobId>,
    schedules: Vec<(std::sync::Arc<str>, ScheduleNews)>,
    settings: bool,
    ready: BTreeSet<&'a str>,
}

pub fn same_effects(model: &Model, effects: &[Effect]) -> Result<(), String> {
    let told = &model.told;
    let heard = hear(told, effects)?;
    let stand = model.jobs.values().map(|job| (job.id, job.status())).collect();
    same("how jobs stand at the end of the story", &stand, &heard.stands)?;
    let posted: Vec<JobId> = (told.last_job.0 + 1..=model.last_job.0).map(JobId).collect();
    same("posted", &posted, &heard.posted)?;
    same("jobs of which there is news", &told.news, &heard.news)?;
    same("who is asked to stop", &told.stops, &heard.stops)?;
    same("leases that ended", &told.leases_ended, &heard.leases_ended)?;
    same("removed", &told.removed, &heard.removed)?;
    same("news of schedules", &told.schedules, &heard.schedules)?;
    same("whether settings changed", &told.settings, &heard.settings)?;
    nobody_sleeps_on(model, &heard.ready)
}

fn hear<'a>(told: &Told, effects: &'a [Effect]) -> Result<Heard<'a>, String> {
    let mut heard = Heard {
        stands: told.statuses.clone(),
        posted: Vec::new(),
        news: BTreeSet::new(),
        stops: Vec::new(),
        leases_ended: BTreeSet::new(),
        removed: BTreeSet::new(),
        schedules: Vec::new(),
        settings: false,
        ready: BTreeSet::new(),
    };
    for effect in effects {
        heard.take(effect)?;
    }
    Ok(heard)
}

impl<'a> Heard<'a> {
    fn take(&mut self, effect: &'a Effect) -> Result<(), String> {
        match effect {
            Effect::Posted { job } => {
                self.posted.push(*job);
                self.stands.insert(*job, Status::Queued);
            }
            Effect::Changed { job, was, status } => {
                let before = self.stands.insert(*job, *status);
                same(&format!("how job {job} stood before it changed"), &before, &Some(*was))?;
                self.news.insert(*job);
            }
            Effect::Removed { job } => {
                self.stands.remove(job).ok_or_else(|| format!("job {job} was removed and was not there"))?;
                self.removed.insert(*job);
            }
            Effect::Stop { job, lease, signal } => self.stops.push((*job, *lease, *signal)),
            Effect::LeaseEnded { job, lease } => drop(self.leases_ended.insert((*job, *lease))),
            Effect::Schedule { name, news } => self.schedules.push((name.clone(), news.clone())),
            Effect::SettingsChanged => self.settings = true,
            Effect::Ready { queue } => drop(self.ready.insert(queue)),
        }
        Ok(())
    }
}

/// Whoever waits for work of a queue hears of each job that he could not claim before. To hear more often does no harm.
fn nobody_sleeps_on(model: &Model, ready: &BTreeSet<&str>) -> Result<(), String> {
    let before = &model.told.claimable;
    let claimable = model.claimable();
    let is_news = |id, needs| before.get(id).is_none_or(|before| asks_less(before, needs));
    for (id, _) in claimable.iter().filter(|(id, needs)| is_news(id, needs)) {
        let queue = &*model.jobs[id].spec.queue;
        same(&format!("whether claims of {queue} hear of job {id}"), &true, &ready.contains(queue))?;
    }
    Ok(())
}

/// Of anything.
fn asks_less(before: &Needs, now: &Needs) -> bool {
    now.cores_milli < before.cores_milli
        || now.ram_mb < before.ram_mb
        || now.disk_mb < before.disk_mb
        || now.time_s < before.time_s
}
