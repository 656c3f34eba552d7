//! Stated limits, each hit: what is one too many is refused by name, and what is there stays as it is.

use std::sync::Arc;

use super::words;
use crate::queue::{
    applied::Answer,
    command::{
        Clocks, Command, Definition, Entry, Key, LeaseAction, LeaseItem, Report, Request, ScheduleChange, WorkerChange,
    },
    ids::{ClusterMs, Index, JobId, LeaseId},
    job::{Json, Spec},
    limits,
    refusal::Refusal,
    rows::{KeyName, Row, RowKey, Rows},
    schedule::{Missed, Overlap, Timing},
    state::State,
    testing::{Bench, Memory},
};

/// A replica that is not reloaded after every entry: filling one up takes many.
#[derive(Default)]
struct Filled {
    state: State,
    rows: Memory,
    index: u64,
    cluster_ms: u64,
}

impl Filled {
    fn apply(&mut self, requests: Vec<Request>) -> Vec<Answer> {
        self.index += 1;
        let bench = Bench::default();
        let clocks = Clocks { cluster: ClusterMs(self.cluster_ms), ..bench.clocks };
        let entry = Entry { clocks, office: bench.office, requests };
        let answers = self.state.apply(&self.rows, Index(self.index), &entry).answers;
        self.rows.store(self.state.take_changes());
        answers
    }

    fn run(&mut self, command: Command) -> Answer {
        self.apply(vec![request(None, command)]).remove(0)
    }

    /// Submits jobs made by `spec`, and gives the refusals.
    fn submit(&mut self, numbers: std::ops::Range<usize>, spec: impl Fn(usize) -> Spec) -> Vec<Refusal> {
        let jobs = numbers.map(|number| Ok(Arc::new(spec(number)))).collect();
        let Answer::Submitted(results) = self.run(Command::Submit { jobs, atomic: false }) else {
            panic!("a submission is answered for each job")
        };
        results.into_iter().filter_map(Result::err).collect()
    }
}

fn request(key: Option<Key>, command: Command) -> Request {
    Request { principal: "tester".into(), key, command }
}

fn spec(text: &str) -> Spec {
    let words: Vec<String> = text.split_whitespace().map(str::to_owned).collect();
    words::spec(&words).expect("a spec of the test")
}

#[test]
fn queues_at_their_limit_refuse_one_more() {
    let mut filled = Filled::default();
    let named = |number: usize| Spec { queue: format!("q{number}").into(), ..spec("") };
    assert_eq!(filled.submit(0..limits::QUEUES_MAX, named), []);
    let refused = filled.submit(limits::QUEUES_MAX..limits::QUEUES_MAX + 1, named);
    assert!(refused[0].to_string().contains("10000 queues"), "{refused:?}");
    assert_eq!(filled.submit(0..1, named), [], "a known queue has room");
    filled.run(Command::Delete { ids: vec![JobId(7)] });
    assert_eq!(filled.submit(limits::QUEUES_MAX..limits::QUEUES_MAX + 1, named), [], "an empty one makes room");
}

#[test]
fn shapes_at_their_limit_refuse_one_more() {
    let mut filled = Filled::default();
    let shaped = |number: usize| spec(&format!("disk={number}"));
    assert_eq!(filled.submit(0..limits::SHAPES_MAX, shaped), []);
    assert_eq!(filled.submit(limits::SHAPES_MAX..limits::SHAPES_MAX + 1, shaped)[0].code(), "busy");
    filled.run(Command::Delete { ids: vec![JobId(7)] });
    assert_eq!(filled.submit(limits::SHAPES_MAX..limits::SHAPES_MAX + 1, shaped), [], "an unused one makes room");
}

/// What many members bring alike is one.
#[test]
fn batch_that_brings_the_same_many_times_takes_room_once() {
    let mut filled = Filled::default();
    filled.submit(0..1, |_| spec("queue=other disk=1 limits=other:1 resource_group=other"));
    let alike = |_| spec("queue=new disk=2 limits=new:1 resource_group=new");
    assert_eq!(filled.submit(0..limits::JOBS_PER_REQUEST_MAX, alike), []);
}

