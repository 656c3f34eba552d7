//! The doors of the queue: drain.

use clap::Subcommand;
use serde_json::json;

use super::{
    context::Context,
    failure::{Exit, Failure, Outcome},
    units,
};
use crate::{
    api::{DrainRequest, DrainView},
    client::Method,
};

#[derive(Debug, clap::Args)]
pub struct DrainArgs {
    #[command(subcommand)]
    what: DrainCommand,
}

#[derive(Debug, Subcommand)]
enum DrainCommand {
    /// Refuse submissions on every node from now on
    On {
        /// Shown to whoever is refused
        #[arg(long, value_name = "TEXT")]
        reason: Option<String>,
    },
    /// Accept submissions again
    Off,
    /// Is it drained, by whom, why, since when?
    Status,
}

pub async fn drain(context: &Context, args: DrainArgs) -> Outcome {
    let view: DrainView = match args.what {
        DrainCommand::Status => context.read("/v1/drain", &[]).await?,
        DrainCommand::On { reason } => set_drain(context, true, reason).await?,
        DrainCommand::Off => set_drain(context, false, None).await?,
    };
    print(context, &view)?;
    Ok(Exit::Ok)
}

async fn set_drain(context: &Context, drained: bool, reason: Option<String>) -> Result<DrainView, Failure> {
    let request = DrainRequest { drained, reason: reason.map(Into::into) };
    context.write(Method::PUT, "/v1/drain", &request).await
}

fn print(context: &Context, view: &DrainView) -> Result<(), Failure> {
    if context.output.is_json() {
        return Ok(context.output.json(&json!(view))?);
    }
    let mut record = vec![("drained", view.drained.to_string())];
    record.extend(view.by.as_ref().map(|by| ("by", by.to_string())));
    record.extend(view.reason.as_ref().map(|reason| ("reason", reason.to_string())));
    record.extend(view.since.map(|since| ("since", units::show_time(since.0))));
    Ok(context.output.record(&record)?)
}
