//! The client: finds the leader from any node of a list, repeats a write under one idempotency key until its outcome is
//! known, and tells *unknown* from *failed*.
//!
//! ```text
//!   call ──► choose a node ──► send ──┬── an answer ────────────► done
//!              ▲  (the last that      ├── 307, leader named ──┐
//!              │   led or answered)   ├── connection refused ─┤ nothing happened
//!              │                      ├── 503, 429 busy ──────┤ nothing happened
//!              │                      ├── 504, or no answer ──┤ a write may have happened: the same key again
//!              └───── back off, with jitter ◄─────────────────┘   until the call's deadline
//! ```
//!
//! Every write carries `NAME/N`: NAME is random and one per [`Client`], N rises. A repeat carries the same key and the same
//! bytes, so the cluster gives the first answer again (P7) whichever node hears it. Reads are repeated freely.
//! When the deadline passes, the error says what is known: nothing was sent ([`ClientError::Unreachable`]), nobody led
//! ([`ClientError::NoLeader`]), or a write was sent and never answered ([`ClientError::OutcomeUnknown`]).
//!
//! What it does not do: interpret answers. A refusal comes back with its code and details, and the caller decides.

mod call;
mod error;
mod events;
mod files;
mod key;
mod lane;
mod nodes;
mod shared_lane;
mod transport;
mod verdict;

#[cfg(test)]
mod tests;

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

pub use call::{Call, Consistency, path_segment, path_with_query};
pub use error::ClientError;
pub use events::{Event, Events};
pub use files::Download;
pub use hyper::Method;
pub use lane::{Lane, LaneAnswer, LaneRequest};
pub use shared_lane::{SharedAnswer, SharedLane};
pub use transport::Answer;

use self::{
    call::Headers,
    key::Keys,
    nodes::{Authority, Nodes},
    transport::Transport,
    verdict::Verdict,
};

/// How a client behaves; shared by all its calls.
#[derive(Clone, Debug)]
pub struct Options {
    /// `host:port` or `http://host:port` of any nodes; one is enough, more survive its death.
    pub servers: Vec<String>,
    /// How long a call may take in all, unless it says otherwise.
    pub timeout: Duration,
    /// How long the first attempt at one node may take before another node is asked; doubles with each attempt, so that
    /// a frozen leader costs little and a slow answer still arrives.
    pub attempt: Duration,
    /// Who asks, for `submitted_by` and the like; keys are per user.
    pub user: Option<String>,
    /// How long a client that has never reached any node goes on trying while every one of them refuses.
    pub patience: Duration,
}

pub const TIMEOUT_DEFAULT: Duration = Duration::from_secs(10);
pub const ATTEMPT_DEFAULT: Duration = Duration::from_millis(1500);
pub const PATIENCE_DEFAULT: Duration = Duration::from_millis(1200);

impl Options {
    pub fn new(servers: Vec<String>) -> Self {
        Self { servers, timeout: TIMEOUT_DEFAULT, attempt: ATTEMPT_DEFAULT, user: None, patience: PATIENCE_DEFAULT }
    }
}

/// A connection pool to a cluster; clones share it.
#[derive(Clone)]
pub struct Client {
    shared: Arc<Shared>,
}

struct Shared {
    options: Options,
    nodes: Nodes,
    keys: Keys,
    transport: Transport,
}

