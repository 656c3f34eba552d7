//! `raftq cluster verify` without a file: whether the members hold the same state (P9).
//!
//! Replicas move on while they are asked, so two answers are comparable only at one index. The leader has every member
//! remember its hash at an entry of its choosing now and then: the last such mark is the same entry on all of them for most
//! of the time, and in a cluster at rest so is the last entry.

use std::time::Duration;

use futures::future::join_all;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::view;
use crate::{
    cli::{
        context::Context,
        failure::{Exit, Failure, Outcome},
        output,
    },
    client::{Call, Client, Options},
};

/// Marks are ten seconds apart.
const PATIENCE: Duration = Duration::from_secs(15);
const POLL: Duration = Duration::from_millis(100);
const ASK: Duration = Duration::from_secs(2);
const FIELDS: [&str; 4] = ["id", "api", "index", "hash"];

pub async fn members(context: &Context) -> Outcome {
    let cluster = view(context).await?;
    let members = cluster["members"].as_array().cloned().unwrap_or_default();
    if members.is_empty() {
        return Err(Failure::usage("this node belongs to no cluster yet; there is nothing to compare"));
    }
    let deadline = context.end_of_wait().unwrap_or_else(|| Instant::now() + PATIENCE);
    loop {
        let views = join_all(members.iter().map(ask)).await;
        let found = ["hash", "mark"].into_iter().find_map(|which| at_one_index(&views, which));
        match found {
            Some(rows) => return report(context, &members, &rows),
            None if Instant::now() < deadline => tokio::time::sleep(POLL).await,
            None => return Err(unanswered(&members, &views)),
        }
    }
}

async fn ask(member: &Value) -> Option<Value> {
    let client = Client::new(Options::new(vec![member["api"].as_str()?.to_owned()])).ok()?;
    let answer = client.call(Call::read("/v1/cluster", Instant::now() + ASK).local()).await.ok()?;
    let view: Value = answer.json().ok()?;
    // Another node may have taken over the address.
    (view["id"] == member["id"]).then_some(view)
}

/// Index and hash of each member, if all of them tell one for the same index.
fn at_one_index(views: &[Option<Value>], which: &str) -> Option<Vec<Value>> {
    let hashes: Vec<Value> = views.iter().map(|view| Some(view.as_ref()?[which].clone())).collect::<Option<_>>()?;
    let index = hashes.first()?["index"].as_u64()?;
    hashes.iter().all(|hash| hash["index"] == index).then_some(hashes)
}

fn report(context: &Context, members: &[Value], hashes: &[Value]) -> Outcome {
    let agree = hashes.iter().all(|hash| hash == &hashes[0]);
    let rows: Vec<Value> = members
        .iter()
        .zip(hashes)
        .map(|(member, hash)| json!({ "id": member["id"], "api": member["api"], "index": hash["index"], "hash": hash["value"] }))
        .collect();
    let answer = json!({ "agree": agree, "members": rows });
    context.output.listing(&FIELDS, &answer, "members")?;
    let verdict = if agree { "all members hold the same state" } else { "the members' states differ" };
    context.output.note(verdict);
    Ok(Exit::ok_if(agree))
}

fn unanswered(members: &[Value], views: &[Option<Value>]) -> Failure {
    let silent = members.iter().zip(views).filter(|(_, view)| view.is_none());
    let silent: Vec<String> = silent.map(|(member, _)| output::cell("", &member["id"])).collect();
    match silent.is_empty() {
        true => Failure::TimedOut("the members were not seen at one index; try again when there is less load".into()),
        false => Failure::TimedOut(format!("no answer from member {}; the rest is not compared", silent.join(", "))),
    }
}
