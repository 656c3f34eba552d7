//! Changes of the membership.

use serde::{Deserialize, Serialize};

use crate::queue::refusal::Refusal;

/// POST /v1/cluster/members. The node that answers at `peer` says its own id and api address.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AddMember {
    pub peer: String,
    /// Of the node that is meant: whoever else answers is not taken in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<u64>,
    /// Where the caller believes that it serves clients; it says so itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api: Option<String>,
    /// Make it a voter once it has caught up.
    #[serde(default)]
    pub promote: bool,
    /// The member whose place it takes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replaces: Option<u64>,
}

impl AddMember {
    /// Whether there is an address to ask at all; one where nobody answers may be asked again.
    pub fn check(&self) -> Result<(), Refusal> {
        let parts = self.peer.rsplit_once(':');
        let is_host = |host: &str| !host.is_empty() && !host.contains(['/', '@', ' ']);
        match parts.filter(|(host, port)| is_host(host) && port.parse().is_ok_and(|port: u16| port > 0)) {
            Some(_) => Ok(()),
            None => Err(Refusal::invalid("peer", "give the new node's peer address as HOST:PORT")),
        }
    }
}

/// POST /v1/cluster/transfer
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Transfer {
    /// Absent: the member that lags least.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<u64>,
    /// Do not wait for running jobs.
    pub now: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peer_is_an_address_of_host_and_port() {
        let is_taken = |peer: &str| AddMember { peer: peer.to_owned(), ..AddMember::default() }.check().is_ok();
        for peer in ["127.0.0.1:7501", "[::1]:7501", "node4.example:7501"] {
            assert!(is_taken(peer), "{peer}");
        }
        for peer in ["", "node4", ":7501", "node4:", "node4:0", "node4:99999", "http://node4:7501"] {
            assert!(!is_taken(peer), "{peer}");
        }
    }
}
