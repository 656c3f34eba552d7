//! The promises of `design.md` section 1, checked without the model: only from what was asked, what was answered, and the
//! rows before and after.

use std::collections::{BTreeMap, BTreeSet};

use raftq::queue::{
    applied::{Answer, Applied, NextDeadline},
    command::{Claim, Command, Entry, Key, LeaseAction, Request},
    ids::{ClusterMs, JobId, LeaseId, WallMs},
    job::{Hold, Job, Lease, Office, OpStatus, Status},
    refusal::Refusal,
    rows::{Row, RowKey},
    settings::Pool,
};

use crate::store::{Place, Store};

const KEY_UNUSED_MS: u64 = 15 * 60 * 1000;
const KEY_WINDOW: u64 = 1024;

/// What has been promised so far.
#[derive(Default)]
pub struct Promises {
    last_job: JobId,
    last_lease: LeaseId,
    /// Jobs whose cancel was acknowledged as `canceled`.
    canceled: BTreeSet<JobId>,
    drained: Option<bool>,
    answers: BTreeMap<(String, String), Kept>,
    grants: BTreeMap<LeaseId, Grant>,
    holds: BTreeMap<JobId, Hold>,
    pool: Pool,
}

#[derive(Default)]
struct Kept {
    used: ClusterMs,
    highest: u64,
    answers: BTreeMap<u64, (u128, Answer)>,
    /// The name may have been dropped after numbers up to this.
    unsure_to: Option<u64>,
}

/// Until when somebody was told that he has the lease.
struct Grant {
    job: JobId,
    /// `None`: a pool in its own office.
    until: Option<ClusterMs>,
    office: Option<Office>,
}

/// Whether a request was new, as far as its key tells.
#[derive(PartialEq)]
enum Novelty {
    New,
    /// Nothing was done: it was a repeat, or it had no key that can be.
    Repeat,
    Unknown,
}

type Verdict = Result<(), String>;

/// What promises nothing of its own is left out: a piece is its verb, and so is what is done under a condition.
fn unwrapped(entry: &Entry, applied: &Applied) -> (Entry, Vec<Answer>) {
    let mut entry = entry.clone();
    for request in &mut entry.requests {
        if let Command::Piece { command, .. } | Command::IfVersion { command, .. } = &request.command {
            request.command = Command::clone(command);
        }
    }
    let answers = applied.answers.iter().map(|answer| match answer {
        Answer::Piece { results, .. } => Answer::Jobs(results.clone()),
        other => other.clone(),
    });
    (entry, answers.collect())
}

impl Promises {
    /// Looks at one applied entry and the rows it left.
    pub fn see(&mut self, entry: &Entry, applied: &Applied, next: NextDeadline, store: &Store) -> Verdict {
        let (entry, answers) = &unwrapped(entry, applied);
        self.new_office(entry);
        for (request, answer) in entry.requests.iter().zip(answers) {
            match self.p7_repeats(entry, request, answer)? {
                Novelty::New => self.request(entry, &request.command, answer)?,
                Novelty::Repeat => {}
                Novelty::Unknown => self.lose_track(&request.command),
            }
        }
        let live: Vec<_> = store.jobs().filter(|(place, _)| *place == Place::Live).map(|(_, job)| job).collect();
        let live: BTreeMap<JobId, &Job> = live.iter().map(|job| (job.id, &**job)).collect();
        self.p3_one_lease_per_op(&live)?;
        self.p4_canceled_never_starts(entry, store)?;
        self.p10_leases_last(entry, &live)?;
        self.p10_delays_last(entry, &live)?;
        p12_nothing_is_forgotten(entry, next, &live)?;
        self.holds = live.into_iter().map(|(id, job)| (id, job.hold.clone())).collect();
        if let Some(Row::Pool(pool)) = store.rows.get(&RowKey::Pool) {
            self.pool = pool.clone();
        }
        Ok(())
    }

    /// A new timeline has begun: nobody holds anything, and what was given stays given.
    pub fn restored(&mut self) {
        self.grants.clear();
    }

    /// The old pool's leases may end this long after a new one's first entry, and not before.
    fn new_office(&mut self, entry: &Entry) {
        for grant in self.grants.values_mut().filter(|grant| grant.until.is_none()) {
            let same = |by: Office| (by.node, by.incarnation) == (entry.office.node, entry.office.incarnation);
            if !grant.office.is_some_and(same) {
                grant.until = Some(entry.clocks.cluster.after(self.pool.timeout_ms));
            }
        }
    }

