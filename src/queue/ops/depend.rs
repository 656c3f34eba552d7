//! Which jobs a batch names: by id, by distance, by name; and whether they can be waited for (design 2.2).

use std::{collections::BTreeMap, sync::Arc};

use crate::queue::{
    ids::JobId,
    job::{JobRef, Spec, Status},
    ops::{environment, submit::Member},
    refusal::Refusal,
    step::Step,
};

/// What a dependency points at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    Job(JobId),
    /// A member of the same batch.
    Member(usize),
}

/// For each member its dependencies' targets, op by op in order; or why it cannot be taken.
pub type Links = Vec<Result<Vec<Target>, Refusal>>;

/// Looks up every dependency of a batch, and refuses what cannot be: unknown, out of range, itself, in a circle.
pub fn resolve(step: &Step, jobs: &[Member]) -> Links {
    let names = names(jobs);
    let mut links: Links = jobs
        .iter()
        .enumerate()
        .map(|(at, job)| {
            let spec = job.as_ref().map_err(Refusal::clone)?;
            spec.check()?;
            environment::check(step, spec)?;
            check_name(spec, at, &names)?;
            targets(step, spec, at, &names)
        })
        .collect();
    refuse_circles(jobs, &mut links);
    links
}

type Names<'a> = BTreeMap<&'a str, usize>;

/// The first member of each name.
fn names(jobs: &[Member]) -> Names<'_> {
    let mut names = Names::new();
    for (at, job) in jobs.iter().enumerate() {
        if let Some(name) = job.as_ref().ok().and_then(|spec| spec.batch_name.as_deref()) {
            names.entry(name).or_insert(at);
        }
    }
    names
}

fn check_name(spec: &Spec, at: usize, names: &Names) -> Result<(), Refusal> {
    match spec.batch_name.as_deref() {
        Some(name) if names.get(name) != Some(&at) => Err(Refusal::invalid("as", "another member has this name")),
        _ => Ok(()),
    }
}

fn targets(step: &Step, spec: &Spec, at: usize, names: &Names) -> Result<Vec<Target>, Refusal> {
    let mut targets = Vec::new();
    for (op, depends) in spec.ops.iter().enumerate() {
        for (position, depend) in depends.depends.iter().enumerate() {
            let target = target(step, &depend.on, at, names);
            let field = || format!("ops[{op}].depends[{position}]");
            targets.push(target.map_err(|message| Refusal::invalid(field(), message))?);
        }
    }
    Ok(targets)
}

fn target(step: &Step, on: &JobRef, at: usize, names: &Names) -> Result<Target, String> {
    match on {
        JobRef::Id(id) if step.find(*id).is_ok() => Ok(Target::Job(*id)),
        JobRef::Id(id) => Err(format!("there is no job {id}")),
        JobRef::Back(0) => Err("a job cannot wait for itself".to_owned()),
        JobRef::Back(distance) => match at.checked_sub(*distance as usize) {
            Some(member) => Ok(Target::Member(member)),
            None => Err(format!("-{distance} points before the first job of this batch")),
        },
        JobRef::Named(name) => match names.get(&**name) {
            Some(member) if *member == at => Err("a job cannot wait for itself".to_owned()),
            Some(member) => Ok(Target::Member(*member)),
            None => Err(format!("no job of this batch says \"as\": \"{name}\"")),
        },
    }
}

/// Members that no order can satisfy: each is refused with the circle that it stands in.
///
/// Whoever only leads into a circle is refused by the planner, for the member it waits for.
pub fn refuse_circles(jobs: &[Member], links: &mut Links) {
    if links.iter().all(|link| members(link).next().is_none()) {
        return;
    }
    loop {
        let circles = circles(links, &unordered(links));
        if circles.is_empty() {
            return;
        }
        for circle in circles {
            let closed = circle.iter().chain(circle.first());
            let text = closed.map(|at| label(jobs, *at)).collect::<Vec<_>>().join(" waits for ");
            for at in circle {
                links[at] = Err(Refusal::invalid("depends", format!("these wait for each other: {text}")));
            }
        }
    }
}

/// Members left over when those that wait for nobody of the rest are taken away, again and again.
fn unordered(links: &Links) -> Vec<bool> {
    let mut waiting: Vec<usize> = vec![0; links.len()];
    let mut waiters: Vec<Vec<usize>> = vec![Vec::new(); links.len()];
    for (at, members) in links.iter().enumerate().map(|(at, link)| (at, members(link))) {
        for member in members {
            waiting[at] += 1;
            waiters[member].push(at);
        }
    }
    let mut done: Vec<usize> = (0..links.len()).filter(|at| waiting[*at] == 0).collect();
    while let Some(at) = done.pop() {
        for waiter in &waiters[at] {
            waiting[*waiter] -= 1;
            if waiting[*waiter] == 0 {
                done.push(*waiter);
            }
        }
    }
    waiting.into_iter().map(|left| left > 0).collect()
}

fn members(link: &Result<Vec<Target>, Refusal>) -> impl Iterator<Item = usize> {
    link.iter().flatten().filter_map(|target| match target {
        Target::Member(member) => Some(*member),
        Target::Job(_) => None,
    })
}

/// From each open member, follows the first open target until one comes again: in this walk, a circle.
fn circles(links: &Links, open: &[bool]) -> Vec<Vec<usize>> {
    const NEVER: usize = usize::MAX;
    let mut walked_by = vec![NEVER; links.len()];
    let mut circles = Vec::new();
    for start in (0..links.len()).filter(|at| open[*at]) {
        let mut path = Vec::new();
        let mut at = start;
        while walked_by[at] == NEVER {
            walked_by[at] = start;
            path.push(at);
            at = members(&links[at]).find(|member| open[*member]).expect("an open member waits for an open one");
        }
        if walked_by[at] == start {
            let from = path.iter().position(|step| *step == at).expect("this walk came by here");
            circles.push(path.split_off(from));
        }
    }
    circles
}

fn label(jobs: &[Member], at: usize) -> String {
    match jobs[at].as_ref().ok().and_then(|spec| spec.batch_name.as_deref()) {
        Some(name) => format!("@{name}"),
        None => format!("job {} of the batch", at + 1),
    }
}

/// The spec with every dependency as an absolute id.
pub fn with_ids(mut spec: Arc<Spec>, ids: &[JobId]) -> Arc<Spec> {
    if ids.is_empty() {
        return spec;
    }
    let depends = Arc::make_mut(&mut spec).ops.iter_mut().flat_map(|op| &mut op.depends);
    for (depend, id) in depends.zip(ids) {
        depend.on = JobRef::Id(*id);
    }
    spec
}

/// How the job ended, if it has. A member that is yet to be created has not.
pub fn outcome(step: &Step, on: JobId) -> Option<Status> {
    match step.live(on) {
        Some(_) => None,
        None => step.ended(on).map(|job| job.status()),
    }
}
