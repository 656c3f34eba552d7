//! Changes of the membership.

use serde::{Deserialize, Serialize};

/// POST /v1/cluster/members. The node that answers at `peer` says its own id and api address.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AddMember {
    pub peer: String,
    /// What the caller believes the node's id and api address to be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api: Option<String>,
    /// Make it a voter once it has caught up.
    #[serde(default)]
    pub promote: bool,
    /// The member whose place it takes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replaces: Option<u64>,
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
