//! One verb for many jobs, chosen by what they are: a bounded piece for each call.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{
    decode::decode,
    verbs::{BuryRequest, CancelRequest, Nothing, PriorityRequest},
};
use crate::queue::{command::Command, ids::JobId, refusal::Refusal};

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BulkRequest {
    #[serde(rename = "do")]
    pub act: BulkDo,
    /// As in the query string of a listing. `{}` is every live job, and has to be said: what forgets it must not delete all.
    pub select: Map<String, Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
    /// `next` of the piece before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
    /// Only counts.
    #[serde(default)]
    pub dry_run: bool,
}

/// The fields that are not the verb's own.
const FIELDS: [&str; 5] = ["do", "select", "limit", "after", "dry_run"];

/// Reads a call whose verb has its fields inside `do`, or beside it: `{"do": "cancel", "kill": true, "select": {...}}`.
pub fn decode_bulk(body: &[u8]) -> Result<BulkRequest, Refusal> {
    let mut written: Map<String, Value> = decode(body)?;
    let names = written.keys().filter(|name| !FIELDS.contains(&name.as_str())).cloned().collect::<Vec<_>>();
    let beside: Vec<_> = names.into_iter().filter_map(|name| written.remove_entry(&name)).collect();
    let mut request: BulkRequest = decode(&serde_json::to_vec(&written).expect("JSON values encode"))?;
    if !beside.is_empty() {
        request.act = request.act.with(beside);
    }
    Ok(request)
}

/// `"kick"`, or `{"verb": "cancel", "kill": true}` with the fields of the verb's own request.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(untagged, expecting = "name a verb, as `\"kick\"`, or as `\"verb\"` in an object with its fields")]
pub enum BulkDo {
    Verb(String),
    With(Map<String, Value>),
}

impl BulkDo {
    fn with(self, more: Vec<(String, Value)>) -> Self {
        let mut fields = match self {
            BulkDo::Verb(verb) => Map::from_iter([("verb".to_owned(), verb.into())]),
            BulkDo::With(fields) => fields,
        };
        fields.extend(more);
        BulkDo::With(fields)
    }

    /// The command for these jobs.
    pub fn command(&self, ids: Vec<JobId>) -> Result<Command, Refusal> {
        let mut fields = match self {
            BulkDo::Verb(_) => Map::new(),
            BulkDo::With(fields) => fields.clone(),
        };
        let verb = match (self, fields.remove("verb")) {
            (BulkDo::Verb(verb), _) => verb.clone(),
            (BulkDo::With(_), Some(Value::String(verb))) => verb,
            (BulkDo::With(_), _) => return Err(Refusal::invalid("do.verb", "name the verb")),
        };
        let text = serde_json::to_vec(&fields).expect("JSON values encode");
        command(&verb, &text, ids).map_err(|refusal| match refusal {
            Refusal::Invalid { field, message } => Refusal::invalid(format!("do.{field}"), message),
            other => other,
        })
    }
}

fn command(verb: &str, fields: &[u8], ids: Vec<JobId>) -> Result<Command, Refusal> {
    Ok(match verb {
        "cancel" => {
            let request: CancelRequest = decode(fields)?;
            Command::Cancel { ids, how: request.how()?, reason: request.reason }
        }
        "bury" => Command::Bury { ids, reason: decode::<BuryRequest>(fields)?.reason },
        "priority" => Command::Priority { ids, priority: decode::<PriorityRequest>(fields)?.priority.into() },
        "kick" => decode::<Nothing>(fields).map(|_| Command::Kick { ids })?,
        "archive" => decode::<Nothing>(fields).map(|_| Command::Archive { ids })?,
        "delete" => decode::<Nothing>(fields).map(|_| Command::Delete { ids })?,
        other => {
            let message = format!("`{other}` is not one of cancel, kick, bury, priority, archive, delete");
            return Err(Refusal::invalid("verb", message));
        }
    })
}

/// Counts of one piece.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BulkAnswer {
    pub matched: u64,
    pub changed: u64,
    /// Nothing was to be done.
    pub unchanged: u64,
    pub refused: u64,
    pub refusals: Vec<BulkRefusal>,
    pub next: Option<String>,
}

impl BulkAnswer {
    /// Of a piece that ends here, and of which nothing is counted yet.
    pub fn new(next: Option<JobId>) -> Self {
        Self { next: next.map(|id| id.to_string()), ..Self::default() }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BulkRefusal {
    pub id: JobId,
    pub code: String,
    pub message: String,
}
