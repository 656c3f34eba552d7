//! The runner of golden scripts: commands in, answers and states out.
//!
//! `UPDATE_GOLDENFILES=1` writes the expectations anew; then they are read.

use std::{error::Error, sync::Arc};

use goldenscript::{Argument, ArgumentConsumer};

use super::{Bench, schedules, trace, words, words::Parsed};
use crate::queue::{
    command::{
        Autoarchive, CancelHow, Command, Edit, Free, Key, LeaseAction, LeaseItem, PoolChange, Report, SettingsChange,
        WorkerChange,
    },
    ids::{Index, JobId, LeaseId, Priority, WallMs},
    job::{Json, Office},
    ops::restore::Restoration,
    query::Listing,
    rows::{Row, RowKey, Rows},
};

mod scripts {
    use super::Script;

    macro_rules! scripts {
        ($($name:ident),* $(,)?) => {
            $(#[test]
            fn $name() {
                let path = concat!("src/queue/testscripts/", stringify!($name));
                goldenscript::run(&mut Script::default(), path).expect("the script's trace is as expected");
            })*
        };
    }

    scripts!(
        submit,
        claim,
        leases,
        success,
        failure,
        release,
        expire,
        restore,
        cancel,
        kick,
        bury,
        priority,
        archive,
        delete,
        edit,
        settings,
        keys,
        depends,
        children,
        needs,
        workers,
        impossible,
        environments,
        schedules,
        reads,
        reasons,
    );
}

#[derive(Default)]
struct Script {
    bench: Bench,
}

type Words<'a> = ArgumentConsumer<'a>;

impl goldenscript::Runner for Script {
    fn run(&mut self, command: &goldenscript::Command) -> Result<String, Box<dyn Error>> {
        let mut args = command.consume_args();
        if let Some(text) = self.look(&command.name, &mut args)? {
            args.reject_rest()?;
            return Ok(text);
        }
        let by = args.lookup("by").map_or("tester".to_owned(), |by| by.value.clone());
        let key = key(&mut args)?;
        let command = self.command(&command.name, &mut args)?;
        args.reject_rest()?;
        Ok(trace::applied(&self.bench.apply(&by, key, command)))
    }
}

impl Script {
    /// What asks or moves clocks, and is no entry.
    fn look(&mut self, name: &str, args: &mut Words) -> Parsed<Option<String>> {
        Ok(Some(match name {
            "advance" => {
                self.bench.advance(number(args)?);
                String::new()
            }
            "wall" => {
                self.bench.clocks.wall = WallMs(number(args)?);
                String::new()
            }
            "office" => {
                let (term, node, incarnation) = (number(args)?, number(args)?, number(args)?);
                self.bench.office = Office { term, node, incarnation };
                String::new()
            }
            "restore" => self.restore(args)?,
            "job" => self.jobs(&words::ids(&text(args)?)?),
            "jobs" => self.jobs(&self.bench.state.ids(Listing::default(), JobId(0), 100)),
            "list" => self.list(args)?,
            "rows" => self.rows(JobId(number(args)?)),
            "why" => self.bench.state.held_by(JobId(number(args)?)).iter().map(|held| format!("{held}\n")).collect(),
            "counts" => self.counts(),
            "schedules" => schedules::show(self.bench.state.schedules()),
            "next" => {
                let next = self.bench.state.next_deadline();
                format!("cluster {:?} wall {:?}\n", next.cluster.map(|at| at.0), next.wall.map(|at| at.0))
            }
            _ => return Ok(None),
        }))
    }

    fn restore(&mut self, args: &mut Words) -> Parsed<String> {
        let restoration = Restoration {
            index: Index(number(args)?),
            wall: self.bench.clocks.wall,
            last_job: JobId(args.lookup_parse("last_job")?.unwrap_or(0)),
            last_lease: LeaseId(args.lookup_parse("last_lease")?.unwrap_or(0)),
            paused: args.lookup_parse("paused")?.unwrap_or(false),
        };
        Ok(format!("{} leases ended\n", self.bench.restore(&restoration)))
    }

