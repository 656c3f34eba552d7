//! What one closed loop does, round after round.

use futures::{StreamExt, stream::FuturesUnordered};
use nix::sys::resource::{UsageWho, getrusage};
use serde::de::DeserializeOwned;
use serde_json::json;
use std::{rc::Rc, time::Duration};
use tokio::time::Instant;

use super::{
    super::{failure::Failure, submit::accepted},
    LoadArgs,
    driver::{Driver, Lanes, Manner, Target, Whom},
    samples::{Pulse, Samples, Window},
    stage::Stage,
};
use crate::api::{ClaimAnswer, ClaimedJob, LeasesAnswer, SubmitAnswer};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    Submit,
    Life { take_next: bool },
    Read { jobs: u64 },
    Page,
    Stats,
}

impl Mode {
    pub fn name(self) -> &'static str {
        match self {
            Mode::Submit => "submit",
            Mode::Life { take_next: false } => "life",
            Mode::Life { take_next: true } => "life, take next",
            Mode::Read { .. } => "read",
            Mode::Page => "page",
            Mode::Stats => "stats",
        }
    }

    /// Reads are answered by every member.
    fn whom(self, number: usize) -> Whom {
        match self {
            Mode::Submit | Mode::Life { .. } => Whom::Leader,
            Mode::Read { .. } | Mode::Page | Mode::Stats => Whom::Member(number),
        }
    }
}

/// What all loops of a run share.
#[derive(Clone, Copy)]
pub struct Run<'a> {
    pub target: &'a Target,
    pub stage: &'a Stage,
    pub pulse: &'a Pulse,
    pub window: Window,
    pub mode: Mode,
    pub load: &'a LoadArgs,
    /// One attempt's time.
    pub attempt: Duration,
}

impl Run<'_> {
    /// All loops until the window has closed, or the pulse is stopped.
    pub async fn go(self, in_flight: usize) -> Result<Samples, Failure> {
        let before = cpu_time();
        let connections = self.load.connections.unwrap_or(in_flight);
        let shared: Vec<_> = (0..connections.min(in_flight)).map(|_| Rc::default()).collect();
        let lanes = |number: usize| match connections < in_flight {
            true => Lanes::shared(&shared[number % connections]),
            false => Lanes::own(connections.div_ceil(in_flight)),
        };
        let mut loops: FuturesUnordered<_> =
            (0..in_flight).map(|number| Loop::new(self, number, lanes(number)).run()).collect();
        let mut samples = Samples::default();
        while let Some(ended) = loops.next().await {
            samples.merge(ended?);
        }
        samples.window = self.window.to.min(Instant::now()).saturating_duration_since(self.window.from);
        samples.longest_silence = self.pulse.longest();
        samples.client_cpu = cpu_time().saturating_sub(before);
        samples.sort();
        Ok(samples)
    }

    fn is_over(&self) -> bool {
        self.pulse.is_stopped() || self.window.is_over()
    }
}

/// User and system time of this process.
fn cpu_time() -> Duration {
    let Ok(usage) = getrusage(UsageWho::RUSAGE_SELF) else { return Duration::ZERO };
    let micros = |time: nix::sys::time::TimeVal| time.tv_sec() as u64 * 1_000_000 + time.tv_usec() as u64;
    Duration::from_micros(micros(usage.user_time()) + micros(usage.system_time()))
}

struct Loop<'a> {
    run: Run<'a>,
    driver: Driver<'a>,
    batch: u64,
    /// The same for every round.
    submission: Vec<u8>,
    samples: Samples,
    number: usize,
}

impl<'a> Loop<'a> {
    fn new(run: Run<'a>, number: usize, lanes: Lanes) -> Self {
        let batch = u64::from(run.load.batch);
        let manner = Manner {
            whom: run.mode.whom(number),
            keys: !run.load.without_keys,
            local: run.stage.local,
            attempt: run.attempt,
            lanes,
        };
        Self {
            run,
            driver: Driver::new(run.target, manner),
            batch,
            submission: run.stage.submission(batch, run.load.payload),
            samples: Samples::default(),
            number,
        }
    }

    async fn run(mut self) -> Result<Samples, Failure> {
        match self.run.mode {
            Mode::Submit => self.submit_on_and_on().await?,
            Mode::Life { take_next: false } => self.live_on_and_on().await?,
            Mode::Life { take_next: true } => self.take_on_and_on().await?,
            Mode::Read { .. } | Mode::Page | Mode::Stats => self.read_on_and_on().await?,
        }
        self.samples.repeats = self.driver.repeats;
        Ok(self.samples)
    }