    fn request(&mut self, entry: &Entry, command: &Command, answer: &Answer) -> Verdict {
        match (command, answer) {
            (Command::Submit { .. }, Answer::Submitted(all)) => {
                self.p5_drained_means_closed()?;
                let new = all.iter().flatten().filter(|submitted| !submitted.existed);
                new.map(|submitted| submitted.id).try_for_each(|id| self.p2_ids_rise(id))
            }
            (Command::Claim(claim), Answer::Claimed(_)) => self.claimed(entry, claim, answer),
            (Command::Leases { items, claim }, Answer::Leases { results, .. }) => {
                for (item, result) in items.iter().zip(results) {
                    let Ok(state) = result else { continue };
                    match item.action {
                        LeaseAction::Touch { .. } => self.touched(entry, item.lease, state.lease_ms),
                        LeaseAction::Start { .. } => {}
                        LeaseAction::Success { .. }
                        | LeaseAction::Failure { .. }
                        | LeaseAction::Release { .. }
                        | LeaseAction::Bury { .. } => drop(self.grants.remove(&item.lease)),
                    }
                }
                claim.as_ref().map_or(Ok(()), |claim| self.claimed(entry, claim, answer))
            }
            (Command::Cancel { .. }, Answer::Jobs(all)) => {
                let canceled = all.iter().flatten().filter(|job| job.status == Status::Canceled);
                self.canceled.extend(canceled.map(|job| job.id));
                Ok(())
            }
            (Command::Drain { drained, .. }, Answer::Drain(_)) => {
                self.drained = Some(*drained);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Whether this took effect cannot be told from outside.
    fn lose_track(&mut self, command: &Command) {
        self.drained = None;
        if let Command::Leases { items, .. } = command {
            self.grants.retain(|lease, _| items.iter().all(|item| item.lease != *lease));
        }
    }

    fn p2_ids_rise(&mut self, id: JobId) -> Verdict {
        let before = std::mem::replace(&mut self.last_job, id);
        if id <= before { Err(format!("P2: job {id} was given out after {before}")) } else { Ok(()) }
    }

    fn p5_drained_means_closed(&self) -> Verdict {
        if self.drained == Some(true) { Err("P5: a submission was accepted while drained".into()) } else { Ok(()) }
    }

    fn claimed(&mut self, entry: &Entry, claim: &Claim, answer: &Answer) -> Verdict {
        let (Answer::Claimed(claimed) | Answer::Leases { claimed, .. }) = answer else { return Ok(()) };
        for grant in claimed.iter().flatten() {
            if grant.lease <= self.last_lease {
                return Err(format!("P3: lease {} was granted after {}", grant.lease, self.last_lease));
            }
            self.last_lease = grant.lease;
            let until = (!claim.pool).then(|| entry.clocks.cluster.after(grant.lease_ms));
            let office = claim.pool.then_some(entry.office);
            self.grants.insert(grant.lease, Grant { job: grant.job, until, office });
        }
        Ok(())
    }

    fn touched(&mut self, entry: &Entry, lease: LeaseId, lease_ms: u64) {
        if let Some(grant) = self.grants.get_mut(&lease).filter(|grant| grant.office.is_none()) {
            grant.until = Some(entry.clocks.cluster.after(lease_ms));
        }
    }

    /// Within the window the first answer comes again; a name's answers are kept until it is unused for 15 minutes.
    fn p7_repeats(&mut self, entry: &Entry, request: &Request, answer: &Answer) -> Result<Novelty, String> {
        let Some(Key { name, number, digest }) = &request.key else { return Ok(Novelty::New) };
        if matches!(answer, Answer::Refused(Refusal::Invalid { field, .. }) if &**field == "idempotency-key") {
            return Ok(Novelty::Repeat);
        }
        let now = entry.clocks.cluster;
        let kept = self.answers.entry((request.principal.to_string(), name.to_string())).or_default();
        let fresh = now.0 < kept.used.0 + KEY_UNUSED_MS;
        if !fresh && !std::mem::take(&mut kept.answers).is_empty() {
            kept.unsure_to = Some(kept.highest);
        }
        if kept.unsure_to.is_some_and(|to| *number <= to) {
            return Ok(Novelty::Unknown);
        }
        let refused = kept.answers.get(number).is_some_and(|(first, _)| first != digest);
        if refused || *number + KEY_WINDOW <= kept.highest {
            return Ok(Novelty::Repeat);
        }
        // A claim that found nothing has done nothing, and may be asked again under its key.
        if !kept.answers.contains_key(number) && matches!(answer, Answer::Claimed(claimed) if claimed.is_empty()) {
            return Ok(Novelty::New);
        }
        kept.used = now;
        match kept.answers.get(number) {
            Some((_, first)) if first == answer => Ok(Novelty::Repeat),
            Some((_, first)) => Err(format!("P7: {name}/{number} was answered {first:?} and then {answer:?}")),
            None => {
                kept.highest = kept.highest.max(*number);
                kept.answers.insert(*number, (*digest, answer.clone()));
                Ok(Novelty::New)
            }
        }
    }

    fn p3_one_lease_per_op(&self, live: &BTreeMap<JobId, &Job>) -> Verdict {
        let mut seen = BTreeSet::new();
        for job in live.values() {
            let leases: Vec<LeaseId> = leases(job).map(|lease| lease.id).collect();
            if leases.len() > 1 {
                return Err(format!("P3: job {} has several leases: {leases:?}", job.id));
            }
            if let Some(twice) = leases.iter().find(|lease| !seen.insert(**lease)) {
                return Err(format!("P3: lease {twice} is on two jobs"));
            }
        }
        Ok(())
    }

    /// Unless an operator kicks it, which takes the cancel back.
    fn p4_canceled_never_starts(&mut self, entry: &Entry, store: &Store) -> Verdict {
        let kicked = named(entry, |command| if let Command::Kick { ids } = command { Some(ids) } else { None });
        self.canceled.retain(|id| !kicked.contains(id));
        match store.jobs().find(|(_, job)| self.canceled.contains(&job.id) && job.status() != Status::Canceled) {
            Some((_, job)) => Err(format!("P4: job {} was canceled and is {}", job.id, job.status().name())),
            None => Ok(()),
        }
    }

    /// A lease ends by its holder's call, by a cancel, or when its time is over.
    fn p10_leases_last(&mut self, entry: &Entry, live: &BTreeMap<JobId, &Job>) -> Verdict {
        let canceled = named(entry, |command| if let Command::Cancel { ids, .. } = command { Some(ids) } else { None });
        let now = entry.clocks.cluster;
        let held = |id: LeaseId, job: JobId| live.get(&job).is_some_and(|job| leases(job).any(|lease| lease.id == id));
        let ended: Vec<LeaseId> =
            self.grants.iter().filter(|(id, grant)| !held(**id, grant.job)).map(|(id, _)| *id).collect();
        for id in ended {
            let grant = self.grants.remove(&id).expect("it was listed a moment ago");
            let over = grant.until.is_some_and(|until| until <= now);
            if !over && !canceled.contains(&grant.job) {
                return Err(format!(
                    "P10: lease {id} of job {} ended at {now}, granted until {:?}",
                    grant.job, grant.until
                ));
            }
        }
        Ok(())
    }

    /// A delay ends when its time has come, or by a kick.
    fn p10_delays_last(&self, entry: &Entry, live: &BTreeMap<JobId, &Job>) -> Verdict {
        let kicked = named(entry, |command| if let Command::Kick { ids } = command { Some(ids) } else { None });
        for (id, hold) in &self.holds {
            let due = match hold {
                Hold::Delayed(until) => *until <= entry.clocks.cluster,
                Hold::RunAt(at) => *at <= entry.clocks.wall,
                Hold::None | Hold::Blocked | Hold::Buried => true,
            };
            let runs = |job: &&Job| matches!(job.status(), Status::Queued | Status::Reserved | Status::Running);
            if !due && !kicked.contains(id) && live.get(id).is_some_and(runs) {
                return Err(format!("P10: job {id} left {hold:?} at {:?}", entry.clocks));
            }
        }
        Ok(())
    }
}

/// Every live job is claimable, held by somebody whose lease can end, or held back by what can be seen; and the state
/// itself asks to be called when the first of these ends.
fn p12_nothing_is_forgotten(entry: &Entry, next: NextDeadline, live: &BTreeMap<JobId, &Job>) -> Verdict {
    let mut first: (Option<ClusterMs>, Option<WallMs>) = (None, None);
    for job in live.values() {
        if job.status().is_final() {
            return Err(format!("P12: job {} is {} among the live", job.id, job.status().name()));
        }
        for lease in leases(job) {
            let own =
                |office: Office| (office.node, office.incarnation) == (entry.office.node, entry.office.incarnation);
            if lease.deadline.is_none() && !lease.holder.office.is_some_and(own) {
                return Err(format!("P12: lease {} of job {} would never end", lease.id, job.id));
            }
            first.0 = earlier(first.0, lease.deadline);
        }
        match &job.hold {
            Hold::Delayed(until) => first.0 = earlier(first.0, Some(*until)),
            Hold::RunAt(at) => first.1 = earlier(first.1, Some(*at)),
            Hold::None | Hold::Blocked | Hold::Buried => {}
        }
    }
    let asks = |mine: Option<u64>, theirs: Option<u64>| mine.is_none_or(|mine| theirs.is_some_and(|at| at <= mine));
    // To be called at once is soon enough for everything.
    if next.cluster == Some(ClusterMs(0)) {
        return Ok(());
    }
    if !asks(first.0.map(|at| at.0), next.cluster.map(|at| at.0))
        || !asks(first.1.map(|at| at.0), next.wall.map(|at| at.0))
    {
        return Err(format!("P12: the first deadline is {first:?}, and the state asks for {next:?}"));
    }
    Ok(())
}

fn earlier<T: Ord>(one: Option<T>, other: Option<T>) -> Option<T> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

fn leases(job: &Job) -> impl Iterator<Item = &Lease> {
    job.ops.iter().filter_map(|op| match &op.status {
        OpStatus::Reserved(lease) | OpStatus::Running(lease) | OpStatus::Canceling(lease, _) => Some(&**lease),
        OpStatus::Queued | OpStatus::Success | OpStatus::Error | OpStatus::Canceled => None,
    })
}

/// All jobs that commands of one sort in this entry name.
fn named<'a>(entry: &'a Entry, ids: impl Fn(&'a Command) -> Option<&'a Vec<JobId>>) -> BTreeSet<JobId> {
    entry.requests.iter().filter_map(|request| ids(&request.command)).flatten().copied().collect()
}