    fn jobs(&self, ids: &[JobId]) -> String {
        ids.iter().map(|id| self.job(*id)).collect()
    }

    fn job(&self, id: JobId) -> String {
        if let Some(job) = self.bench.state.job(id) {
            return trace::job(&self.bench.state, job);
        }
        let ended = [RowKey::Ended(id), RowKey::Archived(id)].into_iter().find_map(|key| self.bench.rows.get(&key));
        match ended.and_then(Row::into_ended).map(|ended| ended.job) {
            Some(job) if job.archived => format!("archived {}", trace::job(&self.bench.state, &job)),
            Some(job) => trace::job(&self.bench.state, &job),
            None => format!("no job {id}\n"),
        }
    }

    fn list(&self, args: &mut Words) -> Parsed<String> {
        let queue = args.lookup("queue").map(|queue| queue.value.clone());
        let status = args.lookup("status").map(|status| status.value.clone());
        let status = status.and_then(|name| crate::queue::job::Status::ALL.into_iter().find(|it| it.name() == name));
        let after = JobId(args.lookup_parse("after")?.unwrap_or(0));
        let limit = args.lookup_parse("limit")?.unwrap_or(100);
        let ids = self.bench.state.ids(Listing { queue: queue.as_deref(), status }, after, limit);
        Ok(format!("{:?}\n", ids.iter().map(|id| id.0).collect::<Vec<_>>()))
    }

    fn rows(&self, id: JobId) -> String {
        let rows = self.bench.rows.rows.iter().filter(|(key, _)| key.job() == Some(id));
        rows.filter_map(|(key, row)| trace::row(key, row)).map(|line| line + "\n").collect()
    }

    fn counts(&self) -> String {
        let state = &self.bench.state;
        let counters = state.counters();
        let mut text = format!(
            "live {} ended {} archived {} succeeded {} failed {} canceled {} names {}\n",
            state.live_count(),
            state.ended_count(),
            counters.archived,
            counters.ends.success,
            counters.ends.error,
            counters.ends.canceled,
            state.key_names()
        );
        for (queue, counts) in state.queues() {
            text += &format!("{queue} {counts:?}\n");
        }
        for (name, (max, running)) in state.limits() {
            text += &format!("limit {name} {max:?} running {running}\n");
        }
        text
    }