    async fn submit_on_and_on(&mut self) -> Result<(), Failure> {
        while !self.run.is_over() {
            self.submit(self.batch).await?;
        }
        Ok(())
    }

    /// Submit; claim and start; finish: three requests a round.
    async fn live_on_and_on(&mut self) -> Result<(), Failure> {
        while !self.run.is_over() {
            let began = Instant::now();
            self.submit(0).await?;
            let claim = self.run.stage.claim(self.batch).to_string();
            let claimed: ClaimAnswer = self.post("/v1/claim", claim.as_bytes(), 0).await?;
            self.samples.granted.extend(claimed.jobs.iter().map(|granted| granted.job.id.0));
            self.finish(&claimed.jobs, false).await?;
            self.samples.round(self.run.window, began);
        }
        Ok(())
    }

    /// Submit; finish what was taken and take the next: two requests a round.
    async fn take_on_and_on(&mut self) -> Result<(), Failure> {
        let mut held = Vec::new();
        while !self.run.is_over() {
            let began = Instant::now();
            self.submit(0).await?;
            held = self.finish(&held, true).await?;
            self.samples.round(self.run.window, began);
        }
        self.finish(&held, false).await.map(drop)
    }

    async fn read_on_and_on(&mut self) -> Result<(), Failure> {
        let mut round = self.number;
        while !self.run.is_over() {
            let (path, jobs) = match self.run.mode {
                Mode::Page => self.run.stage.page_path(),
                Mode::Stats => self.run.stage.stats_path(),
                Mode::Submit | Mode::Life { .. } | Mode::Read { .. } => self.run.stage.read_path(round, self.batch),
            };
            round = round.wrapping_add(7919);
            let sent = Instant::now();
            let body = self.driver.read(&path).await?;
            self.run.pulse.beat(Instant::now(), self.run.window);
            self.samples.request(self.run.window, sent, jobs);
            self.run.stage.check_read(&body, jobs)?;
        }
        Ok(())
    }

    /// `counted`: how many jobs an answer adds to the figure; a life counts at its end.
    async fn submit(&mut self, counted: u64) -> Result<(), Failure> {
        let sent = Instant::now();
        let body = self.driver.post("/v1/jobs", &self.submission).await?;
        self.run.pulse.beat(Instant::now(), self.run.window);
        self.samples.request(self.run.window, sent, counted);
        for result in decode::<SubmitAnswer>(&body)?.results {
            self.samples.submitted.push(accepted(result)?.0);
        }
        self.run.pulse.submitted(self.batch);
        Ok(())
    }

    /// Finishes with success; with `take_next` claims in the same request and gives what was claimed.
    async fn finish(&mut self, held: &[ClaimedJob], take_next: bool) -> Result<Vec<ClaimedJob>, Failure> {
        let items: Vec<_> = held
            .iter()
            .filter_map(|held| Some((held.job.id, held.lease?)))
            .map(|(job, lease)| json!({ "job": job, "lease": lease, "do": "finish", "outcome": "success", "exit_code": 0 }))
            .collect();
        if items.is_empty() && !take_next {
            return Ok(Vec::new());
        }
        let finished = items.len() as u64;
        let mut request = json!({ "items": items });
        if take_next {
            request["claim"] = self.run.stage.claim(self.batch);
        }
        let answer: LeasesAnswer = self.post("/v1/leases", request.to_string().as_bytes(), finished).await?;
        for (held, result) in held.iter().zip(answer.results) {
            match result.error {
                None => self.samples.finished.push(held.job.id.0),
                Some(error) => return Err(Failure::Refused(error)),
            }
        }
        self.samples.granted.extend(answer.jobs.iter().map(|granted| granted.job.id.0));
        Ok(answer.jobs)
    }

    async fn post<T: DeserializeOwned>(&mut self, path: &str, body: &[u8], jobs: u64) -> Result<T, Failure> {
        let sent = Instant::now();
        let answer = self.driver.post(path, body).await?;
        self.run.pulse.beat(Instant::now(), self.run.window);
        self.samples.request(self.run.window, sent, jobs);
        decode(&answer)
    }
}

fn decode<T: DeserializeOwned>(body: &[u8]) -> Result<T, Failure> {
    serde_json::from_slice(body).map_err(|error| Failure::usage(format!("an answer of another shape: {error}")))
}
