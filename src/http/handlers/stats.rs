//! GET /v1/stats: totals, rates, when the queue will be empty at this rate, what resource groups have needed; and
//! DELETE /v1/stats/groups/{name}, which makes one forget that.

use serde_json::{Map, Value, json};

use crate::{
    api::Nothing,
    http::{call::Call, failure::Failure, params::NamePath, read::look, reply::Reply},
    queue::{State, command::Command, job::Status},
};

pub async fn stats(call: Call) -> Result<Reply, Failure> {
    let view = call.view().await?;
    let rates = call.front.hub.events.rates();
    let seen = look(&view, |state| {
        json!({
            "live": live(state),
            "live_jobs": state.live_count(),
            "ended": state.ended_count(),
            "totals": totals(state),
            "rates": { "submitted_per_s": round(rates.posted), "ended_per_s": round(rates.ended) },
            "etc_ms": time_to_empty_ms(state, rates.ended),
            "learned": learned(state),
            "workers": state.workers().len(),
            "pool_running": state.pool_running(),
        })
    });
    Ok(Reply::json(&seen.value).at(seen.index))
}

/// A group that nobody names any more makes room; one whose jobs have changed learns anew.
pub async fn forget(NamePath(name): NamePath, call: Call) -> Result<Reply, Failure> {
    let Nothing {} = call.decode_or_empty().await?;
    let committed = call.propose(Command::Forget { resource_group: name.as_str().into() }).await?;
    Ok(Reply::json(&json!({ "name": name, "forgotten": true })).at(committed.index))
}

/// Live jobs by status.
fn live(state: &State) -> Map<String, Value> {
    let counts = Status::ALL.into_iter().zip(state.counts());
    counts
        .filter(|(status, _)| !status.is_final())
        .map(|(status, count)| (status.name().into(), count.into()))
        .collect()
}

/// Since the cluster was formed.
fn totals(state: &State) -> Value {
    let counters = state.counters();
    json!({
        "submitted": counters.last_job,
        "success": counters.ends.success,
        "error": counters.ends.error,
        "canceled": counters.ends.canceled,
        "archived": counters.archived,
        "leases": counters.last_lease,
    })
}

/// `null` while nothing ends. Buried jobs end by no rate.
fn time_to_empty_ms(state: &State, ended_per_s: f64) -> Option<u64> {
    let buried = state.counts()[Status::Buried as usize];
    let ahead = state.live_count().saturating_sub(buried);
    (ended_per_s > 0.0).then(|| (ahead as f64 / ended_per_s * 1000.0) as u64)
}

fn learned(state: &State) -> Map<String, Value> {
    let of = state.learned().iter().filter(|(_, learned)| learned.runs() > 0);
    of.map(|(group, learned)| {
        let needs = json!({ "ram_mb": learned.ram_mb(), "time_s": learned.time_s(), "runs": learned.runs() });
        (group.to_string(), needs)
    })
    .collect()
}

fn round(rate: f64) -> f64 {
    (rate * 1000.0).round() / 1000.0
}
