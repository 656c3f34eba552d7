//! Dependencies: who waits for whom, and what is known so far (design 2.2).
//!
//! An outcome is latched with the job that waits when it happens, so nothing that becomes of the other job later changes
//! it. A job that ends wakes exactly its dependents; one that a wake ends wakes its own in turn, from a work list and not
//! by recursion. An entry wakes a bounded number; who is left over hears with the next tick, and the work list is rows, so
//! neither a restart nor the deletion of the ended job loses them.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    attempt,
    ids::JobId,
    job::{Dep, Hold, Job, Status},
    rows::{Changes, Row, RowKey, Rows},
    step::{Step, Writer},
};

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Waits {
    /// Of live jobs that have any.
    deps: BTreeMap<JobId, Box<[Dep]>>,
    /// (job that is waited for, job that waits), where the outcome is still open.
    dependents: BTreeSet<(JobId, JobId)>,
    /// Jobs that have ended, while not all dependents have heard.
    waking: BTreeMap<JobId, Status>,
}

/// What an op's dependencies say.
enum Verdict<'a> {
    Met,
    Open,
    /// This one ended in a way that the op does not accept.
    Failed(&'a Dep),
}

impl Waits {
    pub fn load(rows: &dyn Rows, live: &BTreeMap<JobId, Box<Job>>) -> Self {
        let mut waits = Waits::default();
        for (id, _) in live.iter().filter(|(_, job)| job.more().waits) {
            let Some(Row::Waits(deps)) = rows.get(&RowKey::Waits(*id)) else {
                panic!("job {id} lost its dependencies")
            };
            waits.add(*id, deps);
        }
        rows.scan(&RowKey::Waking(JobId(0)), &mut |key, row| {
            let (RowKey::Waking(id), Row::Status(status)) = (key, row) else {
                panic!("a waking job's row holds its end")
            };
            waits.waking.insert(id, status);
            true
        });
        waits
    }

    /// A job with these dependencies is live.
    pub fn add(&mut self, id: JobId, deps: Box<[Dep]>) {
        let open = deps.iter().filter(|dep| dep.outcome.is_none());
        self.dependents.extend(open.map(|dep| (dep.on, id)));
        self.deps.insert(id, deps);
    }

    /// A job is no longer live: it waits for nobody.
    pub fn forget(&mut self, id: JobId) -> Option<Box<[Dep]>> {
        let deps = self.deps.remove(&id)?;
        for dep in &deps {
            self.dependents.remove(&(dep.on, id));
        }
        Some(deps)
    }

    /// A job has ended: its dependents are to hear.
    pub fn ended(&mut self, changes: &mut Changes, id: JobId, status: Status) {
        if self.dependents_of(id).next().is_some() {
            self.waking.insert(id, status);
            changes.put(RowKey::Waking(id), Row::Status(status));
        }
    }

    /// Jobs that wait for this one.
    pub fn dependents_of(&self, id: JobId) -> impl Iterator<Item = JobId> {
        self.dependents.range((id, JobId(0))..=(id, JobId(u64::MAX))).map(|(_, dependent)| *dependent)
    }

    pub fn of(&self, id: JobId) -> &[Dep] {
        self.deps.get(&id).map_or(&[], |deps| deps)
    }

    pub fn is_waking(&self, id: JobId) -> bool {
        self.waking.contains_key(&id)
    }

    /// Whether both know the same dependencies.
    pub fn same_index(&self, other: &Self) -> bool {
        (&self.deps, &self.dependents) == (&other.deps, &other.dependents)
    }

    /// Whether dependents are left over for the next tick.
    pub fn has_work(&self) -> bool {
        !self.waking.is_empty()
    }

    /// Tells one dependent of the first job on the work list.
    fn latch_next(&mut self, changes: &mut Changes) -> Option<JobId> {
        loop {
            let (id, status) = self.waking.first_key_value().map(|(id, status)| (*id, *status))?;
            let Some(dependent) = self.dependents_of(id).next() else {
                self.waking.remove(&id);
                changes.delete(RowKey::Waking(id));
                continue;
            };
            self.dependents.remove(&(id, dependent));
            let deps = self.deps.get_mut(&dependent).expect("who waits has dependencies");
            // What was latched stands: after a kick, one op may have an outcome of the same job that another awaits anew.
            for dep in deps.iter_mut().filter(|dep| dep.on == id && dep.is_open()) {
                dep.outcome = Some(status);
            }
            changes.put(RowKey::Waits(dependent), Row::Waits(deps.clone()));
            return Some(dependent);
        }
    }
}

/// Tells dependents of jobs that have ended, as many as the entry may.
pub fn wake(step: &mut Step) {
    while step.wakes_left > 0 {
        let state = &mut *step.state;
        let Some(dependent) = state.waits.latch_next(&mut state.changes) else { return };
        step.wakes_left -= 1;
        let job = step.live(dependent).expect("who waits is live");
        let decided = !matches!(verdict(step.state.waits.of(dependent), job.current()), Verdict::Open);
        if decided && job.status() == Status::Blocked {
            step.change(dependent, |_, _| ());
        }
    }
}

/// Looks at the dependencies of an op that is next to run: every change of a job ends with this.
pub fn settle(job: &mut Job, deps: &[Dep], writer: &mut Writer) {
    if !matches!(job.status(), Status::Queued | Status::Blocked) {
        return;
    }
    match verdict(deps, job.current()) {
        Verdict::Met => job.hold = Hold::None,
        Verdict::Open => job.hold = Hold::Blocked,
        Verdict::Failed(dep) => fail(job, dep, writer),
    }
}

fn fail(job: &mut Job, dep: &Dep, writer: &mut Writer) {
    let outcome = dep.outcome.expect("what failed has an outcome");
    let text = format!("job {} ended as {}, required was {}", dep.on, outcome.name(), dep.required());
    if outcome == Status::Canceled {
        attempt::append_reason(job, writer, "dependency", &text);
        job.cancel_rest(writer.clocks.wall);
        return;
    }
    let current = job.current();
    attempt::record_unrun(job, writer, current, "dependency", Some(&text));
    attempt::fail(job, writer);
}

/// The first failed one decides, else the first open one.
fn verdict(deps: &[Dep], op: usize) -> Verdict<'_> {
    let mut verdict = Verdict::Met;
    for dep in deps.iter().filter(|dep| dep.op as usize == op) {
        match dep.outcome {
            None => verdict = Verdict::Open,
            Some(outcome) if !dep.accepts(outcome) => return Verdict::Failed(dep),
            Some(_) => {}
        }
    }
    verdict
}

impl Dep {
    /// Nothing said means success or error.
    pub fn accepts(&self, outcome: Status) -> bool {
        let accept = self.accept;
        match outcome {
            Status::Success => accept.success || accept.is_empty(),
            Status::Error => accept.error || accept.is_empty(),
            Status::Canceled => accept.canceled,
            Status::Queued
            | Status::Delayed
            | Status::Blocked
            | Status::Buried
            | Status::Reserved
            | Status::Running
            | Status::Canceling => panic!("an outcome is final"),
        }
    }

    fn required(&self) -> String {
        let named =
            [Status::Success, Status::Error, Status::Canceled].into_iter().filter(|status| self.accepts(*status));
        named.map(Status::name).collect::<Vec<_>>().join(" or ")
    }

    /// Whether this still keeps its op from running.
    pub fn is_open(&self) -> bool {
        self.outcome.is_none()
    }
}
