//! The figures, with the conditions they were taken under.

use serde::Serialize;
use serde_json::json;

use super::{
    super::{context::Context, failure::Failure},
    LoadArgs,
    driver::Target,
    modes::Mode,
    samples::{Samples, percentile},
};

/// Without these a figure means nothing.
#[derive(Debug, Serialize)]
pub struct Conditions {
    pub mode: &'static str,
    pub version: String,
    pub nodes: Vec<String>,
    /// What every acknowledgement means (P1).
    pub durability: &'static str,
    pub cores: usize,
    pub batch: u32,
    pub payload_bytes: usize,
    pub live_jobs: u64,
    pub connections: Option<usize>,
    pub waiting_claims: u64,
    pub waiting_jobs: u64,
    pub idempotency_keys: bool,
    /// Of each run; without, a run ends with its total.
    pub seconds: Option<f64>,
    pub total_jobs: Option<u64>,
    pub warm_up_seconds: f64,
}

impl Conditions {
    pub fn new(mode: &Mode, load: &LoadArgs, target: &Target) -> Self {
        Self {
            mode: mode.name(),
            version: target.version.clone(),
            nodes: target.members.clone(),
            durability: "fsync on a majority before the acknowledgement",
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            batch: load.batch,
            payload_bytes: load.payload,
            live_jobs: load.live,
            connections: load.connections,
            waiting_claims: load.crowd.waiting_claims,
            waiting_jobs: load.crowd.waiting_jobs,
            idempotency_keys: !load.without_keys,
            seconds: load.total.is_none().then_some(load.duration.as_secs_f64()),
            total_jobs: load.total,
            warm_up_seconds: load.warm_up.as_secs_f64(),
        }
    }
}

impl Conditions {
    fn sentence(&self) -> String {
        let until = match (self.seconds, self.total_jobs) {
            (Some(seconds), _) => format!("{seconds} s after {} s", self.warm_up_seconds),
            (None, total) => format!("{} jobs", total.unwrap_or(0)),
        };
        let connections = self.connections.map(|number| format!("{number} connections, ")).unwrap_or_default();
        format!(
            "{}: {} jobs a request, {} bytes each, {until}, {connections}{} claims and {} requests for jobs waiting beside, \
             {} other live jobs, keys {}; {} nodes, {} cores, {}; raftq {}",
            self.mode,
            self.batch,
            self.payload_bytes,
            self.waiting_claims,
            self.waiting_jobs,
            self.live_jobs,
            if self.idempotency_keys { "on" } else { "off" },
            self.nodes.len(),
            self.cores,
            self.durability,
            self.version,
        )
    }
}

/// One run's line.
#[derive(Debug, Serialize)]
pub struct Report {
    pub in_flight: usize,
    pub requests_per_s: f64,
    pub jobs_per_s: f64,
    /// Of one request.
    pub p50_ms: Option<f64>,
    pub p99_ms: Option<f64>,
    pub max_ms: Option<f64>,
    /// Of a whole life, where that is several requests.
    pub life_p50_ms: Option<f64>,
    pub life_p99_ms: Option<f64>,
    pub longest_silence_ms: f64,
    pub repeats: u64,
    pub acknowledged: usize,
    pub missing: u64,
    /// Cores' worth of CPU that the load generator itself used.
    pub client_cores: f64,
}

impl Report {
    pub fn new(in_flight: usize, load: &LoadArgs, samples: Samples, missing: u64) -> Self {
        let seconds = samples.window.as_secs_f64();
        let whole = (load.warm_up + samples.window).as_secs_f64();
        Self {
            in_flight,
            requests_per_s: (samples.requests as f64 / seconds).round(),
            jobs_per_s: (samples.jobs as f64 / seconds).round(),
            p50_ms: percentile(&samples.latencies, 0.5),
            p99_ms: percentile(&samples.latencies, 0.99),
            max_ms: percentile(&samples.latencies, 1.0),
            life_p50_ms: percentile(&samples.rounds, 0.5),
            life_p99_ms: percentile(&samples.rounds, 0.99),
            longest_silence_ms: samples.longest_silence.as_secs_f64() * 1000.0,
            repeats: samples.repeats,
            acknowledged: samples.submitted.len(),
            missing,
            client_cores: (samples.client_cpu.as_secs_f64() / whole * 100.0).round() / 100.0,
        }
    }

    fn row(&self) -> Vec<String> {
        let ms = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |value| format!("{value:.2}"));
        vec![
            self.in_flight.to_string(),
            format!("{:.0}", self.requests_per_s),
            format!("{:.0}", self.jobs_per_s),
            ms(self.p50_ms),
            ms(self.p99_ms),
            ms(self.max_ms),
            ms(self.life_p50_ms),
            ms(self.life_p99_ms),
            format!("{:.0}", self.longest_silence_ms),
            self.repeats.to_string(),
            self.acknowledged.to_string(),
            self.missing.to_string(),
            format!("{:.2}", self.client_cores),
        ]
    }
}

const HEADINGS: [&str; 13] = [
    "in flight",
    "requests/s",
    "jobs/s",
    "p50 ms",
    "p99 ms",
    "max ms",
    "life p50",
    "life p99",
    "silence ms",
    "repeats",
    "acknowledged",
    "missing",
    "client cores",
];

pub fn print(context: &Context, conditions: &Conditions, reports: &[Report]) -> Result<(), Failure> {
    if context.output.is_json() {
        return Ok(context.output.json(&json!({ "conditions": conditions, "runs": reports }))?);
    }
    context.output.note(&conditions.sentence());
    let rows: Vec<Vec<String>> = reports.iter().map(Report::row).collect();
    Ok(context.output.rows(&HEADINGS, &rows)?)
}
