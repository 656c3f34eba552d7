//! GET /v1/jobs: pages of jobs, in the order of their ids.

use serde::{Deserialize, Serialize, Serializer, ser::SerializeMap};

use super::job::parse_fields;
use crate::{
    api::{Field, JobDoc},
    http::{
        call::Call,
        failure::Failure,
        params::Params,
        read::{self, Seen},
        reply::Reply,
        select::{Selection, SelectionParams, parse_ids},
    },
    queue::ids::JobId,
    raft::View,
};

/// Rows of a page.
const LIMIT_MAX: usize = 1_000;
const LIMIT_DEFAULT: usize = 100;
/// Ids asked for by name; as many as a page has rows.
const IDS_MAX: usize = LIMIT_MAX;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ListParams {
    ids: Option<String>,
    status: Option<String>,
    queue: Option<String>,
    group: Option<String>,
    name: Option<String>,
    worker: Option<String>,
    unique: Option<String>,
    filter: Option<String>,
    fields: Option<String>,
    archived: Option<bool>,
    unclaimed: Option<bool>,
    limit: Option<usize>,
    after: Option<String>,
}

#[derive(Serialize)]
struct ListAnswer<'a> {
    jobs: Vec<Listed<'a>>,
    /// Give it as `after` to go on.
    next: Option<String>,
}

enum Listed<'a> {
    Job(JobDoc<'a>),
    Missing(JobId),
}

impl Serialize for Listed<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Listed::Job(job) => job.serialize(serializer),
            Listed::Missing(id) => {
                let mut map = serializer.serialize_map(Some(2))?;
                map.serialize_entry("id", id)?;
                map.serialize_entry("missing", &true)?;
                map.end()
            }
        }
    }
}

pub async fn list(Params(params): Params<ListParams>, call: Call) -> Result<Reply, Failure> {
    let request = params.meaning()?;
    let view = call.view().await?;
    // Rows come from disk: not on the threads that answer everybody.
    let listing = tokio::task::spawn_blocking(move || request.look(&view));
    listing.await.map_err(|_| Failure::internal())
}

struct ListRequest {
    ids: Option<Vec<JobId>>,
    selection: Selection,
    fields: Vec<Field>,
    limit: usize,
    after: JobId,
}

impl ListParams {
    fn meaning(self) -> Result<ListRequest, Failure> {
        let limit = self.limit.unwrap_or(LIMIT_DEFAULT);
        if limit == 0 || limit > LIMIT_MAX {
            return Err(Failure::invalid("limit", "a page has 1 to 1000 jobs"));
        }
        let ids = self.ids.as_deref().map(parse_ids).transpose()?;
        if ids.as_ref().is_some_and(|ids| ids.len() > IDS_MAX) {
            return Err(Failure::invalid("ids", "ask for at most 1000 ids at once"));
        }
        let after = self.after.as_deref().map_or(Ok(0), str::parse);
        Ok(ListRequest {
            ids,
            fields: self.fields.as_deref().map(parse_fields).transpose()?.unwrap_or_else(Field::summary),
            limit,
            after: JobId(after.map_err(|_| Failure::invalid("after", "give `next` of the page before"))?),
            selection: self.selection()?,
        })
    }

    fn selection(self) -> Result<Selection, Failure> {
        SelectionParams {
            ids: None,
            status: self.status,
            queue: self.queue,
            group: self.group,
            name: self.name,
            worker: self.worker,
            unique: self.unique,
            filter: self.filter,
            archived: self.archived,
            unclaimed: self.unclaimed,
        }
        .meaning()
    }
}

impl ListRequest {
    fn look(self, view: &View) -> Reply {
        match &self.ids {
            Some(ids) => self.by_id(view, ids),
            None => self.page(view),
        }
    }

    fn by_id(&self, view: &View, ids: &[JobId]) -> Reply {
        let Seen { index, rows, mut value } = read::jobs(view, ids, &self.fields);
        for parts in value.iter_mut().flatten() {
            read::complete(&*rows, parts, &self.fields);
        }
        let listed = ids.iter().zip(&value).map(|(id, parts)| match parts {
            Some(parts) => Listed::Job(JobDoc { parts, fields: &self.fields }),
            None => Listed::Missing(*id),
        });
        Reply::json(&ListAnswer { jobs: listed.collect(), next: None }).at(index)
    }

    fn page(&self, view: &View) -> Reply {
        let (index, rows, mut page) = self.selection.page(view, self.after, self.limit, &self.fields);
        for parts in &mut page.jobs {
            read::complete(&*rows, parts, &self.fields);
        }
        let jobs = page.jobs.iter().map(|parts| Listed::Job(JobDoc { parts, fields: &self.fields })).collect();
        Reply::json(&ListAnswer { jobs, next: page.next.map(|id| id.to_string()) }).at(index)
    }
}
