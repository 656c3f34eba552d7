//! Whether this node and the addresses it knows belong to one cluster.
//!
//! A data directory of another cluster opens like any other, and then nobody answers it: every question between nodes names
//! its cluster. So a node that hears no leader asks those it knows whose they are: the founding members of its
//! configuration, and the members of its own log.
//!
//! ```text
//!   one answers for another cluster        told in the log, /readyz and /v1/cluster: that one may be the wrong one
//!   a majority of a list, for the same     nobody at these addresses will ever lead this node: it stops
//! ```
//!
//! A node that has heard a leader since it was started is in the right place, and is never stopped from here.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use futures::future::join_all;
use tokio::time::sleep;

use super::{inner::Inner, stop::StopReason};
use crate::storage::ClusterId;

const PROBE_TIMEOUT: Duration = Duration::from_secs(1);
/// Elections without a leader before anybody is asked: after a start there is none for a moment.
const PATIENCE_ELECTIONS: u32 = 3;

/// Who answers at an address: the cluster that it has formed with others.
type Answers = BTreeMap<String, ClusterId>;

impl Inner {
    /// Watches until the node stops or the task is dropped.
    pub async fn watch_belonging(self: Arc<Self>) {
        let (mut led, mut quiet) = (false, 0);
        while !self.stop.is_set() {
            sleep(Duration::from_millis(self.options.raft.election_max_ms)).await;
            if self.leader().is_some() {
                (led, quiet) = (true, 0);
                self.tell(None);
                continue;
            }
            quiet += 1;
            if quiet >= PATIENCE_ELECTIONS && self.is_formed() {
                self.judge_belonging(led).await;
            }
        }
    }

    /// What keeps this node from serving, for whoever looks at it. Logged when it changes.
    pub(super) fn tell(&self, problem: Option<String>) {
        self.problem.send_if_modified(|known| {
            if *known == problem {
                return false;
            }
            if let Some(problem) = &problem {
                tracing::info!(%problem, "not ready");
            }
            *known = problem;
            true
        });
    }

    async fn judge_belonging(&self, led: bool) {
        let Some(own) = self.identity().cluster else { return };
        let (founders, members) = (self.founder_peers(), self.member_peers());
        let answers = self.clusters_at(founders.union(&members)).await;
        let foreign: Answers = answers.into_iter().filter(|(_, cluster)| *cluster != own).collect();
        let other = majority_of(&founders, &foreign).or_else(|| majority_of(&members, &foreign));
        match other.filter(|_| !led) {
            Some(other) => self.stop.because(StopReason::OtherCluster {
                path: self.options.data_dir.clone(),
                own,
                other,
                at: addresses(&foreign, other),
            }),
            None => self.tell(foreign.values().next().map(|&other| {
                format!(
                    "no leader is known, and {} belongs to cluster {other} while the data of this node belongs to {own}; check \
                     data_dir and the [[member]] entries here and there",
                    addresses(&foreign, other)
                )
            })),
        }
    }

    async fn clusters_at(&self, peers: impl Iterator<Item = &String>) -> Answers {
        let asking = peers.map(|peer| async move {
            let reply = self.probe(peer, PROBE_TIMEOUT).await.ok()?;
            reply.cluster.filter(|_| reply.formed).map(|cluster| (peer.clone(), cluster))
        });
        join_all(asking).await.into_iter().flatten().collect()
    }

    fn founder_peers(&self) -> BTreeSet<String> {
        self.options.founders.iter().map(|founder| founder.peer.clone()).collect()
    }

    fn member_peers(&self) -> BTreeSet<String> {
        self.membership().membership().nodes().map(|(_, member)| member.peer.clone()).collect()
    }
}

/// The one cluster that more than half of `peers` answer for, if there is one.
fn majority_of(peers: &BTreeSet<String>, answers: &Answers) -> Option<ClusterId> {
    let mut counts = BTreeMap::<ClusterId, usize>::new();
    for cluster in peers.iter().filter_map(|peer| answers.get(peer)) {
        *counts.entry(*cluster).or_default() += 1;
    }
    counts.into_iter().find(|(_, count)| *count > peers.len() / 2).map(|(cluster, _)| cluster)
}

fn addresses(answers: &Answers, of: ClusterId) -> String {
    let there = answers.iter().filter(|(_, cluster)| **cluster == of).map(|(peer, _)| peer.as_str());
    there.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    const X: ClusterId = ClusterId(7);
    const Y: ClusterId = ClusterId(8);

    fn check(peers: &[&str], answers: &[(&str, ClusterId)], expect: Option<ClusterId>) {
        let peers = peers.iter().map(ToString::to_string).collect();
        let answers = answers.iter().map(|(peer, cluster)| (peer.to_string(), *cluster)).collect();
        assert_eq!(majority_of(&peers, &answers), expect);
    }

    #[test]
    fn majority_of_peers_needs_more_than_half_in_one_cluster() {
        check(&["a", "b", "c"], &[("b", X), ("c", X)], Some(X));
        check(&["a", "b", "c"], &[("b", X)], None);
        check(&["a", "b", "c"], &[("b", X), ("c", Y)], None);
        check(&["a", "b", "c", "d"], &[("b", X), ("c", X)], None);
        check(&["a", "b"], &[("x", X), ("y", X)], None);
        check(&[], &[("x", X)], None);
    }
}
