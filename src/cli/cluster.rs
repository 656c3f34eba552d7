//! `raftq cluster`: form it, look at it, change its members, take it away and bring it back.

mod backup;
mod compare;

use std::path::PathBuf;

use clap::Subcommand;
use serde_json::{Value, json};

use super::{
    context::Context,
    failure::{Exit, Failure, Outcome},
    output,
};
use crate::client::{Call, Method};

#[derive(Debug, clap::Args)]
pub struct ClusterArgs {
    #[command(subcommand)]
    what: ClusterCommand,
}

#[derive(Debug, Subcommand)]
enum ClusterCommand {
    /// Form the cluster once, of the founding members in the configuration files
    Init,
    /// Who leads, who is reachable, who lags
    Status,
    /// Add a node as learner
    Add {
        /// The new node's id; never one that was used before
        id: u64,
        /// Where it serves clients
        #[arg(long, value_name = "HOST:PORT")]
        api: String,
        /// Where it serves other nodes
        #[arg(long, value_name = "HOST:PORT")]
        peer: String,
        /// Make it a voter as soon as it has caught up
        #[arg(long)]
        promote: bool,
    },
    /// Remove a node; it stops
    Remove {
        /// The node's id
        id: u64,
    },
    /// Make a learner that has caught up a voter
    Promote {
        /// The node's id
        id: u64,
    },
    /// Replace a lost or wiped node by a fresh one, in one change
    Replace {
        /// The node that is gone
        old: u64,
        /// The id of the fresh one
        new: u64,
        /// Where the fresh one serves clients
        #[arg(long, value_name = "HOST:PORT")]
        api: String,
        /// Where the fresh one serves other nodes
        #[arg(long, value_name = "HOST:PORT")]
        peer: String,
    },
    /// Hand leadership over
    Transfer {
        /// To this node; without it, to the one that has most of the log
        to: Option<u64>,
        /// Do not wait for running jobs
        #[arg(long)]
        now: bool,
    },
    /// Write what the leader has in memory to its files now, so that the log behind it may go
    Snapshot,
    /// Write all that the cluster holds to a file
    #[command(after_help = "Examples:\n  raftq cluster backup --out queue-2026-11-21.raftq")]
    Backup(backup::BackupArgs),
    /// Form a new cluster with what a backup holds
    #[command(
        after_help = "Every founding node must run with an empty data directory and without --init-if-new.\n\nExamples:\n  raftq cluster restore queue-2026-11-21.raftq\n  raftq cluster restore queue-2026-11-21.raftq --after-job 48231 --resume"
    )]
    Restore(backup::RestoreArgs),
    /// Read a backup to its end and say what it holds; without a file, compare the members' states
    #[command(after_help = "Examples:\n  raftq cluster verify queue-2026-11-21.raftq\n  raftq cluster verify")]
    Verify {
        /// What `cluster backup` wrote; no node is asked
        file: Option<PathBuf>,
    },
}

pub async fn run(context: &Context, args: ClusterArgs) -> Outcome {
    let answer = match args.what {
        ClusterCommand::Status => return status(context).await,
        ClusterCommand::Backup(args) => return backup::backup(context, &args).await,
        ClusterCommand::Restore(args) => return backup::restore(context, &args).await,
        ClusterCommand::Verify { file: Some(file) } => return backup::verify(context, &file),
        ClusterCommand::Verify { file: None } => return compare::members(context).await,
        ClusterCommand::Init => context.post("/v1/cluster/init", &json!({})).await?,
        ClusterCommand::Add { id, api, peer, promote } => {
            let member = json!({ "id": id, "api": api, "peer": peer, "promote": promote });
            context.post("/v1/cluster/members", &member).await?
        }
        ClusterCommand::Promote { id } => {
            context.post(&format!("/v1/cluster/members/{id}/promote"), &json!({})).await?
        }
        ClusterCommand::Replace { old, new, api, peer } => {
            let member = json!({ "id": new, "api": api, "peer": peer, "replaces": old });
            context.post("/v1/cluster/members", &member).await?
        }
        ClusterCommand::Remove { id } => {
            context.write(Method::DELETE, &format!("/v1/cluster/members/{id}"), &json!({})).await?
        }
        ClusterCommand::Transfer { to, now } => {
            context.post("/v1/cluster/transfer", &json!({ "to": to, "now": now })).await?
        }
        ClusterCommand::Snapshot => context.post("/v1/cluster/snapshot", &json!({})).await?,
    };
    context.output.document(&answer)?;
    Ok(Exit::Ok)
}

/// The view of the node that leads, if one is found: only that one knows who lags. Else of any that answers.
async fn status(context: &Context) -> Outcome {
    let asked = view(context).await?;
    let status = match asked["leader"]["api"].as_str() {
        Some(leader) if asked["role"] != "leader" && !context.is_local() => {
            context.client.prefer(leader);
            view(context).await.unwrap_or(asked)
        }
        _ => asked,
    };
    let led = !status["leader"].is_null();
    if context.output.is_json() {
        context.output.json(&status)?;
    } else {
        context.output.record(&summary(&status))?;
        context.output.rows(&MEMBER_FIELDS, &members(&status))?;
    }
    if !led {
        let problem = status["problem"].as_str();
        context.output.note(problem.unwrap_or("no leader: more than half of the members must be up"));
        return Ok(Exit::Unreachable);
    }
    Ok(Exit::Ok)
}

async fn view(context: &Context) -> Result<Value, Failure> {
    let call = Call::read("/v1/cluster", context.deadline()).local();
    Ok(context.client.call(call).await?.json()?)
}

const MEMBER_FIELDS: [&str; 7] = ["id", "api", "peer", "role", "reachable", "applied", "lag"];

fn summary(status: &Value) -> Vec<(&'static str, String)> {
    let leader = &status["leader"];
    let leader =
        if leader.is_null() { "none".to_owned() } else { format!("{} at {}", leader["id"], text(&leader["api"])) };
    vec![
        ("cluster", text(&status["cluster"])),
        ("leader", leader),
        ("term", text(&status["term"])),
        ("committed", text(&status["committed"])),
        ("answered", format!("by node {}, {}", status["id"], text(&status["role"]))),
        ("feature_level", text(&status["feature_level"])),
        ("version", text(&status["version"])),
    ]
}

fn members(status: &Value) -> Vec<Vec<String>> {
    let members = status["members"].as_array().map_or(&[][..], Vec::as_slice);
    members.iter().map(|member| MEMBER_FIELDS.iter().map(|name| output::cell(name, &member[*name])).collect()).collect()
}

fn text(value: &Value) -> String {
    output::cell("", value)
}
