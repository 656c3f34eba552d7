//! Limit groups and the policy: /v1/limits, /v1/policy

use std::sync::Arc;

use serde_json::json;

use crate::{
    api::{LimitRequest, LimitView, PolicyRequest, PolicyView},
    http::{call::Call, failure::Failure, params::NamePath, read::look, reply::Reply},
    queue::{State, command::Command},
    raft::Consistency,
};

pub async fn limits(call: Call) -> Result<Reply, Failure> {
    let view = call.view().await?;
    let seen = look(&view, |state| {
        let limits = state.limits().into_iter();
        limits.map(|(name, (max, running))| LimitView { name: Arc::clone(name), max, running }).collect::<Vec<_>>()
    });
    Ok(Reply::json(&json!({ "limits": seen.value })).at(seen.index))
}

/// A group that nobody knows is unlimited and has nothing running.
pub async fn limit(NamePath(name): NamePath, call: Call) -> Result<Reply, Failure> {
    let view = call.view().await?;
    let seen = look(&view, |state| limit_view(state, &name));
    Ok(Reply::json(&seen.value).at(seen.index))
}

pub async fn set_limit(NamePath(name): NamePath, call: Call) -> Result<Reply, Failure> {
    let LimitRequest { max } = call.decode().await?;
    let committed = call.propose(Command::Limit { name: name.as_str().into(), max }).await?;
    let view = call.front.view(Consistency::Local, committed.index, call.context.deadline).await?;
    let seen = look(&view, |state| limit_view(state, &name));
    Ok(Reply::json(&seen.value).at(seen.index))
}

fn limit_view(state: &State, name: &str) -> LimitView {
    let (max, running) = state.limits().get(&Arc::from(name)).copied().unwrap_or_default();
    LimitView { name: name.into(), max, running }
}

pub async fn policy(call: Call) -> Result<Reply, Failure> {
    let view = call.view().await?;
    let seen = look(&view, |state| PolicyView::new(state.settings(), state.pool()));
    Ok(Reply::json(&seen.value).at(seen.index))
}

pub async fn set_policy(call: Call) -> Result<Reply, Failure> {
    let request: PolicyRequest = call.decode().await?;
    let committed = call.propose(Command::Settings(request.into())).await?;
    let view = call.front.view(Consistency::Local, committed.index, call.context.deadline).await?;
    let seen = look(&view, |state| PolicyView::new(state.settings(), state.pool()));
    Ok(Reply::json(&seen.value).at(seen.index))
}
