//! Requests that wait beside the load: claims for which no job comes, and waits for jobs that do not end.
//!
//! Each has a connection of its own to the node that led when the run began, and asks again when its time is up. They are
//! all waiting before the load begins, which is checked by what the node itself counts.

use std::time::Duration;

use clap::Args;
use tokio::{task::JoinSet, time::Instant};

use super::{
    super::{context::Context, failure::Failure},
    driver::Target,
    stage::Stage,
};
use crate::{
    client::{Lane, LaneRequest, Method},
    descriptors,
};

#[derive(Clone, Debug, Default, Args)]
pub struct CrowdArgs {
    /// Claims that wait beside the load, for jobs that never come
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub waiting_claims: u64,
    /// Requests that wait beside the load, for jobs that do not end
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub waiting_jobs: u64,
}

/// The waiting requests; they end with this.
pub struct Crowd {
    waiting: JoinSet<std::io::Result<()>>,
}

/// As long as a node lets a request wait.
const WAIT_MS: u64 = 60_000;
/// No job is newer than this.
const NEWEST_VERSION: u64 = (1 << 53) - 1;
/// How long the last of them may take until it waits.
const GATHER_TIMEOUT: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(50);
/// Descriptors for all else that this process does.
const DESCRIPTORS_SPARE: u64 = 256;

/// What one of them asks.
struct Question {
    method: Method,
    path: String,
    body: Vec<u8>,
}

impl Crowd {
    /// Returns when all of them wait.
    pub async fn gather(context: &Context, target: &Target, args: &CrowdArgs, stage: &Stage) -> Result<Self, Failure> {
        let allowed = descriptors::raise_limit();
        if args.count() > allowed.saturating_sub(DESCRIPTORS_SPARE) {
            let problem = format!("{} connections are too many for {allowed} open files (`ulimit -n`)", args.count());
            return Err(Failure::usage(problem));
        }
        let leader = target.leader();
        let mut crowd = Self { waiting: JoinSet::new() };
        for question in questions(context, args, stage).await? {
            // One after the other: the kernel's queue of new connections is short.
            let lane = Lane::connect(&leader).await?;
            crowd.waiting.spawn(ask_again_and_again(lane, question));
        }
        crowd.until_all_wait(&leader, args.count()).await?;
        Ok(crowd)
    }

    async fn until_all_wait(&mut self, leader: &str, count: u64) -> Result<(), Failure> {
        let give_up = Instant::now() + GATHER_TIMEOUT;
        while count > 0 && waiting_at(leader).await? < count {
            self.check()?;
            if Instant::now() >= give_up {
                return Err(Failure::TimedOut(format!("{count} requests should wait, and do not after a minute")));
            }
            tokio::time::sleep(POLL).await;
        }
        Ok(())
    }

    /// A run beside a crowd that has dispersed proves nothing.
    pub fn check(&mut self) -> Result<(), Failure> {
        match self.waiting.try_join_next() {
            None => Ok(()),
            Some(ended) => {
                let why = ended.map_or_else(|panic| panic.to_string(), |ended| format!("{:?}", ended.err()));
                Err(Failure::usage(format!("a request that should have waited has ended: {why}")))
            }
        }
    }
}

impl CrowdArgs {
    fn count(&self) -> u64 {
        self.waiting_claims + self.waiting_jobs
    }
}

async fn questions(context: &Context, args: &CrowdArgs, stage: &Stage) -> Result<Vec<Question>, Failure> {
    let claim = stage.claim_in_vain(WAIT_MS).to_string().into_bytes();
    let claims = (0..args.waiting_claims).map(|_| Question {
        method: Method::POST,
        path: "/v1/claim".to_owned(),
        body: claim.clone(),
    });
    let jobs = stage.put_aside(context, args.waiting_jobs).await?;
    let waits = jobs.iter().map(|id| Question {
        method: Method::GET,
        path: format!("/v1/jobs/{id}/wait?timeout_ms={WAIT_MS}&since={NEWEST_VERSION}"),
        body: Vec::new(),
    });
    Ok(claims.chain(waits).collect())
}

async fn ask_again_and_again(mut lane: Lane, question: Question) -> std::io::Result<()> {
    loop {
        let Question { method, path, body } = &question;
        let request = LaneRequest { method, path, key: None, local: false, timeout_ms: WAIT_MS, body };
        let answer = lane.exchange(request).await?;
        if answer.status >= 300 {
            let said = String::from_utf8_lossy(answer.body).into_owned();
            return Err(std::io::Error::other(format!("{}: {said}", answer.status)));
        }
    }
}

/// As the node counts them.
async fn waiting_at(node: &str) -> Result<u64, Failure> {
    let mut lane = Lane::connect(node).await?;
    let (method, path) = (&Method::GET, "/metrics");
    let request = LaneRequest { method, path, key: None, local: true, timeout_ms: WAIT_MS, body: b"" };
    let metrics = String::from_utf8_lossy(lane.exchange(request).await?.body).into_owned();
    let value = |name: &str| {
        let line = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.and_then(|value| value.parse::<u64>().ok()).unwrap_or(0)
    };
    Ok(value("raftq_waiting_claims") + value("raftq_waiting_for_jobs"))
}
