//! What a run finds and leaves behind: the jobs that lie around, the jobs it reads, and the proof afterwards.

use std::collections::HashSet;

use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    super::{context::Context, failure::Failure, submit::accepted},
    LoadArgs,
    modes::Mode,
    samples::Samples,
};
use crate::{api::SubmitAnswer, client::Method};

pub struct Stage {
    /// This run's own queue, so that nothing else takes its jobs.
    queue: String,
    /// Where jobs lie that only have to be there.
    shelf: String,
    /// Jobs to read.
    ids: Vec<u64>,
    pub local: bool,
}

/// Jobs per request while setting the stage and while looking afterwards.
const PIECE: usize = 1000;
/// Rows of a page.
const PAGE: u64 = 100;
/// A kind that no pool takes.
const KIND: &str = "bench";

#[derive(Deserialize)]
struct Page {
    jobs: Vec<Row>,
}

#[derive(Deserialize)]
struct Row {
    id: u64,
    status: Option<String>,
    #[serde(default)]
    missing: bool,
}

impl Stage {
    pub async fn set(context: &Context, load: &LoadArgs, mode: Mode) -> Result<Self, Failure> {
        let name: u32 = rand::random();
        let (queue, shelf) = (format!("bench-{name:08x}"), format!("bench-{name:08x}-live"));
        let mut stage = Self { queue, shelf, ids: Vec::new(), local: context.is_local() };
        stage.fill(context, &stage.shelf, load.live, load.payload).await?;
        let to_read = match mode {
            Mode::Read { jobs } => jobs,
            Mode::Page => PAGE,
            Mode::Submit | Mode::Life { .. } | Mode::Stats => 0,
        };
        stage.ids = stage.fill(context, &stage.queue, to_read, load.payload).await?;
        Ok(stage)
    }

    /// Jobs that are waited for, each by one request: their ids.
    pub async fn put_aside(&self, context: &Context, count: u64) -> Result<Vec<u64>, Failure> {
        self.fill(context, &self.shelf, count, 0).await
    }

    async fn fill(&self, context: &Context, queue: &str, count: u64, payload: usize) -> Result<Vec<u64>, Failure> {
        let progress = context.output.progress((count > 0).then_some(count), "jobs put in place");
        let mut ids = Vec::new();
        while (ids.len() as u64) < count {
            let piece = (count - ids.len() as u64).min(PIECE as u64);
            let answer: SubmitAnswer = context.write(Method::POST, "/v1/jobs", &jobs(queue, piece, payload)).await?;
            for result in answer.results {
                ids.push(accepted(result)?.0);
            }
            progress.inc(piece);
        }
        progress.finish_and_clear();
        Ok(ids)
    }

    pub fn submission(&self, batch: u64, payload: usize) -> Vec<u8> {
        jobs(&self.queue, batch, payload).to_string().into_bytes()
    }

    pub fn claim(&self, max: u64) -> Value {
        json!({ "worker": { "id": "bench" }, "queues": [self.queue], "max": max, "start": true })
    }

    /// Waits at a queue to which nobody submits.
    pub fn claim_in_vain(&self, wait_ms: u64) -> Value {
        json!({ "worker": { "id": "bench" }, "queues": [format!("{}-none", self.queue)], "wait_ms": wait_ms })
    }

    /// The path that reads `batch` jobs, beginning anywhere.
    pub fn read_path(&self, round: usize, batch: u64) -> (String, u64) {
        let count = (batch as usize).min(self.ids.len());
        let ids: Vec<String> = (0..count).map(|k| self.ids[(round + k) % self.ids.len()].to_string()).collect();
        match &ids[..] {
            [id] => (format!("/v1/jobs/{id}"), 1),
            ids => (format!("/v1/jobs?fields=id,status&limit={count}&ids={}", ids.join(",")), count as u64),
        }
    }

    /// One page of the listing, as anybody sees it who asks for nothing in particular.
    pub fn page_path(&self) -> (String, u64) {
        (format!("/v1/jobs?limit={PAGE}"), PAGE)
    }

    pub fn stats_path(&self) -> (String, u64) {
        ("/v1/stats".to_owned(), 1)
    }

    /// A read that gave fewer jobs than asked for is no read.
    pub fn check_read(&self, body: &[u8], jobs: u64) -> Result<(), Failure> {
        let found = match jobs {
            1 => u64::from(memchr(body, b"\"status\"") || memchr(body, b"\"submitted\"")),
            _ => serde_json::from_slice::<Page>(body)
                .map_or(0, |page| page.jobs.iter().filter(|row| !row.missing && row.id > 0).count() as u64),
        };
        if found == jobs { Ok(()) } else { Err(Failure::usage(format!("a read gave {found} of {jobs} jobs"))) }
    }

    /// Acknowledged jobs that are not there, or not as they were acknowledged.
    pub async fn missing(&self, context: &Context, samples: &Samples) -> Result<u64, Failure> {
        let finished: HashSet<u64> = samples.finished.iter().copied().collect();
        let progress = context.output.progress(Some(samples.submitted.len() as u64), "looked for");
        let mut missing = 0;
        for ids in samples.submitted.chunks(PIECE) {
            let listed: Vec<String> = ids.iter().map(u64::to_string).collect();
            let query = [("ids", listed.join(",")), ("fields", "id,status".into()), ("limit", PIECE.to_string())];
            let page: Page = context.read("/v1/jobs", &query).await?;
            let is_there = |row: &Row| !row.missing && row.status.is_some();
            let is_right = |row: &Row| !finished.contains(&row.id) || row.status.as_deref() == Some("success");
            let right: HashSet<u64> =
                page.jobs.iter().filter(|row| is_there(row) && is_right(row)).map(|row| row.id).collect();
            missing += ids.iter().filter(|id| !right.contains(id)).count() as u64;
            progress.inc(ids.len() as u64);
        }
        progress.finish_and_clear();
        Ok(missing)
    }

    /// Deletes what the run put there. If that fails the figures are still worth printing.
    pub async fn clear(&self, context: &Context) {
        if let Err(failure) = self.delete_all(context).await {
            let (queue, shelf) = (&self.queue, &self.shelf);
            context.output.note(&format!("the jobs in the queues {queue} and {shelf} were not deleted: {failure}"));
        }
    }

    async fn delete_all(&self, context: &Context) -> Result<(), Failure> {
        let progress = context.output.progress(None, "deleted");
        for queue in [&self.queue, &self.shelf] {
            let mut after = Value::Null;
            loop {
                let request = json!({ "do": { "verb": "delete" }, "select": { "queue": queue }, "after": after });
                let answer = context.post("/v1/jobs/bulk", &request).await?;
                progress.inc(answer["changed"].as_u64().unwrap_or(0));
                after = answer["next"].clone();
                if after.is_null() {
                    break;
                }
            }
        }
        progress.finish_and_clear();
        Ok(())
    }
}

fn jobs(queue: &str, count: u64, payload: usize) -> Value {
    let spec = json!({ "queue": queue, "kind": KIND, "body": "x".repeat(payload) });
    json!({ "jobs": vec![spec; count as usize] })
}

fn memchr(body: &[u8], needle: &[u8]) -> bool {
    body.windows(needle.len()).any(|window| window == needle)
}
