//! The replicated queue as the duties see it: a raft node.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use tokio::{sync::broadcast, time::Instant};

use super::door::{Leadership, Proposed, Queue};
use crate::{
    queue::{
        State,
        command::{Command, Request},
        rows::Rows,
    },
    raft::{AppliedBatch, Committed, Node, ProposeError},
    worker::Boottime,
};

/// Beyond it the outcome is taken for unknown and looked up in the state.
const PROPOSE_TIMEOUT: Duration = Duration::from_secs(5);
/// Another node is asked: if it died, somebody else leads soon.
const ELSEWHERE_TIMEOUT: Duration = Duration::from_secs(1);
/// Stands as who asked in what the duties propose.
const PRINCIPAL: &str = "raftq";

impl Queue for Node {
    async fn propose(&self, command: Command) -> Proposed {
        let deadline = Instant::now() + PROPOSE_TIMEOUT;
        fate(Node::propose(self, request(command), deadline).await)
    }

    async fn propose_anywhere(&self, command: Command) -> Proposed {
        let deadline = Instant::now() + ELSEWHERE_TIMEOUT;
        fate(Node::propose_anywhere(self, request(command), deadline).await)
    }

    fn look<T>(&self, look: impl FnOnce(&State, &dyn Rows) -> T) -> T {
        Node::look(self, |reading| look(reading.state(), reading))
    }

    fn members(&self) -> BTreeSet<u64> {
        Node::look(self, |reading| reading.members())
    }

    fn applied(&self) -> broadcast::Receiver<Arc<AppliedBatch>> {
        self.applied_batches()
    }

    fn leadership(&self) -> Option<Leadership> {
        let (office, until_ms) = (self.office()?, self.leads_until_ms()?);
        // Both are milliseconds of the boot clock.
        Some(Leadership { office, until: Boottime::from_ms(until_ms) })
    }

    fn is_wall_clock_off(&self) -> bool {
        Node::is_wall_clock_off(self)
    }
}

fn request(command: Command) -> Request {
    Request { principal: PRINCIPAL.into(), key: None, command }
}

fn fate(outcome: Result<Committed, ProposeError>) -> Proposed {
    match outcome {
        Ok(Committed { index, answer }) => Proposed::Answered { index, answer },
        Err(ProposeError::Unknown) => Proposed::Unknown,
        Err(ProposeError::NotLeader { .. } | ProposeError::Deadline | ProposeError::Busy | ProposeError::NoSpace) => {
            Proposed::Never
        }
    }
}
