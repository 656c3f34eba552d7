//! What goes on: why a job waits, what there was, who works, what happens.

use serde_json::{Value, json};

use super::{
    context::Context,
    failure::{Exit, Failure, Outcome},
    output, units,
};
use crate::client::{Method, path_segment};

#[derive(Debug, clap::Args)]
pub struct WhyArgs {
    /// Job id
    id: u64,
}

#[derive(Debug, clap::Args)]
pub struct EventsArgs {
    /// Go on after this event's id; without it from now on
    #[arg(long, value_name = "ID")]
    from: Option<String>,
    /// Only events of these kinds: posted, started, finished, removed, schedule_slot, ...
    #[arg(long, value_name = "KIND,...", value_delimiter = ',')]
    kind: Vec<String>,
    /// End after this many
    #[arg(long, value_name = "N")]
    count: Option<u64>,
}

#[derive(Debug, clap::Args)]
pub struct StatsArgs {
    /// Forget what this resource group has learned, and the group with it
    #[arg(long, value_name = "RESOURCE_GROUP", value_parser = units::name)]
    forget: Option<String>,
}

#[derive(Debug, clap::Args)]
pub struct WorkersArgs {
    /// Take this worker out of the registry: one that has gone for good. One that lives enters itself again
    #[arg(long, value_name = "ID", value_parser = units::name)]
    forget: Option<String>,
}

/// Why a job is not running.
pub async fn why(context: &Context, args: WhyArgs) -> Outcome {
    let answer: Value = context.read(&format!("/v1/jobs/{}/why", args.id), &[]).await?;
    if context.output.is_json() {
        context.output.json(&answer)?;
        return Ok(Exit::Ok);
    }
    let reasons = answer["why"].as_array().map_or(&[][..], Vec::as_slice);
    let status = output::cell("status", &answer["status"]);
    let due = match answer["ready_at"].as_u64() {
        Some(at) => format!("; due {}", units::show_time(at)),
        None => String::new(),
    };
    for reason in reasons {
        context.output.line(&format!("{status}: {}{due}", output::cell("why", reason)))?;
    }
    Ok(Exit::Ok)
}

pub async fn stats(context: &Context, args: StatsArgs) -> Outcome {
    if let Some(group) = &args.forget {
        return forget(context, &format!("/v1/stats/groups/{}", path_segment(group))).await;
    }
    let answer: Value = context.read("/v1/stats", &[]).await?;
    context.output.document(&answer)?;
    Ok(Exit::Ok)
}

async fn forget(context: &Context, path: &str) -> Outcome {
    let answer: Value = context.write(Method::DELETE, path, &json!({})).await?;
    context.output.document(&answer)?;
    Ok(Exit::Ok)
}

const WORKER_FIELDS: [&str; 7] = ["id", "kind", "host", "version", "slots", "last_seen_at", "held"];

pub async fn workers(context: &Context, args: WorkersArgs) -> Outcome {
    if let Some(id) = &args.forget {
        return forget(context, &format!("/v1/workers/{}", path_segment(id))).await;
    }
    let answer: Value = context.read("/v1/workers", &[]).await?;
    context.output.listing(&WORKER_FIELDS, &answer, "workers")?;
    Ok(Exit::Ok)
}

async fn in_time<T>(context: &Context, coming: impl Future<Output = T>) -> Result<T, Failure> {
    let Some(end) = context.end_of_wait() else { return Ok(coming.await) };
    tokio::time::timeout_at(end, coming).await.map_err(|_| Failure::TimedOut("no more events came in time".into()))
}

/// Prints events as they come: id, kind, data.
pub async fn events(context: &Context, args: EventsArgs) -> Outcome {
    let mut events = context.client.events(args.from);
    let mut left = args.count.unwrap_or(u64::MAX);
    while left > 0 {
        let event = in_time(context, events.next()).await??;
        if !args.kind.is_empty() && !args.kind.contains(&event.kind) {
            continue;
        }
        left -= 1;
        if context.output.is_json() {
            let data: Value = serde_json::from_str(&event.data).unwrap_or(Value::String(event.data));
            context.output.json(&json!({ "id": event.id, "event": event.kind, "data": data }))?;
        } else {
            context.output.rows(&[], &[vec![event.id, event.kind, event.data]])?;
        }
    }
    Ok(Exit::Ok)
}
