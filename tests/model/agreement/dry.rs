//! P12 to its end: whatever state a log left, an operator and a worker can finish every job in it.

use raftq::queue::{
    command::{
        CancelHow, Claim, Clocks, Command, Entry, LeaseAction, LeaseItem, Report, Request, SettingsChange, Wanted,
    },
    ids::{ClusterMs, JobId, WallMs},
    job::Status,
};

use super::Pair;

/// Ops per job times retries is far below this.
const ROUNDS_MAX: usize = 200;

impl Pair {
    /// Opens everything, and works until no live job is left.
    pub fn run_dry(&mut self) -> Result<(), String> {
        self.apply(&self.entry(self.opening()))?;
        for _ in 0..ROUNDS_MAX {
            if self.model.live().next().is_none() {
                return Ok(());
            }
            self.apply(&self.entry(vec![Command::Tick { hold_wall: false }]))?;
            self.apply(&self.entry(vec![Command::Kick { ids: self.ids(Status::Buried) }, claim_all()]))?;
            self.apply(&self.entry(vec![self.finish_all()]))?;
        }
        let left: Vec<_> = self.model.live().map(|job| (job.id, job.status())).collect();
        Err(format!("P12: these jobs never end: {left:?}"))
    }

    fn opening(&self) -> Vec<Command> {
        let unpause = self.model.paused.iter().map(|queue| {
            let queue = (!queue.is_empty()).then(|| queue.clone());
            Command::Pause { queue, paused: false }
        });
        let unlimit = self.model.limits.keys().map(|name| Command::Limit { name: name.clone(), max: None });
        let kill = Command::Cancel { ids: self.ids(Status::Canceling), how: CancelHow::Kill, reason: None };
        let policy = SettingsChange { bury_impossible: Some(false), ..SettingsChange::default() };
        unpause.chain(unlimit).chain([kill, Command::Settings(policy)]).collect()
    }

    fn finish_all(&self) -> Command {
        let item = |(job, lease)| LeaseItem {
            job,
            lease,
            action: LeaseAction::Success {
                result: None,
                jobs: Vec::new(),
                atomic_children: false,
                report: Box::<Report>::default(),
            },
        };
        let held = self.model.jobs.values().filter_map(|job| job.held().map(|(_, lease)| (job.id, lease.id)));
        Command::Leases { items: held.map(item).collect(), claim: None }
    }

    fn ids(&self, status: Status) -> Vec<JobId> {
        self.model.jobs.values().filter(|job| job.status() == status).map(|job| job.id).collect()
    }

    /// A day later.
    fn entry(&self, commands: Vec<Command>) -> Entry {
        const DAY: u64 = 86_400_000;
        let now = self.model.now;
        let clocks = Clocks { cluster: ClusterMs(now.cluster.0 + DAY), wall: WallMs(now.wall.0 + 400 * DAY) };
        let request = |command| Request { principal: "operator".into(), key: None, command };
        Entry { clocks, office: self.model.office, requests: commands.into_iter().map(request).collect() }
    }
}

fn claim_all() -> Command {
    let wanted = Wanted::Queues(["default", "slow", "q.$3"].map(Into::into).to_vec());
    Command::Claim(Claim { max: 1000, start: true, ..Claim::of("last", wanted) })
}
