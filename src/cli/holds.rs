//! What keeps queued jobs waiting, for commands that wait for them: a job that nobody runs would be waited for in silence.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use serde::Deserialize;
use tokio::time::Instant;

use super::{context::Context, failure::Failure};

/// Between two tellings; whoever waits is to read them.
const TELL_AGAIN: Duration = Duration::from_secs(10);
/// Looked at of each queue: one page.
const JOBS_MAX: usize = 1000;

#[derive(Deserialize)]
struct Page {
    jobs: Vec<Held>,
}

#[derive(Deserialize)]
struct Held {
    id: u64,
    #[serde(default)]
    held_by: Vec<String>,
}

/// What has been told of it already.
#[derive(Default)]
pub struct Holds {
    told: Vec<String>,
}

impl Holds {
    /// Says what holds jobs of these queues, or of all, if that is news.
    pub async fn tell(&mut self, context: &Context, queues: Option<&[Arc<str>]>) -> Result<(), Failure> {
        let sentences = sentences(&held(context, queues).await?);
        if sentences != self.told {
            sentences.iter().for_each(|sentence| context.output.note(sentence));
            self.told = sentences;
        }
        Ok(())
    }

    /// The same again and again, beside a wait that ends by itself.
    pub async fn keep_telling(mut self, context: &Context, queues: &[Arc<str>]) -> Failure {
        loop {
            if let Err(failure) = self.tell(context, Some(queues)).await {
                return failure;
            }
            tokio::time::sleep_until(Instant::now() + TELL_AGAIN).await;
        }
    }
}

async fn held(context: &Context, queues: Option<&[Arc<str>]>) -> Result<Vec<Held>, Failure> {
    let Some(queues) = queues else { return page(context, None).await };
    let mut jobs = Vec::new();
    for queue in queues {
        jobs.extend(page(context, Some(queue)).await?);
    }
    Ok(jobs)
}

async fn page(context: &Context, queue: Option<&str>) -> Result<Vec<Held>, Failure> {
    let mut query =
        vec![("status", "queued".to_owned()), ("fields", "id,held_by".to_owned()), ("limit", JOBS_MAX.to_string())];
    query.extend(queue.map(|queue| ("queue", queue.to_owned())));
    let page: Page = context.read("/v1/jobs", &query).await?;
    Ok(page.jobs)
}

/// One for each reason, with a job to look at.
fn sentences(jobs: &[Held]) -> Vec<String> {
    let mut by_reason: BTreeMap<String, (u64, u64)> = BTreeMap::new();
    for job in jobs.iter().filter(|job| !job.held_by.is_empty()) {
        by_reason.entry(job.held_by.join("; ")).or_insert((job.id, 0)).1 += 1;
    }
    let sentence = |(reason, (first, count))| match count {
        1 => format!("job {first} waits: {reason}"),
        count => format!("job {first} and {} more wait: {reason}", count - 1),
    };
    by_reason.into_iter().map(sentence).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jobs_are_told_together_that_wait_for_the_same() {
        let held = |id, reasons: &[&str]| Held { id, held_by: reasons.iter().map(|text| (*text).to_owned()).collect() };
        let jobs = [held(3, &["no worker"]), held(4, &[]), held(5, &["paused", "full"]), held(6, &["no worker"])];
        assert_eq!(sentences(&jobs), ["job 3 and 1 more wait: no worker", "job 5 waits: paused; full"]);
    }
}