    fn command(&self, name: &str, args: &mut Words) -> Parsed<Command> {
        if let Some(change) = schedules::change(name, args, self.bench.state.schedules())? {
            return Ok(Command::Schedule(change));
        }
        let reason = if name == "batch" || name == "submit" { None } else { args.lookup("reason") };
        let reason: Option<Box<str>> = reason.map(|reason| reason.value.as_str().into());
        Ok(match name {
            "tick" => Command::Tick { hold_wall: args.lookup_parse("hold_wall")?.unwrap_or(false) },
            "submit" => Command::Submit { jobs: vec![Ok(Arc::new(words::spec(&rest(args))?))], atomic: false },
            "batch" => {
                let atomic = args.lookup_parse("atomic")?.unwrap_or(false);
                Command::Submit { jobs: members(args.rest_pos())?, atomic }
            }
            "claim" => Command::Claim(words::claim(&rest(args))?),
            "start" | "touch" | "success" | "failure" | "release" | "bury-held" => {
                let claim = args.lookup("then").map(|claim| words::claim(&split(&claim.value))).transpose()?;
                Command::Leases { items: vec![self.item(name, args, reason)?], claim }
            }
            "cancel" => Command::Cancel { ids: ids(args)?, how: how(args)?, reason },
            "kick-piece" => {
                let (ids, next) = (ids(args)?, args.lookup_parse("next")?.map(JobId));
                Command::Piece { command: Box::new(Command::Kick { ids: ids.clone() }), ids, next }
            }
            "kick" => Command::Kick { ids: ids(args)? },
            "bury" => Command::Bury { ids: ids(args)?, reason },
            "priority" => {
                let priority = Priority(args.lookup_parse("to")?.unwrap_or(0));
                Command::Priority { ids: ids(args)?, priority }
            }
            "archive" => Command::Archive { ids: ids(args)? },
            "autoarchive" => Command::Autoarchive(Autoarchive {
                age_ms: args.lookup_parse("age")?,
                limit: args.lookup_parse("limit")?.unwrap_or(100),
                after: None,
            }),
            "delete" => Command::Delete { ids: ids(args)? },
            "edit" => {
                let id = JobId(number(args)?);
                let version = args.lookup_parse("if_version")?.map(Index);
                let edit =
                    Command::Edit { id, edit: Box::new(Edit { spec: Some(Arc::new(words::spec(&rest(args))?)) }) };
                match version {
                    Some(version) => Command::IfVersion { id, version, command: Box::new(edit) },
                    None => edit,
                }
            }
            "drain" => Command::Drain { drained: text(args)? == "on", reason },
            "pause" | "resume" => Command::Pause {
                queue: args.next_pos().map(|name| name.value.as_str().into()),
                paused: name == "pause",
            },
            "pool" => Command::Pool(PoolChange {
                active: args.lookup_parse("active")?,
                size: args.lookup_parse("size")?,
                queues: args.lookup("queues").map(|names| names.value.split(',').map(Arc::from).collect()),
            }),
            "limit" => Command::Limit { name: text(args)?.as_str().into(), max: args.lookup_parse("max")? },
            "settings" => Command::Settings(settings(args)?),
            "worker" => Command::Worker(worker(args)?),
            "forget_queue" => Command::ForgetQueue { queue: text(args)?.as_str().into() },
            "forget" => Command::Forget { resource_group: text(args)?.as_str().into() },
            "environment" => {
                Command::Environment { digest: number(args)?.into(), value: Json(text(args)?.as_str().into()) }
            }
            _ => return Err(format!("unknown command {name}").into()),
        })
    }

    fn item(&self, name: &str, args: &mut Words, reason: Option<Box<str>>) -> Parsed<LeaseItem> {
        let job = JobId(number(args)?);
        let held = self.bench.state.job(job).and_then(|job| job.lease()).map_or(LeaseId(0), |lease| lease.id);
        let lease = args.lookup_parse("lease")?.map_or(held, LeaseId);
        let json = |arg: Option<&Argument>| arg.map(|arg| Json(arg.value.as_str().into()));
        let report = Box::new(Report {
            wall_ms: args.lookup_parse("wall_ms")?,
            peak_ram_mb: args.lookup_parse("peak")?,
            stdout: args.lookup("stdout").map(|text| text.value.as_str().into()),
            error: args.lookup("error").map(|text| text.value.as_str().into()),
            ..Report::default()
        });
        let log_seq = args.lookup_parse("seq")?;
        let log = args.lookup("log").map_or(Vec::new(), |lines| log(&lines.value));
        let action = match name {
            "start" => LeaseAction::Start {
                host: args.lookup("host").map(|host| host.value.as_str().into()),
                pid: args.lookup_parse("pid")?,
            },
            "touch" => {
                let (progress, checkpoint) = (json(args.lookup("progress")), json(args.lookup("checkpoint")));
                LeaseAction::Touch { log, log_seq, progress, checkpoint }
            }
            "success" => LeaseAction::Success {
                result: json(args.lookup("result")),
                atomic_children: args.lookup_parse("atomic")?.unwrap_or(false),
                jobs: members(args.rest_pos())?,
                report: Box::new(Report { log, log_seq, ..*report }),
            },
            "failure" => LeaseAction::Failure {
                fail_reason: reason.unwrap_or_else(|| "exit_nonzero".into()),
                retryable: args.lookup_parse("retryable")?,
                delay_ms: args.lookup_parse("delay")?,
                report: Box::new(Report { log, log_seq, ..*report }),
            },
            "release" => LeaseAction::Release { delay_ms: args.lookup_parse("delay")?.unwrap_or(0), reason },
            _ => LeaseAction::Bury { reason },
        };
        Ok(LeaseItem { job, lease, action })
    }
}

