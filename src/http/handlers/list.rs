//! GET /v1/jobs: pages of jobs, by id or by urgency, or examples of those that are alike.

use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, Serialize, Serializer, ser::SerializeMap};
use tokio::time::Instant;

use super::job::parse_fields;
use crate::{
    api::{Field, JobDoc, JobParts, WAIT_MS_MAX},
    http::{
        call::Call,
        failure::Failure,
        params::Params,
        read::{self, Seen},
        reply::Reply,
        select::{Page, Selection, SelectionParams, Urgency, parse_ids},
    },
    queue::{
        ids::{JobId, Priority},
        job::Status,
        rows::Rows,
    },
    raft::{Consistency, View},
};

/// Rows of a page.
const LIMIT_MAX: usize = 1_000;
const LIMIT_DEFAULT: usize = 100;
/// A page ends behind the row that passes this.
const BYTES_MAX: usize = 4 << 20;
/// Ids asked for by name; as many as a page has rows.
const IDS_MAX: usize = LIMIT_MAX;
/// Pieces of the selection that one call may count when it groups what is alike.
const PIECES_MAX: usize = 16;
/// A page that fits nothing is no answer while there is time to look further.
const LOOK_FOR: Duration = Duration::from_millis(250);
/// A listing that waits looks no more often than this, however much happens.
const LOOK_EVERY: Duration = Duration::from_millis(20);

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
    order: Option<String>,
    similar: Option<usize>,
    limit: Option<usize>,
    after: Option<String>,
    wait_ms: Option<u64>,
}

#[derive(Clone)]
struct ListRequest {
    what: What,
    selection: Selection,
    fields: Vec<Field>,
    limit: usize,
}

#[derive(Clone)]
enum What {
    Named(Vec<JobId>),
    ById {
        after: JobId,
    },
    ByUrgency {
        after: Option<Urgency>,
    },
    /// So many of each kind.
    Similar {
        each: usize,
        after: JobId,
    },
}

pub async fn list(Params(params): Params<ListParams>, call: Call) -> Result<Reply, Failure> {
    let wait_ms = params.wait_ms.unwrap_or(0);
    if wait_ms > WAIT_MS_MAX {
        return Err(Failure::invalid("wait_ms", "wait at most 60000 ms, then ask again"));
    }
    let until = Instant::now() + Duration::from_millis(wait_ms);
    let request = params.meaning()?;
    let mut newest = call.front.hub.events.newest();
    let mut view = call.view().await?;
    loop {
        newest.mark_unchanged();
        let looking = request.clone();
        // Rows come from disk: not on the threads that answer everybody.
        let looked = tokio::task::spawn_blocking(move || looking.look(&view)).await;
        let (reply, found) = looked.map_err(|_| Failure::internal())?;
        if found || call.front.hub.has_ended() || !changed(&mut newest, until).await {
            return Ok(reply);
        }
        view = call.front.view(Consistency::Local, 0, until).await?;
    }
}

/// False when the time is up.
async fn changed(newest: &mut tokio::sync::watch::Receiver<(u64, u32)>, until: Instant) -> bool {
    let soonest = Instant::now() + LOOK_EVERY;
    let heard = tokio::time::timeout_at(until, newest.changed()).await;
    tokio::time::sleep_until(soonest.min(until)).await;
    matches!(heard, Ok(Ok(())))
}

impl ListParams {
    fn meaning(self) -> Result<ListRequest, Failure> {
        let limit = self.limit.unwrap_or(LIMIT_DEFAULT);
        if limit == 0 || limit > LIMIT_MAX {
            return Err(Failure::invalid("limit", "a page has 1 to 1000 jobs"));
        }
        let fields = self.fields.as_deref().map(parse_fields).transpose()?.unwrap_or_else(Field::summary);
        Ok(ListRequest { what: self.what()?, limit, fields, selection: self.selection()? })
    }

    fn what(&self) -> Result<What, Failure> {
        let cursor = || Failure::invalid("after", "give `next` of the page before");
        if let Some(ids) = self.ids.as_deref().map(parse_ids).transpose()? {
            self.only_named()?;
            return match ids.len() {
                0..=IDS_MAX => Ok(What::Named(ids)),
                _ => Err(Failure::invalid("ids", "ask for at most 1000 ids at once")),
            };
        }
        let after = self.after.as_deref();
        match (self.order.as_deref(), self.similar) {
            (Some("priority"), None) => {
                let after = after.map(|text| urgency(text).ok_or_else(cursor)).transpose()?;
                Ok(What::ByUrgency { after })
            }
            (Some("priority"), Some(_)) => {
                Err(Failure::invalid("similar", "what is alike is shown in the order of ids"))
            }
            (None | Some("id"), similar) => {
                let after = JobId(after.map_or(Ok(0), str::parse).map_err(|_| cursor())?);
                Ok(similar.map_or(What::ById { after }, |each| What::Similar { each: each.max(1), after }))
            }
            (Some(_), _) => Err(Failure::invalid("order", "order by id or by priority")),
        }
    }

