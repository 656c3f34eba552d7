//! One closed loop's hands: sends a request, follows the leader, repeats under the same key until there is an answer.

use std::{cell::RefCell, rc::Rc, time::Duration};

use serde::Deserialize;
use serde_json::Value;
use tokio::time::Instant;

use super::super::{context::Context, failure::Failure};
use crate::{
    api::{ErrorBody, ErrorEnvelope},
    client::{Call, ClientError, Lane, LaneRequest, Method, SharedAnswer, SharedLane},
};

/// The cluster under load: its members, and who leads as far as is known.
pub struct Target {
    pub members: Vec<String>,
    leader: RefCell<String>,
    pub version: String,
}

const LEADER_POLL: Duration = Duration::from_millis(20);

/// What the load generator needs of GET /v1/cluster.
#[derive(Deserialize)]
struct Cluster {
    leader: Option<Value>,
    #[serde(default)]
    members: Vec<Value>,
    #[serde(default)]
    version: Value,
}

impl Target {
    /// Waits until the node that answers knows a leader: it may have been started a moment ago.
    pub async fn find(context: &Context) -> Result<Self, Failure> {
        let deadline = context.deadline();
        let api = |node: &Value| node["api"].as_str().map(str::to_owned);
        loop {
            let call = Call::read("/v1/cluster", deadline).local();
            let cluster: Cluster = context.client.call(call).await?.json()?;
            if let Some(leader) = cluster.leader.as_ref().and_then(api) {
                let members = cluster.members.iter().filter_map(api).collect();
                let version = cluster.version.as_str().unwrap_or("unknown").to_owned();
                return Ok(Self { members, leader: RefCell::new(leader), version });
            }
            if Instant::now() + LEADER_POLL >= deadline {
                return Err(ClientError::NoLeader { servers: context.client.servers() }.into());
            }
            tokio::time::sleep(LEADER_POLL).await;
        }
    }

    pub fn leader(&self) -> String {
        self.leader.borrow().clone()
    }

    fn leads(&self, node: String) {
        *self.leader.borrow_mut() = node;
    }

    /// `node` did not do it: somebody else might. Any member names the leader once there is one.
    fn suspect(&self, node: &str) {
        let mut leader = self.leader.borrow_mut();
        if *leader == node {
            let at = self.members.iter().position(|member| member == node).map_or(0, |at| at + 1);
            if let Some(next) = self.members.get(at % self.members.len().max(1)) {
                leader.clone_from(next);
            }
        }
    }
}

/// Where a request goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whom {
    Leader,
    /// Always the same one: reads are answered anywhere.
    Member(usize),
}

/// How a loop asks.
pub struct Manner {
    pub whom: Whom,
    pub keys: bool,
    pub local: bool,
    /// One attempt's time.
    pub attempt: Duration,
    pub lanes: Lanes,
}

/// What a loop's requests go over.
pub enum Lanes {
    /// Connections of its own, one after the other.
    Own(Vec<Option<Lane>>),
    /// One for several loops, and the one that this loop has used last.
    Shared { slot: Rc<RefCell<Option<SharedLane>>>, used: Option<SharedLane> },
}

impl Lanes {
    pub fn own(count: usize) -> Self {
        Self::Own((0..count.max(1)).map(|_| None).collect())
    }

    pub fn shared(slot: &Rc<RefCell<Option<SharedLane>>>) -> Self {
        Self::Shared { slot: Rc::clone(slot), used: None }
    }
}

pub struct Driver<'a> {
    target: &'a Target,
    whom: Whom,
    /// `None`: no keys.
    keys: Option<(String, u64)>,
    local: bool,
    attempt: Duration,
    lanes: Lanes,
    /// Which of its own lanes has the request.
    turn: usize,
    pub repeats: u64,
}

/// How long a loop waits for an answer before it asks another node, under load and while leaders are being frozen: no gap is seen more
/// sharply than the second.
pub const ATTEMPT_LOADED: Duration = Duration::from_millis(1500);
pub const ATTEMPT_DISTURBED: Duration = Duration::from_millis(100);
/// A request's: whoever gets no answer in this time ends the run.
const PATIENCE: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(10);

enum Attempt {
    Answer(Vec<u8>),
    Again,
    Refused(ErrorBody),
}

impl<'a> Driver<'a> {
    pub fn new(target: &'a Target, manner: Manner) -> Self {
        let Manner { whom, keys, local, attempt, lanes } = manner;
        let keys = keys.then(|| (format!("bench-{:016x}", rand::random::<u64>()), 0));
        Self { target, whom, keys, local, attempt, lanes, turn: 0, repeats: 0 }
    }

