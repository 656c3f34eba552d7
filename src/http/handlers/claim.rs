//! POST /v1/claim

use std::{collections::BTreeSet, time::Duration};

use tokio::time::Instant;

use super::granted;
use crate::{
    api::{ClaimAnswer, ClaimRequest},
    http::{
        call::Call,
        failure::Failure,
        hub::{InLine, Wake},
        params,
        reply::Reply,
    },
    queue::{
        applied::{Answer, Claimed},
        command::{Claim, Command, Wanted},
        refusal::Refusal,
    },
    raft::Committed,
};

type Grants = Vec<Result<Claimed, Refusal>>;

/// Proposed at once; if it finds nothing and may wait, again whenever something became ready.
pub async fn claim(mut call: Call) -> Result<Reply, Failure> {
    params::refuse_any(&call.context.path)?;
    let request: ClaimRequest = call.decode().await?;
    let until = Instant::now() + Duration::from_millis(request.wait_ms);
    let waits = request.wait_ms > 0;
    let claim = request.into_queue()?;
    match (&claim.wanted, waits) {
        (Wanted::Queues(queues), true) => {
            let queues = queues.iter().cloned().collect();
            call.let_go_of_buffer();
            wait_for_work(&call, &claim, queues, until).await
        }
        (Wanted::Queues(_) | Wanted::Ids(_), _) => {
            let committed = call.propose(Command::Claim(claim.clone())).await?;
            let (index, grants) = grants(committed)?;
            reply(&call, &claim, index, grants).await
        }
    }
}

async fn wait_for_work(
    call: &Call,
    claim: &Claim,
    queues: BTreeSet<std::sync::Arc<str>>,
    until: Instant,
) -> Result<Reply, Failure> {
    let choosy = claim.kinds.is_some() || claim.resource_groups.is_some() || claim.free.is_some();
    // In line before the first look, so that nothing falls between.
    let Some(place) = call.front.hub.claims.enter(queues, choosy) else { return Err(Failure::busy()) };
    loop {
        let (index, grants) = propose(call, claim).await?;
        let waited_out = Instant::now() >= until;
        if !grants.is_empty() || waited_out || call.front.hub.has_ended() {
            place.leave_with(grants.len());
            return reply(call, claim, index, grants).await;
        }
        place.found_nothing();
        if !work_came(call, &place, until).await? {
            return reply(call, claim, index, grants).await;
        }
    }
}

/// Whether to look again; false when the time is up.
async fn work_came(call: &Call, place: &InLine<'_>, until: Instant) -> Result<bool, Failure> {
    match tokio::time::timeout_at(until, place.woken()).await {
        Err(_) => Ok(false),
        Ok(Wake::Try) => Ok(true),
        Ok(Wake::SentAway) if call.front.hub.has_ended() => Err(Failure::no_leader()),
        Ok(Wake::SentAway) => match call.front.other_leader() {
            Some(leader) => Err(call.elsewhere(leader).await),
            None => Err(Failure::no_leader()),
        },
    }
}

/// Under one key each time: an empty answer is not kept, and the first that hands something out is. Each look has the time
/// that a request has: waiting for work is no reason to wait for a majority (P11).
async fn propose(call: &Call, claim: &Claim) -> Result<(u64, Grants), Failure> {
    let deadline = Instant::now() + call.context.timeout;
    let committed = call.propose_keyed(call.context.key(&call.body), Command::Claim(claim.clone()), deadline).await?;
    grants(committed)
}

fn grants(committed: Committed) -> Result<(u64, Grants), Failure> {
    match committed.answer {
        Answer::Claimed(grants) => Ok((committed.index, grants)),
        Answer::Refused(refusal) => Err(refusal.into()),
        _ => Err(Failure::odd_answer()),
    }
}

async fn reply(call: &Call, claim: &Claim, index: u64, grants: Grants) -> Result<Reply, Failure> {
    let jobs = granted::describe(call, index, granted::asked(claim), grants).await?;
    Ok(Reply::json(&ClaimAnswer { jobs }).at(index))
}
