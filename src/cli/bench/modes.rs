//! What one closed loop does, round after round.

use futures::{StreamExt, stream::FuturesUnordered};
use nix::sys::resource::{UsageWho, getrusage};
use serde::de::DeserializeOwned;
use serde_json::json;
use std::time::Duration;
use tokio::time::Instant;

use super::{
    super::{failure::Failure, submit::accepted},
    LoadArgs,
    driver::{Driver, Target, Whom},
    samples::{Samples, Window},
    stage::Stage,
};
use crate::api::{ClaimAnswer, ClaimedJob, LeasesAnswer, SubmitAnswer};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    Submit,
    Life { take_next: bool },
    Read { jobs: u64 },
}

impl Mode {
    pub fn name(self) -> &'static str {
        match self {
            Mode::Submit => "submit",
            Mode::Life { take_next: false } => "life",
            Mode::Life { take_next: true } => "life, take next",
            Mode::Read { .. } => "read",
        }
    }
}

/// All loops until the window has closed.
pub async fn run(
    target: &Target,
    stage: &Stage,
    mode: Mode,
    load: &LoadArgs,
    in_flight: usize,
) -> Result<Samples, Failure> {
    let from = Instant::now() + load.warm_up;
    let window = Window { from, to: from + load.duration };
    let before = cpu_time();
    let mut loops: FuturesUnordered<_> =
        (0..in_flight).map(|number| Loop::new(target, stage, window, load, mode, number).run(mode)).collect();
    let mut samples = Samples::default();
    while let Some(ended) = loops.next().await {
        samples.merge(ended?);
    }
    samples.window = load.duration;
    samples.client_cpu = cpu_time().saturating_sub(before);
    samples.sort();
    Ok(samples)
}

/// User and system time of this process.
fn cpu_time() -> Duration {
    let Ok(usage) = getrusage(UsageWho::RUSAGE_SELF) else { return Duration::ZERO };
    let micros = |time: nix::sys::time::TimeVal| time.tv_sec() as u64 * 1_000_000 + time.tv_usec() as u64;
    Duration::from_micros(micros(usage.user_time()) + micros(usage.system_time()))
}

struct Loop<'a> {
    driver: Driver<'a>,
    stage: &'a Stage,
    window: Window,
    batch: u64,
    /// The same for every round.
    submission: Vec<u8>,
    samples: Samples,
    number: usize,
}

impl<'a> Loop<'a> {
    fn new(target: &'a Target, stage: &'a Stage, window: Window, load: &LoadArgs, mode: Mode, number: usize) -> Self {
        let whom = if matches!(mode, Mode::Read { .. }) { Whom::Member(number) } else { Whom::Leader };
        Self {
            driver: Driver::new(target, whom, !load.without_keys, stage.local),
            stage,
            window,
            batch: u64::from(load.batch),
            submission: stage.submission(u64::from(load.batch), load.payload),
            samples: Samples::default(),
            number,
        }
    }

    async fn run(mut self, mode: Mode) -> Result<Samples, Failure> {
        match mode {
            Mode::Submit => self.submit_on_and_on().await?,
            Mode::Life { take_next: false } => self.live_on_and_on().await?,
            Mode::Life { take_next: true } => self.take_on_and_on().await?,
            Mode::Read { .. } => self.read_on_and_on().await?,
        }
        self.samples.repeats = self.driver.repeats;
        Ok(self.samples)
    }

    async fn submit_on_and_on(&mut self) -> Result<(), Failure> {
        while !self.window.is_over() {
            self.submit(self.batch).await?;
        }
        Ok(())
    }

    /// Submit; claim and start; finish: three requests a round.
    async fn live_on_and_on(&mut self) -> Result<(), Failure> {
        while !self.window.is_over() {
            let began = Instant::now();
            self.submit(0).await?;
            let claim = self.stage.claim(self.batch).to_string();
            let claimed: ClaimAnswer = self.post("/v1/claim", claim.as_bytes(), 0).await?;
            self.finish(&claimed.jobs, false).await?;
            self.samples.round(self.window, began);
        }
        Ok(())
    }

    /// Submit; finish what was taken and take the next: two requests a round.
    async fn take_on_and_on(&mut self) -> Result<(), Failure> {
        let mut held = Vec::new();
        while !self.window.is_over() {
            let began = Instant::now();
            self.submit(0).await?;
            held = self.finish(&held, true).await?;
            self.samples.round(self.window, began);
        }
        self.finish(&held, false).await.map(drop)
    }

    async fn read_on_and_on(&mut self) -> Result<(), Failure> {
        let mut round = self.number;
        while !self.window.is_over() {
            let (path, jobs) = self.stage.read_path(round, self.batch);
            round = round.wrapping_add(7919);
            let sent = Instant::now();
            let body = self.driver.read(&path).await?;
            self.samples.answered(self.window);
            self.samples.request(self.window, sent, jobs);
            self.stage.check_read(&body, jobs)?;
        }
        Ok(())
    }

    /// `counted`: how many jobs an answer adds to the figure; a life counts at its end.
    async fn submit(&mut self, counted: u64) -> Result<(), Failure> {
        let sent = Instant::now();
        let body = self.driver.post("/v1/jobs", &self.submission).await?;
        self.samples.answered(self.window);
        self.samples.request(self.window, sent, counted);
        for result in decode::<SubmitAnswer>(&body)?.results {
            self.samples.submitted.push(accepted(result)?.0);
        }
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
            request["claim"] = self.stage.claim(self.batch);
        }
        let answer: LeasesAnswer = self.post("/v1/leases", request.to_string().as_bytes(), finished).await?;
        for (held, result) in held.iter().zip(answer.results) {
            match result.error {
                None => self.samples.finished.push(held.job.id.0),
                Some(error) => return Err(Failure::Refused(error)),
            }
        }
        Ok(answer.jobs)
    }

    async fn post<T: DeserializeOwned>(&mut self, path: &str, body: &[u8], jobs: u64) -> Result<T, Failure> {
        let sent = Instant::now();
        let answer = self.driver.post(path, body).await?;
        self.samples.answered(self.window);
        self.samples.request(self.window, sent, jobs);
        decode(&answer)
    }
}

fn decode<T: DeserializeOwned>(body: &[u8]) -> Result<T, Failure> {
    serde_json::from_slice(body).map_err(|error| Failure::usage(format!("an answer of another shape: {error}")))
}
