//! POST /v1/leases

use super::granted;
use crate::{
    api::{ClaimRequest, LeasesAnswer, LeasesRequest},
    http::{call::Call, failure::Failure, reply::Reply},
    queue::{
        applied::Answer,
        command::{Claim, Command},
    },
};

/// Calls of holders, and a claim in the same entry.
pub async fn leases(call: Call) -> Result<Reply, Failure> {
    let request: LeasesRequest = call.decode()?;
    let claim = request.claim.map(claim).transpose()?;
    let items = LeasesRequest::items_into_queue(request.items)?;
    let committed = call.propose(Command::Leases { items, claim }).await?;
    let Answer::Leases { results, claimed } = committed.answer else { return Err(Failure::odd_answer()) };
    let jobs = granted::describe(&call, committed.index, claimed).await?;
    let results = results.into_iter().map(Into::into).collect();
    Ok(Reply::json(&LeasesAnswer { results, jobs }).at(committed.index))
}

/// It is one entry: it cannot wait, or the answers to the calls would wait with it.
fn claim(request: ClaimRequest) -> Result<Claim, Failure> {
    match request.wait_ms {
        0 => Ok(request.into_queue()?),
        _ => {
            Err(Failure::invalid("claim.wait_ms", "a claim beside lease calls does not wait; claim on its own to wait"))
        }
    }
}