#[test]
fn resource_groups_at_their_limit_refuse_one_more() {
    let mut filled = Filled::default();
    let taught = |number: usize| spec(&format!("queue=q resource_group=g{number}"));
    let half = limits::RESOURCE_GROUPS_MAX / 2;
    assert_eq!(filled.submit(0..half, taught), []);
    filled.run(Command::Delete { ids: (1..=half as u64).map(JobId).collect() });
    let refused = filled.submit(half..limits::RESOURCE_GROUPS_MAX + 1, taught);
    assert_eq!(refused.len(), 1, "those without jobs have not forgotten what they learned");
    assert!(refused[0].code() == "busy" && refused[0].to_string().contains("resource groups"), "{refused:?}");
    assert_eq!(filled.submit(7..8, taught), [], "a known group has room");
    assert_eq!(filled.submit(0..1, |_| spec("")), [], "so has who names none");
    filled.run(Command::Forget { resource_group: "g7".into() });
    assert_eq!(filled.submit(half..half + 1, taught), [], "known");
    assert_eq!(filled.submit(limits::RESOURCE_GROUPS_MAX..limits::RESOURCE_GROUPS_MAX + 1, taught), []);
    assert_eq!(filled.submit(7..8, taught)[0].code(), "busy", "the forgotten one has made room");
}

/// It was known when its job was submitted.
#[test]
fn resource_group_that_was_forgotten_learns_no_more_when_there_is_no_room() {
    let mut filled = Filled::default();
    let taught = |number: usize| spec(&format!("resource_group=g{number}"));
    filled.submit(0..limits::RESOURCE_GROUPS_MAX, taught);
    let claim = words::claim(&["start=true".to_owned()]).expect("a claim of the test");
    filled.run(Command::Claim(claim));
    filled.run(Command::Forget { resource_group: "g0".into() });
    filled.run(Command::Delete { ids: vec![JobId(2)] });
    assert_eq!(filled.submit(limits::RESOURCE_GROUPS_MAX..limits::RESOURCE_GROUPS_MAX + 1, taught), []);
    let report = Box::new(Report { peak_ram_mb: Some(10), ..Report::default() });
    let action = LeaseAction::Success { result: None, jobs: Vec::new(), atomic_children: false, report };
    let item = LeaseItem { job: JobId(1), lease: LeaseId(1), action };
    let answer = filled.run(Command::Leases { items: vec![item], claim: None });
    assert!(matches!(answer, Answer::Leases { results, .. } if results[0].is_ok()));
    assert_eq!(filled.state.learned().len(), limits::RESOURCE_GROUPS_MAX);
}

#[test]
fn paused_queues_at_their_limit_refuse_one_more() {
    let mut filled = Filled::default();
    let pause = |number: usize, paused| Command::Pause { queue: Some(format!("q{number}").into()), paused };
    filled.apply((0..limits::QUEUES_MAX).map(|number| request(None, pause(number, true))).collect());
    let more = || pause(limits::QUEUES_MAX, true);
    assert!(matches!(filled.run(more()), Answer::Refused(why) if why.code() == "invalid"));
    assert_eq!(filled.run(pause(7, true)), Answer::Done, "it is paused already");
    assert_eq!(filled.run(Command::Pause { queue: None, paused: true }), Answer::Done, "all of them is one word");
    assert_eq!(filled.run(pause(7, false)), Answer::Done);
    assert_eq!(filled.run(Command::Pause { queue: None, paused: false }), Answer::Done);
    assert_eq!(filled.run(more()), Answer::Done, "one that is resumed makes room");
}

#[test]
fn limit_groups_at_their_limit_refuse_one_more() {
    let mut filled = Filled::default();
    let ceiling = |number: usize| Command::Limit { name: number.to_string().into(), max: Some(1) };
    filled.apply((0..limits::LIMIT_GROUPS_MAX).map(|number| request(None, ceiling(number))).collect());
    let refused = filled.run(Command::Limit { name: "more".into(), max: Some(1) });
    assert!(matches!(refused, Answer::Refused(why) if why.code() == "invalid"));
    assert_eq!(filled.submit(0..1, |_| spec("limits=more:1"))[0].code(), "busy");
    assert_eq!(filled.submit(0..1, |_| spec("limits=more,7:5")), [], "a group without a ceiling costs nothing");
    filled.run(Command::Limit { name: "7".into(), max: None });
    let refused = filled.submit(0..3, |number| spec(&format!("limits=new{number}:1")));
    assert_eq!(refused.len(), 2, "one batch has no more room than several: {refused:?}");
}

