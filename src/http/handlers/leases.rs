//! POST /v1/leases

use super::granted;
use crate::{
    api::{ClaimRequest, LeaseItem, LeasesAnswer, LeasesRequest, OutputTail},
    http::{LiveOutput, call::Call, failure::Failure, params, reply::Reply},
    queue::{
        applied::Answer,
        command::{Claim, Command},
        ids::{JobId, LeaseId},
    },
};

/// Calls of holders, and a claim in the same entry.
pub async fn leases(call: Call) -> Result<Reply, Failure> {
    params::refuse_any(&call.context.path)?;
    let mut request: LeasesRequest = call.decode().await?;
    let outputs = take_outputs(&mut request.items);
    let claim = request.claim.map(claim).transpose()?;
    let items = LeasesRequest::items_into_queue(request.items)?;
    let asked = claim.as_ref().map(|claim| granted::asked(claim).to_vec()).unwrap_or_default();
    let committed = call.propose(Command::Leases { items, claim }).await?;
    let Answer::Leases { results, claimed } = committed.answer else { return Err(Failure::odd_answer()) };
    for (at, job, lease, output) in outputs {
        if results.get(at).is_some_and(Result::is_ok) {
            call.front.tails.put(job, lease, output);
        }
    }
    let jobs = granted::describe(&call, committed.index, &asked, claimed).await?;
    let results = results.into_iter().map(Into::into).collect();
    Ok(Reply::json(&LeasesAnswer { results, jobs }).at(committed.index))
}

type Output = (usize, JobId, LeaseId, LiveOutput);

/// Output that came with touches, by item.
fn take_outputs(items: &mut [LeaseItem]) -> Vec<Output> {
    let touches = items.iter_mut().enumerate().filter(|(_, item)| &*item.verb == "touch");
    let outputs = touches.filter_map(|(at, item)| {
        let output = match item.output.take()? {
            OutputTail::Stdout(stdout) => LiveOutput { stdout, stderr: String::new() },
            OutputTail::Both { stdout, stderr } => LiveOutput { stdout, stderr },
        };
        Some((at, item.job, item.lease, output))
    });
    outputs.collect()
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
