//! POST /v1/jobs

use std::sync::Arc;

use crate::{
    api::{Submission, SubmitAnswer, SubmitResult, decode_submission, status_of},
    http::{call::Call, failure::Failure, params, reply::Reply},
    queue::{applied::Answer, command::Command, job::Json},
};

/// Before the jobs that name them. Not part of the request under its key: keeping one twice changes nothing.
async fn keep_environments(call: &Call, submission: &Submission) -> Result<(), Failure> {
    for (digest, value) in &submission.environments {
        keep_environment(call, *digest, value.clone()).await?;
    }
    Ok(())
}

pub(super) async fn keep_environment(call: &Call, digest: u128, value: Json) -> Result<(), Failure> {
    let command = Command::Environment { digest, value };
    match call.propose_keyed(None, command, call.context.deadline).await?.answer {
        Answer::Refused(refusal) => Err(refusal.into()),
        _ => Ok(()),
    }
}

/// A refused lone spec answers with its refusal's status; a batch is 200 whatever became of its members.
pub async fn submit(call: Call) -> Result<Reply, Failure> {
    params::refuse_any(&call.context.path)?;
    let submitter = Arc::clone(&call.context.principal);
    let submission = call.decode_aside(move |body| Ok(decode_submission(body, &submitter)?)).await?;
    keep_environments(&call, &submission).await?;
    let command = Command::Submit { jobs: submission.jobs, atomic: submission.atomic };
    let committed = call.propose(command).await?;
    let Answer::Submitted(results) = committed.answer else { return Err(Failure::odd_answer()) };
    let results: Vec<SubmitResult> = results.into_iter().map(Into::into).collect();
    let error = results.first().and_then(|result| result.error.clone()).filter(|_| submission.lone);
    let status = error.as_ref().map_or(200, |error| status_of(&error.code));
    Ok(Reply::json(&SubmitAnswer { results, error }).status_number(status).at(committed.index))
}