fn key(args: &mut Words) -> Parsed<Option<Key>> {
    let Some(key) = args.lookup("key") else { return Ok(None) };
    let (name, number) = key.value.split_once('/').unwrap_or((&key.value, "0"));
    let digest = args.lookup_parse("digest")?.unwrap_or(0);
    Ok(Some(Key { name: name.into(), number: number.parse()?, digest }))
}

fn text(args: &mut Words) -> Parsed<String> {
    Ok(args.next_pos().ok_or("something is missing")?.value.clone())
}

fn number(args: &mut Words) -> Parsed<u64> {
    Ok(text(args)?.parse()?)
}

fn ids(args: &mut Words) -> Parsed<Vec<JobId>> {
    words::ids(&text(args)?)
}

fn rest(args: &mut Words) -> Vec<String> {
    let word = |arg: &Argument| match &arg.key {
        Some(key) => vec![format!("{key}={}", arg.value)],
        None => split(&arg.value),
    };
    args.rest().into_iter().flat_map(word).collect()
}

fn split(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

fn members(args: Vec<&Argument>) -> Parsed<Vec<crate::queue::ops::submit::Member>> {
    args.into_iter().map(|arg| Ok(Ok(Arc::new(words::spec(&split(&arg.value))?)))).collect()
}

/// `TYPE:TEXT,TYPE:TEXT`
fn log(text: &str) -> Vec<(Box<str>, Box<str>)> {
    let line = |line: &str| line.split_once(':').map(|(kind, text)| (kind.into(), text.into()));
    text.split(',').filter_map(line).collect()
}

fn how(args: &mut Words) -> Parsed<CancelHow> {
    Ok(match args.lookup("how").map(|how| how.value.as_str()) {
        Some("kill") => CancelHow::Kill,
        Some("after_op") => CancelHow::AfterOp,
        Some(other) => return Err(format!("unknown way to cancel: {other}").into()),
        None => CancelHow::Waiting,
    })
}

fn settings(args: &mut Words) -> Parsed<SettingsChange> {
    let never = |arg: Option<&Argument>| -> Parsed<Option<Option<u64>>> {
        arg.map(|arg| if arg.value == "never" { Ok(None) } else { Ok(Some(arg.parse()?)) }).transpose()
    };
    Ok(SettingsChange {
        live_jobs_max: args.lookup_parse("live_jobs_max")?,
        archive_after_ms: never(args.lookup("archive_after"))?,
        delete_after_ms: never(args.lookup("delete_after"))?,
        pool_timeout_ms: args.lookup_parse("pool_timeout")?,
        bury_impossible: args.lookup_parse("bury_impossible")?,
    })
}

fn worker(args: &mut Words) -> Parsed<WorkerChange> {
    let id: Arc<str> = text(args)?.as_str().into();
    let (ttl_ms, is_pool) = (args.lookup_parse("ttl")?, args.lookup_parse("pool")?.unwrap_or(false));
    let resources: Vec<&Argument> = args.rest_key();
    let mut free = Free::default();
    for one in &resources {
        words::free(&mut free, one.name(), &one.value)?;
    }
    let (info, resources) = (Json("{}".into()), (!resources.is_empty()).then_some(free));
    Ok(match ttl_ms {
        _ if is_pool => WorkerChange::Pool { id, info, resources: free },
        Some(ttl_ms) => WorkerChange::Put { id, info, ttl_ms, resources },
        None => WorkerChange::Remove { id },
    })
}