impl Client {
    /// Nothing is contacted yet. Fails if a server's address cannot be read.
    pub fn new(options: Options) -> Result<Self, ClientError> {
        let nodes = Nodes::new(&options.servers)?;
        let shared = Shared { options, nodes, keys: Keys::random(), transport: Transport::new() };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// The default deadline of a call that starts now.
    pub fn deadline(&self) -> Instant {
        Instant::now() + self.shared.options.timeout
    }

    /// The nodes as the user named them, for messages.
    pub fn servers(&self) -> String {
        self.shared.nodes.named()
    }

    /// The node that the next call goes to first: the leader, where one was found.
    pub fn current(&self) -> String {
        self.shared.nodes.current().to_string()
    }

    /// Since when no call was served, though some were tried: no node answers, or none leads. `None` while the last one was.
    pub fn unserved_since(&self) -> Option<Instant> {
        self.shared.nodes.unserved_since()
    }

    /// Asks `node` first from now on, if that is an address.
    pub fn prefer(&self, node: &str) {
        if let Some(authority) = Authority::parse(node) {
            self.shared.nodes.prefer(authority);
        }
    }

    /// Sends `call`, follows the leader, repeats until there is an answer or the deadline has passed.
    pub async fn call(&self, call: Call) -> Result<Answer, ClientError> {
        let key = call.is_write().then(|| self.shared.keys.next());
        let mut tries = Tries::new(&self.shared, &call, key);
        loop {
            let node = self.shared.nodes.current();
            let request = call.request(&node, &tries.headers())?;
            let verdict = tokio::select! {
                outcome = self.shared.transport.send(request, tries.attempt_end()) => verdict::of(&call, outcome),
                leader = self.successor(&node, &call) => tries.superseded(leader),
            };
            match verdict {
                Verdict::Answer(answer) => {
                    self.shared.nodes.served(&node);
                    return Ok(answer);
                }
                Verdict::Refused(refused) => {
                    self.shared.nodes.served(&node);
                    return Err(ClientError::Refused(refused));
                }
                Verdict::Broken(message) => {
                    return Err(ClientError::Protocol { server: node.to_string(), message });
                }
                Verdict::Follow(leader) => {
                    self.shared.nodes.reached(&node);
                    self.shared.nodes.prefer(leader);
                    tries.followed().await?;
                }
                Verdict::Again(why) => {
                    self.shared.nodes.avoid(&node, why.heard());
                    tries.failed(why).await?;
                }
            }
        }
    }
}

impl Client {
    /// Whom another node names as leader while `node` keeps silent. A leader that froze says nothing and refuses nothing;
    /// without this a write would wait out its attempt although a new leader has been there for long.
    /// Does not end while nobody else leads. A stale name does no harm: the write goes there under its key, and back.
    async fn successor(&self, node: &Authority, call: &Call) -> Authority {
        let shared = &self.shared;
        let mut asked = 0;
        tokio::time::sleep(call.wait()).await;
        let silent_since = Instant::now();
        loop {
            // The longer it lasts the less often, so that an outage is found to be over soon after it is.
            let pause = (silent_since.elapsed() / ASKED_A_SILENCE).min(SILENCE_BEFORE_ASKING);
            tokio::time::sleep(if asked == 0 { SILENCE_BEFORE_ASKING } else { pause }).await;
            let Some(other) = shared.nodes.other_than(node, asked) else { return std::future::pending().await };
            asked += 1;
            if let Some(leader) = shared.leader_seen_by(&other).await.filter(|leader| leader != node) {
                return leader;
            }
        }
    }
}

/// Longer than an answer takes where nothing is wrong, shorter than a person's patience.
const SILENCE_BEFORE_ASKING: Duration = Duration::from_millis(250);
/// Others are asked again when the silence has become longer by one part in so many.
const ASKED_A_SILENCE: u32 = 8;

impl Shared {
    async fn leader_seen_by(&self, node: &Authority) -> Option<Authority> {
        let end = Instant::now() + SILENCE_BEFORE_ASKING;
        let call = Call::read("/v1/cluster", end).local();
        let headers = Headers { key: None, user: None, timeout: SILENCE_BEFORE_ASKING };
        let answer = self.transport.send(call.request(node, &headers).ok()?, end).await.ok()?;
        let cluster: serde_json::Value = answer.json().ok()?;
        Authority::parse(cluster["leader"]["api"].as_str()?)
    }
}

/// What the attempts of one call have shown so far.
struct Tries<'a> {
    shared: &'a Shared,
    call: &'a Call,
    key: Option<Arc<str>>,
    started: Instant,
    /// Attempts that ended without an answer.
    failures: u32,
    /// Redirects since the last failure: two nodes that name each other must not make a busy loop.
    follows: u32,
    /// A write went out and its fate is not known.
    maybe_done: bool,
    /// Some node said that nobody leads.
    leaderless: bool,
    last: Option<verdict::Again>,
}

