//! POST /v1/jobs/bulk

use serde_json::{Map, Value};

use crate::{
    api::{BulkAnswer, BulkRefusal, BulkRequest, decode_bulk},
    http::{
        call::Call,
        failure::Failure,
        read,
        reply::Reply,
        select::{SelectionParams, parse_ids},
    },
    queue::{
        applied::{Answer, JobBrief},
        command::Command,
        ids::JobId,
        refusal::Refusal,
    },
};

/// Jobs of one piece: one entry of the log, and not too long for those that wait behind it.
const PIECE_MAX: usize = 1_000;
/// Refusals told one by one; all are counted.
const REFUSALS_MAX: usize = 100;

pub async fn bulk(call: Call) -> Result<Reply, Failure> {
    let request = call.decode_aside(|body| Ok(decode_bulk(body)?)).await?;
    // A verb that is wrong is refused even where it would meet no job.
    request.act.command(Vec::new())?;
    call.leader_only().await?;
    let (index, ids, next) = piece(&call, &request).await?;
    // Under a key the log says what the piece was: a repeat is told of the first one, whatever fits by now.
    let in_log = !ids.is_empty() || call.context.key(&call.body).is_some();
    if request.dry_run || !in_log {
        let answer = BulkAnswer { matched: ids.len() as u64, ..BulkAnswer::new(next) };
        return Ok(Reply::json(&answer).at(index));
    }
    let command = Box::new(request.act.command(ids.clone())?);
    let committed = call.propose(Command::Piece { command, ids, next }).await?;
    let Answer::Piece { ids, results, next } = committed.answer else { return Err(Failure::odd_answer()) };
    let mut answer = BulkAnswer { matched: ids.len() as u64, ..BulkAnswer::new(next) };
    count(&mut answer, &ids, results);
    Ok(Reply::json(&answer).at(committed.index))
}

/// The jobs of this piece, and where the next begins.
async fn piece(call: &Call, request: &BulkRequest) -> Result<(u64, Vec<JobId>, Option<JobId>), Failure> {
    let after = request.after.as_deref().map_or(Ok(0), str::parse).map(JobId);
    let after = after.map_err(|_| Failure::invalid("after", "give `next` of the piece before"))?;
    let limit = request.limit.unwrap_or(PIECE_MAX);
    if limit == 0 || limit > PIECE_MAX {
        return Err(Failure::invalid("limit", "a piece has 1 to 1000 jobs"));
    }
    let mut params = selection(&request.select)?;
    let named = params.ids.take();
    let selection = params.meaning()?;
    let view = call.view().await?;
    let looking = tokio::task::spawn_blocking(move || match named {
        None => {
            let page = selection.page(&view, after, limit, &[]);
            Ok((page.index, page.jobs.iter().map(|parts| parts.job.id).collect(), page.next))
        }
        Some(text) => {
            let mut ids: Vec<JobId> = parse_ids(&text)?.into_iter().filter(|id| *id > after).collect();
            ids.sort_unstable();
            ids.dedup();
            let next = (ids.len() > limit).then(|| ids[limit - 1]);
            ids.truncate(limit);
            let mut seen = read::jobs(&view, &ids, &[]);
            let fits = seen.value.iter_mut().map(|parts| match parts {
                Some(parts) => selection.fits(&*seen.rows, parts),
                // So that it is refused by name.
                None => true,
            });
            let ids = ids.iter().zip(fits).filter(|(_, fits)| *fits).map(|(id, _)| *id).collect();
            Ok((seen.index, ids, next))
        }
    });
    looking.await.map_err(|_| Failure::internal())?
}

/// `select` has the names of a listing's query string, with values as JSON has them.
fn selection(fields: &Map<String, Value>) -> Result<SelectionParams, Failure> {
    let text = |value: &Value| match value {
        Value::Array(items) => Value::String(items.iter().map(plain).collect::<Vec<_>>().join(",")),
        Value::Bool(_) | Value::Null => value.clone(),
        other => Value::String(plain(other)),
    };
    let fields: Map<String, Value> = fields.iter().map(|(name, value)| (name.clone(), text(value))).collect();
    let bytes = serde_json::to_vec(&fields).expect("JSON values encode");
    crate::api::decode(&bytes).map_err(|refusal| match refusal {
        Refusal::Invalid { field, message } => Failure::invalid(&format!("select.{field}"), &message),
        other => other.into(),
    })
}

fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn count(answer: &mut BulkAnswer, ids: &[JobId], results: Vec<Result<JobBrief, Refusal>>) {
    for (id, result) in ids.iter().zip(results) {
        match result {
            Ok(brief) if brief.changed => answer.changed += 1,
            Ok(_) => answer.unchanged += 1,
            Err(refusal) => {
                answer.refused += 1;
                if answer.refusals.len() < REFUSALS_MAX {
                    let (code, message) = (refusal.code().to_owned(), refusal.to_string());
                    answer.refusals.push(BulkRefusal { id: *id, code, message });
                }
            }
        }
    }
}