#[test]
fn workers_at_their_limit_refuse_one_more() {
    let mut filled = Filled::default();
    let put = |id: String| WorkerChange::Put { id: id.into(), info: Json("{}".into()), ttl_ms: 1, resources: None };
    let hello = |number: usize| request(None, Command::Worker(put(number.to_string())));
    let answers = filled.apply((0..limits::WORKERS_MAX).map(hello).collect());
    assert!(answers.iter().all(|answer| *answer == Answer::Done));
    let refused = filled.run(Command::Worker(put("more".to_owned())));
    assert!(matches!(refused, Answer::Refused(why) if why.code() == "busy"));
    assert_eq!(filled.run(Command::Worker(put("7".to_owned()))), Answer::Done);
    filled.run(Command::Worker(WorkerChange::Remove { id: "7".into() }));
    assert_eq!(filled.run(Command::Worker(put("more".to_owned()))), Answer::Done, "one that is removed makes room");
    while filled.state.next_deadline().cluster.is_some() {
        filled.cluster_ms = 1;
        filled.run(Command::Tick { hold_wall: false });
    }
    assert_eq!(filled.state.workers().len(), 0, "whoever is not heard of makes room by itself");
}

#[test]
fn schedules_at_their_limit_refuse_one_more() {
    let mut filled = Filled::default();
    let put = |name: String| {
        let (missed, overlap, timing) = (Missed::Once, Overlap::Allow, Timing::Every { ms: 1_000 });
        let definition = Definition { timing, missed, overlap, paused: None, spec: Arc::new(spec("")) };
        let definition = Box::new(definition);
        Command::Schedule(ScheduleChange::Put { name: name.into(), definition, if_absent: false })
    };
    let answers = filled.apply((0..limits::SCHEDULES_MAX).map(|n| request(None, put(n.to_string()))).collect());
    assert!(answers.iter().all(|answer| *answer == Answer::Done));
    assert!(matches!(filled.run(put("more".to_owned())), Answer::Refused(why) if why.code() == "busy"));
    assert_eq!(filled.run(put("7".to_owned())), Answer::Done, "one that is there may be defined anew");
    filled.run(Command::Schedule(ScheduleChange::Remove { name: "7".into() }));
    assert_eq!(filled.run(put("more".to_owned())), Answer::Done, "one that is removed makes room");
}

/// As many names as there may be.
struct Names;

impl Rows for Names {
    fn get(&self, _: &RowKey) -> Option<Row> {
        None
    }

    fn scan(&self, from: &RowKey, each: &mut dyn FnMut(RowKey, Row) -> bool) {
        if !matches!(from, RowKey::KeyName(..)) {
            return;
        }
        let principal: Arc<str> = "tester".into();
        for number in 0..limits::KEY_NAMES_MAX {
            let key = RowKey::KeyName(principal.clone(), format!("{number:06x}").into());
            if !each(key, Row::KeyName(KeyName::default())) {
                return;
            }
        }
    }
}

#[test]
fn key_names_at_their_limit_refuse_one_more_and_never_evict() {
    let mut filled = Filled { state: State::load(&Names), ..Filled::default() };
    let key = |number: usize| Key { name: format!("{number:06x}").into(), number: 1, digest: 0 };
    let asked = |number| request(Some(key(number)), Command::Drain { drained: false, reason: None });
    let refused = filled.apply(vec![asked(limits::KEY_NAMES_MAX)]).remove(0);
    assert!(matches!(refused, Answer::Refused(why) if why.code() == "busy"));
    assert!(matches!(filled.apply(vec![asked(0)]).remove(0), Answer::Drain(_)), "a known name has room");
    assert_eq!(filled.state.key_names(), limits::KEY_NAMES_MAX);
}

#[test]
fn environments_at_their_limit_refuse_one_more_until_one_is_unused() {
    let mut filled = Filled::default();
    let environment = |number: usize| Command::Environment { digest: number as u128, value: Json("{}".into()) };
    for number in 0..limits::ENVIRONMENTS_MAX {
        assert_eq!(filled.run(environment(number)), Answer::Done);
    }
    let named = |number: usize| Spec { environment: Some(number as u128), ..spec("") };
    assert_eq!(filled.submit(0..limits::ENVIRONMENTS_MAX, named), []);
    assert!(matches!(filled.run(environment(5_000)), Answer::Refused(why) if why.code() == "busy"));
    filled.run(Command::Delete { ids: vec![JobId(1)] });
    assert_eq!(filled.run(environment(5_000)), Answer::Done);
    assert_eq!(filled.submit(0..1, named)[0].code(), "invalid", "the unused one has made room");
}