/// Redirects followed at once; more than this and the call backs off.
const FOLLOWS_MAX: u32 = 3;
const BACKOFF_FIRST: Duration = Duration::from_millis(15);
const BACKOFF_MAX: Duration = Duration::from_millis(400);

impl<'a> Tries<'a> {
    fn new(shared: &'a Shared, call: &'a Call, key: Option<Arc<str>>) -> Self {
        Self {
            shared,
            call,
            key,
            started: Instant::now(),
            failures: 0,
            follows: 0,
            maybe_done: false,
            leaderless: false,
            last: None,
        }
    }

    /// What is the same for every repeat but the time it has.
    fn headers(&self) -> Headers<'_> {
        Headers { key: self.key.as_deref(), user: self.shared.options.user.as_deref(), timeout: self.attempt_timeout() }
    }

    fn attempt_timeout(&self) -> Duration {
        let grown = self.shared.options.attempt.saturating_mul(1 << self.failures.min(6));
        let left = self.call.deadline().saturating_duration_since(Instant::now());
        (grown + self.call.wait()).min(left)
    }

    /// When the client gives an attempt up: a little after the server was told to, so that its typed answer wins.
    fn attempt_end(&self) -> Instant {
        const GRACE: Duration = Duration::from_millis(100);
        Instant::now() + self.attempt_timeout() + GRACE
    }

    /// The attempt is given up for another leader; it may have been heard all the same.
    fn superseded(&mut self, leader: Authority) -> Verdict {
        self.maybe_done |= self.call.is_write();
        Verdict::Follow(leader)
    }

    async fn followed(&mut self) -> Result<(), ClientError> {
        self.follows += 1;
        if self.follows > FOLLOWS_MAX { self.back_off().await } else { self.check_deadline(Instant::now()) }
    }

    async fn failed(&mut self, why: verdict::Again) -> Result<(), ClientError> {
        self.maybe_done |= self.call.is_write() && why.may_have_happened();
        self.leaderless |= matches!(why, verdict::Again::NoLeader);
        self.failures += 1;
        self.follows = 0;
        self.last = Some(why);
        if self.hopeless() {
            return Err(self.give_up());
        }
        self.back_off().await
    }

    /// Nobody was ever there: a person at a terminal should hear that soon, not at the deadline.
    fn hopeless(&self) -> bool {
        !self.maybe_done
            && !self.shared.nodes.ever_reached()
            && self.started.elapsed() >= self.shared.options.patience
            && self.failures as usize >= self.shared.nodes.count()
    }

    async fn back_off(&mut self) -> Result<(), ClientError> {
        let ceiling = BACKOFF_FIRST.saturating_mul(1 << self.failures.saturating_sub(1).min(10)).min(BACKOFF_MAX);
        let until = Instant::now() + ceiling.mul_f64(rand::random_range(0.5..1.0));
        self.check_deadline(until)?;
        tokio::time::sleep_until(until).await;
        Ok(())
    }

    fn check_deadline(&self, at: Instant) -> Result<(), ClientError> {
        if at < self.call.deadline() { Ok(()) } else { Err(self.give_up()) }
    }

    fn give_up(&self) -> ClientError {
        if let (Some(verdict::Again::Busy(error)), false) = (&self.last, self.maybe_done) {
            return ClientError::Refused(error.clone());
        }
        let servers = self.shared.nodes.named();
        let unsaid = if self.follows > 0 { "redirected without end" } else { "no time was left for it" };
        let cause = self.last.as_ref().map_or_else(|| unsaid.into(), ToString::to_string);
        match &self.key {
            Some(key) if self.maybe_done => ClientError::OutcomeUnknown { key: key.to_string(), cause },
            _ if !self.shared.nodes.ever_reached() => ClientError::Unreachable { servers, cause },
            // Nodes that are down beside it are why, and not what to say.
            _ if self.leaderless => ClientError::NoLeader { servers },
            _ if matches!(self.last, Some(verdict::Again::NotSent(_))) => ClientError::Unreachable { servers, cause },
            _ => ClientError::Timeout { servers, cause },
        }
    }
}