    /// Named jobs are answered at once, in the order in which they are named.
    fn only_named(&self) -> Result<(), Failure> {
        let is_ordered = self.order.as_deref().is_some_and(|order| order != "id");
        let beside = [("after", self.after.is_some()), ("order", is_ordered), ("similar", self.similar.is_some())];
        match beside.into_iter().find(|(_, is_given)| *is_given) {
            Some((name, _)) => {
                Err(Failure::invalid(name, "jobs named by ids come in one page and in that order; leave it out"))
            }
            None => Ok(()),
        }
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

/// `PRIORITY:ID`
fn urgency(text: &str) -> Option<Urgency> {
    let (priority, id) = text.split_once(':')?;
    Some((Priority(priority.parse().ok()?), JobId(id.parse().ok()?)))
}

impl ListRequest {
    /// The answer, and whether it holds any job.
    fn look(&self, view: &View) -> (Reply, bool) {
        match &self.what {
            What::Named(ids) => self.named(view, ids),
            What::ById { after } => {
                let piece = |after| self.selection.page(view, after, self.limit, &self.fields);
                let page = first_found(piece(*after), piece);
                self.page(page, |parts| parts.job.id, JobId::to_string)
            }
            What::ByUrgency { after } => {
                let piece = |after| self.selection.urgent_page(view, after, self.limit, &self.fields);
                let page = first_found(piece(*after), |next| piece(Some(next)));
                let cursor = |parts: &JobParts| (parts.job.priority(), parts.job.id);
                self.page(page, cursor, |(priority, id)| format!("{priority}:{id}"))
            }
            What::Similar { each, after } => self.similar(view, *each, *after),
        }
    }

    fn named(&self, view: &View, ids: &[JobId]) -> (Reply, bool) {
        let Seen { index, rows, mut value } = read::jobs(view, ids, &self.fields);
        let fits: Vec<bool> = value
            .iter_mut()
            .map(|parts| parts.as_mut().is_none_or(|parts| self.selection.fits(&*rows, parts)))
            .collect();
        for parts in value.iter_mut().flatten() {
            read::complete(&*rows, parts, &self.fields);
        }
        let listed = ids.iter().zip(&value).map(|(id, parts)| match parts {
            Some(parts) => Listed::Job(JobDoc::new(parts, &self.fields)),
            None => Listed::Missing(*id),
        });
        let jobs: Vec<_> = listed.zip(fits).filter_map(|(listed, fits)| fits.then_some(listed)).collect();
        let found = !jobs.is_empty();
        (Reply::json(&ListAnswer { jobs, next: None }).at(index), found)
    }

    /// As much of a page as fits into an answer.
    fn page<C>(
        &self,
        mut page: Page<C>,
        cursor: impl Fn(&JobParts) -> C,
        text: impl Fn(&C) -> String,
    ) -> (Reply, bool) {
        let mut bytes = 0;
        let mut fit = page.jobs.len();
        for (at, parts) in page.jobs.iter_mut().enumerate() {
            read::complete(&*page.rows, parts, &self.fields);
            bytes += serde_json::to_vec(&JobDoc::new(parts, &self.fields)).map_or(0, |json| json.len());
            if bytes > BYTES_MAX && at + 1 < fit {
                fit = at + 1;
                break;
            }
        }
        if fit < page.jobs.len() {
            page.jobs.truncate(fit);
            page.next = page.jobs.last().map(cursor);
        }
        let jobs = page.jobs.iter().map(|parts| Listed::Job(JobDoc::new(parts, &self.fields))).collect();
        let next = page.next.as_ref().map(text);
        (Reply::json(&ListAnswer { jobs, next }).at(page.index), !page.jobs.is_empty())
    }

    /// A few jobs of each status, exit code and reason, with how many there are.
    fn similar(&self, view: &View, each: usize, mut after: JobId) -> (Reply, bool) {
        let mut kinds: BTreeMap<Kind, (u64, Vec<JobParts>)> = BTreeMap::new();
        let (mut index, mut next) = (0, None);
        for _ in 0..PIECES_MAX {
            let page = self.selection.page(view, after, LIMIT_MAX, &self.fields);
            index = page.index;
            for mut parts in page.jobs {
                let (count, examples) = kinds.entry(kind(&*page.rows, &mut parts)).or_default();
                *count += 1;
                if examples.len() < each {
                    read::complete(&*page.rows, &mut parts, &self.fields);
                    examples.push(parts);
                }
            }
            next = page.next;
            match next {
                Some(last) => after = last,
                None => break,
            }
        }
        let with_count = kinds.values().flat_map(|(count, jobs)| jobs.iter().map(move |parts| (*count, parts)));
        let jobs: Vec<_> =
            with_count.map(|(count, parts)| Listed::Job(JobDoc::new(parts, &self.fields).similar(count))).collect();
        let found = !jobs.is_empty();
        (Reply::json(&ListAnswer { jobs, next: next.map(|id| id.to_string()) }).at(index), found)
    }
}

/// Rows of one piece are of one index of the log, so pieces are not put together; but one that holds none is passed over.
fn first_found<C: Copy>(mut page: Page<C>, piece: impl Fn(C) -> Page<C>) -> Page<C> {
    let until = Instant::now() + LOOK_FOR;
    while page.jobs.is_empty()
        && let Some(next) = page.next
        && Instant::now() < until
    {
        page = piece(next);
    }
    page
}

/// What makes jobs alike.
type Kind = (Status, Option<i32>, Option<Box<str>>);

fn kind(rows: &dyn Rows, parts: &mut JobParts) -> Kind {
    read::complete(rows, parts, &[Field::ExitCode]);
    let attempt = parts.last_attempt();
    let (exit_code, reason) = attempt.map_or((None, None), |attempt| (attempt.exit_code, attempt.fail_reason.clone()));
    (parts.job.status(), exit_code, reason)
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
