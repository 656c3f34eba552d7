//! Short logs written by hand, which both follow.

use std::sync::Arc;

use raftq::queue::{
    applied::Answer,
    command::{CancelHow, Claim, Clocks, Command, Entry, LeaseAction, LeaseItem, Report, Request, Wanted},
    ids::{ClusterMs, JobId, LeaseId, WallMs},
    job::{Depends, FinalStatuses, JobRef, Json, Office, OpSpec, Payload, Spec, Status},
};

use crate::agreement::Pair;

/// One log that both follow; every step is compared.
pub struct Log {
    pub pair: Pair,
    pub cluster_ms: u64,
    pub office: Office,
}

impl Log {
    pub fn new() -> Self {
        Self { pair: Pair::new(), cluster_ms: 1_000, office: Office { term: 1, node: 1, incarnation: 1 } }
    }

    pub fn entry(&mut self, requests: Vec<Request>) -> Vec<Answer> {
        let wall = WallMs(1_700_000_000_000 + self.cluster_ms);
        let clocks = Clocks { cluster: ClusterMs(self.cluster_ms), wall };
        let entry = Entry { clocks, office: self.office, requests };
        self.pair.apply(&entry).unwrap_or_else(|what| panic!("{what}")).answers
    }

    pub fn run(&mut self, command: Command) -> Answer {
        self.entry(vec![request(command)]).remove(0)
    }

    pub fn restart(&mut self) {
        self.pair.restart().unwrap_or_else(|what| panic!("{what}"));
    }

    pub fn submit(&mut self, jobs: Vec<Spec>) -> Answer {
        self.run(Command::Submit { jobs: jobs.into_iter().map(|spec| Ok(Arc::new(spec))).collect(), atomic: false })
    }

    pub fn call(&mut self, job: u64, lease: u64, action: LeaseAction) -> Answer {
        let item = LeaseItem { job: JobId(job), lease: LeaseId(lease), action };
        self.run(Command::Leases { items: vec![item], claim: None })
    }

    pub fn status(&self, job: u64) -> Status {
        self.pair.model.jobs[&JobId(job)].status()
    }
}

pub fn request(command: Command) -> Request {
    Request { principal: "alice".into(), key: None, command }
}

pub fn spec() -> Spec {
    Spec::of_ops(vec![OpSpec::new("exec", Payload::Args(Json("{}".into())))])
}

pub fn after(on: JobRef) -> Spec {
    let mut spec = spec();
    spec.ops[0].depends = vec![Depends { on, accept: FinalStatuses::default() }];
    spec
}

pub fn claim(start: bool) -> Claim {
    Claim { max: 10, start, ..Claim::of("w", Wanted::Queues(vec!["default".into()])) }
}

pub fn success(peak_ram_mb: Option<u64>) -> LeaseAction {
    let report = Box::new(Report { peak_ram_mb, ..Report::default() });
    LeaseAction::Success { result: None, jobs: Vec::new(), atomic_children: false, report }
}

pub fn cancel(job: u64, how: CancelHow) -> Command {
    Command::Cancel { ids: vec![JobId(job)], how, reason: None }
}
