//! What a batch will come to, before anything of it is done: members may wait for each other, and one that is refused
//! takes along whoever waits for it.

use std::{collections::BTreeSet, sync::Arc};

use raftq::queue::{ids::JobId, job::Spec, refusal::Refusal};

use super::{
    Model,
    dependencies::{Target, Targets, says},
    submit::check,
};

type Member = Result<Arc<Spec>, Refusal>;

/// What a member that is not refused becomes.
#[derive(Clone, Debug)]
pub enum Plan {
    New(Arc<Spec>, Targets),
    /// Its unique key is a live job's.
    Existing(Arc<Spec>, JobId),
    /// Its unique key is an earlier member's, which speaks for it.
    Twin(Arc<Spec>, usize),
}

impl Model {
    /// In order of precedence: what is wrong with the member itself, circles, the unique key, room, whom it waits for.
    pub(super) fn plan(&self, jobs: &[Member]) -> Vec<Result<Plan, Refusal>> {
        let mut links: Vec<Result<Targets, Refusal>> = (0..jobs.len()).map(|at| self.link(jobs, at)).collect();
        refuse_circles(&mut links);
        let mut plans: Vec<Result<Plan, Refusal>> = Vec::new();
        for (at, link) in links.into_iter().enumerate() {
            let plan = link.and_then(|targets| self.plan_one(jobs, at, targets, &plans));
            plans.push(plan);
        }
        refuse_hopeless(&mut plans);
        plans
    }

    fn link(&self, jobs: &[Member], at: usize) -> Result<Targets, Refusal> {
        let spec = jobs[at].as_ref().map_err(Refusal::clone)?;
        check(spec)?;
        self.check_environment(spec)?;
        let taken = |name: &str| jobs[..at].iter().flatten().any(|other| says(other, name));
        if spec.batch_name.as_deref().is_some_and(taken) {
            return Err(Refusal::invalid("as", ""));
        }
        self.targets(jobs, at)
    }

    fn plan_one(
        &self,
        jobs: &[Member],
        at: usize,
        targets: Targets,
        earlier: &[Result<Plan, Refusal>],
    ) -> Result<Plan, Refusal> {
        let spec = jobs[at].clone()?;
        if let Some(id) = self.holder_of(spec.unique.as_ref()) {
            return Ok(Plan::Existing(spec, id));
        }
        let has_key = |plan: &Result<Plan, Refusal>| match plan {
            Ok(Plan::New(other, _)) => spec.unique.is_some() && other.unique == spec.unique,
            Ok(Plan::Existing(..) | Plan::Twin(..)) | Err(_) => false,
        };
        if let Some(first) = earlier.iter().position(has_key) {
            return Ok(Plan::Twin(spec, first));
        }
        let new = earlier.iter().filter(|plan| matches!(plan, Ok(Plan::New(..)))).count() as u64;
        let limit = self.settings.live_jobs_max;
        if self.live().count() as u64 + new >= limit {
            return Err(Refusal::QueueFull { limit });
        }
        Ok(Plan::New(spec, targets))
    }
}

/// Members that wait for each other in a circle.
fn refuse_circles(links: &mut [Result<Targets, Refusal>]) {
    let edges: Vec<Vec<usize>> = links.iter().map(|link| link.as_ref().map_or(Vec::new(), members)).collect();
    for at in (0..links.len()).filter(|at| reaches(&edges, *at, *at)) {
        links[at] = Err(Refusal::invalid("depends", ""));
    }
}

/// Who waits, however indirectly, for a refused member or in a circle closed by a unique key.
fn refuse_hopeless(plans: &mut [Result<Plan, Refusal>]) {
    let edges: Vec<Vec<usize>> = plans.iter().map(waits_for).collect();
    let lost = |at: usize, plans: &[Result<Plan, Refusal>]| {
        plans
            .iter()
            .enumerate()
            .any(|(to, plan)| (to == at || reaches(&edges, at, to)) && (plan.is_err() || reaches(&edges, to, to)))
    };
    let hopeless: Vec<usize> = (0..plans.len()).filter(|at| plans[*at].is_ok() && lost(*at, plans)).collect();
    for at in hopeless {
        plans[at] = Err(Refusal::invalid("depends", ""));
    }
}

fn waits_for(plan: &Result<Plan, Refusal>) -> Vec<usize> {
    match plan {
        Ok(Plan::New(_, targets)) => members(targets),
        Ok(Plan::Twin(_, first)) => vec![*first],
        Ok(Plan::Existing(..)) | Err(_) => Vec::new(),
    }
}

fn members(targets: &Targets) -> Vec<usize> {
    let member = |target: &Target| match target {
        Target::Member(at) => Some(*at),
        Target::Job(_) => None,
    };
    targets.iter().flatten().filter_map(member).collect()
}

/// Whether there is a way of at least one step.
fn reaches(edges: &[Vec<usize>], from: usize, to: usize) -> bool {
    let (mut seen, mut next) = (BTreeSet::new(), edges[from].clone());
    while let Some(at) = next.pop() {
        if at == to {
            return true;
        }
        if seen.insert(at) {
            next.extend(&edges[at]);
        }
    }
    false
}
