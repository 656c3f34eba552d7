//! One log, given to both.

use std::panic::{AssertUnwindSafe, catch_unwind};

use raftq::queue::{
    Restoration, State,
    applied::{Answer, Applied},
    command::{Entry, Request},
    ids::Index,
    invariants,
};

use super::{
    compare::{adopt, plain, same_jobs},
    effects::same_effects,
    rows::same_rows,
    views::{same_histories, same_memory, same_views},
};
use crate::{
    generate::{EntrySeed, Hand},
    promises::Promises,
    reference::Model,
    store::Store,
};

pub struct Pair {
    pub model: Model,
    pub core: State,
    pub store: Store,
    pub hand: Hand,
    promises: Promises,
    index: Index,
    /// What was asked and what the core answered, for whoever reads a failure.
    trace: Vec<String>,
}

/// One step of a log: a restore at times, and an entry.
pub struct Happened {
    pub restoration: Option<Restoration>,
    pub entry: Entry,
}

impl Pair {
    pub fn new() -> Self {
        Self {
            model: Model::default(),
            core: State::default(),
            store: Store::default(),
            hand: Hand::new(),
            promises: Promises::default(),
            index: Index(0),
            trace: Vec::new(),
        }
    }

    /// Turns the seed into an entry, applies it on both sides, and compares.
    pub fn step(&mut self, seed: &EntrySeed) -> Result<Happened, String> {
        let restoration = self.restoration(seed);
        if let Some(restoration) = &restoration {
            self.model.restore(restoration);
            self.restore(restoration).map_err(|what| self.with_trace(&what))?;
        }
        let (requests, mine) = self.requests(seed);
        let (clocks, office) = (self.model.now, self.model.office);
        let entry = Entry { clocks, office, requests };
        self.compare(&entry, &mine)?;
        Ok(Happened { restoration, entry })
    }

    /// What the seed comes to in the model's present situation, and the model's answers.
    pub fn model_only(&mut self, seed: &EntrySeed) -> (Vec<Request>, Vec<Answer>) {
        if let Some(restoration) = self.restoration(seed) {
            self.model.restore(&restoration);
            self.index = restoration.index;
        }
        self.requests(seed)
    }

    fn restoration(&self, seed: &EntrySeed) -> Option<Restoration> {
        seed.restore.map(|paused| self.hand.restoration(&self.model, paused))
    }

    fn requests(&mut self, seed: &EntrySeed) -> (Vec<Request>, Vec<Answer>) {
        let (clocks, office) = self.hand.begin(seed);
        self.index = Index(self.index.0 + 1);
        self.model.begin(self.index, clocks, office);
        let (mut requests, mut answers) = (Vec::new(), Vec::new());
        for (key, step) in &seed.requests {
            let request = self.hand.request(&self.model, *key, step);
            let answer = self.model.request(&request);
            self.hand.answered(&answer);
            requests.push(request);
            answers.push(answer);
        }
        (requests, answers)
    }

    /// The core is restored as it is in truth: from rows.
    fn restore(&mut self, restoration: &Restoration) -> Result<(), String> {
        self.trace.push(format!("{restoration:?}"));
        self.index = restoration.index;
        self.core = State::load(&self.store);
        let restore = AssertUnwindSafe(|| self.core.restore(&self.store, restoration));
        catch_unwind(restore).map_err(|panic| format!("the core panicked: {}", words(&*panic)))?;
        self.store.take(self.core.take_changes());
        self.promises.restored();
        self.agree()
    }

    /// The core starts again from what is stored.
    pub fn restart(&mut self) -> Result<(), String> {
        self.trace.push("a restart".to_owned());
        self.core = State::load(&self.store);
        self.agree().map_err(|what| self.with_trace(&what))
    }

    fn with_trace(&self, what: &str) -> String {
        format!("{what}\n\n{}\n", self.trace.join("\n"))
    }

    /// What a restart would read back is what there is.
    pub fn check_memory(&self) -> Result<(), String> {
        let same = same_memory(&self.core, &self.store).and_then(|()| same_histories(&self.model, &self.store));
        same.map_err(|what| self.with_trace(&what))
    }

    /// An entry that is already made.
    pub fn apply(&mut self, entry: &Entry) -> Result<Applied, String> {
        self.index = Index(self.index.0 + 1);
        let mine = self.model.apply(self.index, entry);
        self.compare(entry, &mine)
    }

    fn compare(&mut self, entry: &Entry, mine: &[Answer]) -> Result<Applied, String> {
        let applied = self.apply_to_core(entry).map_err(|what| self.with_trace(&what))?;
        self.differ(entry, mine, &applied).map_err(|what| self.with_trace(&what))?;
        Ok(applied)
    }

    /// A panic of the core is a finding like any other: what led to it is what matters.
    fn apply_to_core(&mut self, entry: &Entry) -> Result<Applied, String> {
        let Entry { clocks, office, requests } = entry;
        let (cluster, wall, node) = (clocks.cluster, clocks.wall, office.node);
        self.trace
            .push(format!("entry {}: cluster {cluster}, wall {wall}, node {node}, term {}", self.index, office.term));
        let apply = AssertUnwindSafe(|| self.core.apply(&self.store, self.index, entry));
        let applied = catch_unwind(apply).map_err(|panic| {
            self.trace.extend(requests.iter().map(asked));
            format!("the core panicked: {}", words(&*panic))
        })?;
        self.store.take(self.core.take_changes());
        for (request, answer) in requests.iter().zip(&applied.answers) {
            self.trace.push(format!("{}\n    -> {}", asked(request), short(&format!("{answer:?}"))));
        }
        Ok(applied)
    }

    fn check_invariants(&self) -> Result<(), String> {
        let check = AssertUnwindSafe(|| invariants::check(&self.core));
        catch_unwind(check).map_err(|panic| format!("an invariant is broken: {}", words(&*panic)))
    }

    fn agree(&mut self) -> Result<(), String> {
        same_jobs(&self.model, &self.store)?;
        same_views(&self.model, &self.core)?;
        same_rows(&self.model, &self.store)?;
        self.check_invariants()?;
        adopt(&mut self.model, &self.store);
        Ok(())
    }

    fn differ(&mut self, entry: &Entry, mine: &[Answer], applied: &Applied) -> Result<(), String> {
        if applied.answers.len() != mine.len() {
            return Err(format!("{} answers to {} requests", applied.answers.len(), mine.len()));
        }
        for (number, (mine, theirs)) in mine.iter().zip(&applied.answers).enumerate() {
            let (mine, theirs) = (plain(mine), plain(theirs));
            if mine != theirs {
                return Err(format!("answer {number}: the model says {mine:?}, the core {theirs:?}"));
            }
        }
        self.agree()?;
        same_effects(&self.model, &applied.effects)?;
        self.promises.see(entry, applied, self.core.next_deadline(), &self.store)
    }
}

fn asked(request: &Request) -> String {
    let Request { principal, key, command } = request;
    format!("  {principal} {key:?} {}", short(&format!("{command:?}")))
}

/// A megabyte of a job's output helps nobody who reads a failure.
fn short(text: &str) -> String {
    const ENDS: usize = 2_000;
    let mut places = text.char_indices().map(|(at, _)| at);
    match (places.nth(ENDS), places.nth_back(ENDS)) {
        (Some(head), Some(tail)) => format!("{} ... {} bytes ... {}", &text[..head], tail - head, &text[tail..]),
        _ => text.to_owned(),
    }
}

fn words(panic: &(dyn std::any::Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("in words of its own")
}