    pub async fn read(&mut self, path: &str) -> Result<Vec<u8>, Failure> {
        self.until_answered(&Method::GET, path, None, b"").await
    }

    pub async fn post(&mut self, path: &str, body: &[u8]) -> Result<Vec<u8>, Failure> {
        let key = self.keys.as_mut().map(|(name, number)| {
            *number += 1;
            format!("{name}/{}", *number - 1)
        });
        self.until_answered(&Method::POST, path, key.as_deref(), body).await
    }

    async fn until_answered(
        &mut self,
        method: &Method,
        path: &str,
        key: Option<&str>,
        body: &[u8],
    ) -> Result<Vec<u8>, Failure> {
        let give_up = Instant::now() + PATIENCE;
        self.turn = self.turn.wrapping_add(1);
        loop {
            let timeout_ms = self.attempt.as_millis() as u64;
            let request = LaneRequest { method, path, key, local: self.local, timeout_ms, body };
            match self.attempt(request).await {
                Attempt::Answer(body) => return Ok(body),
                Attempt::Refused(error) => return Err(Failure::Refused(error)),
                Attempt::Again if Instant::now() >= give_up => {
                    return Err(Failure::TimedOut("the cluster did not answer for a minute; the run ends".into()));
                }
                Attempt::Again => self.repeats += 1,
            }
        }
    }

    async fn attempt(&mut self, request: LaneRequest<'_>) -> Attempt {
        match tokio::time::timeout(self.attempt, self.exchange(request)).await {
            Ok(Ok(attempt)) => attempt,
            Ok(Err(_)) | Err(_) => {
                let node = self.leave().unwrap_or_else(|| self.node());
                self.target.suspect(&node);
                tokio::time::sleep(PAUSE).await;
                Attempt::Again
            }
        }
    }

    /// Gives up the connection that was used last. To whom it was.
    fn leave(&mut self) -> Option<String> {
        match &mut self.lanes {
            Lanes::Own(lanes) => {
                let count = lanes.len();
                lanes[self.turn % count].take().map(|lane| lane.node().to_owned())
            }
            Lanes::Shared { slot, used } => {
                let used = used.take()?;
                // Another may have made a new one since.
                slot.borrow_mut().take_if(|lane| lane.is(&used));
                Some(used.node().to_owned())
            }
        }
    }

    fn node(&self) -> String {
        match self.whom {
            Whom::Leader => self.target.leader(),
            Whom::Member(number) => self.target.members[number % self.target.members.len()].clone(),
        }
    }

    async fn exchange(&mut self, request: LaneRequest<'_>) -> std::io::Result<Attempt> {
        let node = self.node();
        let answer = match &mut self.lanes {
            Lanes::Own(lanes) => {
                let count = lanes.len();
                let lane = &mut lanes[self.turn % count];
                let lane = match lane {
                    Some(lane) => lane,
                    None => lane.insert(Lane::connect(&node).await?),
                };
                let answer = lane.exchange(request).await?;
                SharedAnswer { status: answer.status, leader: answer.leader, body: answer.body.to_vec() }
            }
            Lanes::Shared { slot, used } => {
                let lane = shared_lane(slot, &node).await?;
                used.insert(lane).exchange(request).await?
            }
        };
        if let (307, Some(leader)) = (answer.status, answer.leader) {
            self.target.leads(leader);
            self.leave();
            return Ok(Attempt::Again);
        }
        if answer.status < 300 {
            return Ok(Attempt::Answer(answer.body));
        }
        let error = serde_json::from_slice::<ErrorEnvelope>(&answer.body).map_err(std::io::Error::other)?.error;
        match &*error.code {
            "no_leader" | "timeout" | "outcome_unknown" | "busy" => Err(std::io::Error::other(error.code)),
            _ => Ok(Attempt::Refused(error)),
        }
    }
}

/// Made by whoever needs it first.
async fn shared_lane(shared: &RefCell<Option<SharedLane>>, node: &str) -> std::io::Result<SharedLane> {
    let usable = || shared.borrow().clone().filter(|lane| !lane.is_broken());
    if let Some(lane) = usable() {
        return Ok(lane);
    }
    let made = SharedLane::connect(node).await?;
    // Another may have been quicker.
    Ok(usable().unwrap_or_else(|| shared.borrow_mut().insert(made).clone()))
}
