//! The calls that a queue lives on, from the socket to their handlers with as little work as can be.
//!
//! ```text
//!   bytes ─► head ─► call ─► handler ─► bytes        as long as each request is plain: see [`head`]
//!              └── hyper, for the rest of the connection, with the bytes that it has not seen
//! ```
//!
//! A connection that begins like one of them begins here ([`connection`]). What is taken here is what hyper, the guard and the
//! router would pass on unchanged; whatever is unusual about a request is theirs, so there is one place that refuses. Reading
//! such a request with hyper takes as many instructions as all that the leader does to apply the job in it.
//!
//! Requests that were sent without waiting for answers (RFC 9112, 9.3.2) are begun one after the other, each once the one
//! before is in line for the log: they have the effects that they would have one by one, and share an entry. A read waits for
//! what was sent before it, and is waited for.

mod answer;
mod connection;
mod handed_over;
mod head;

use super::{
    call::Call,
    failure::Failure,
    handlers::{claim, job, leases, submit},
    reply::Reply,
};
use crate::queue::ids::JobId;

pub use connection::{Closing, Connection, End, Patience};
pub use head::{Plain, may_be_plain};

/// The calls that a queue lives on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hot {
    Submit,
    Claim,
    Leases,
    Show(JobId),
}

/// Where they are posted to; the router takes its paths from here too.
pub const HOT: [(&str, Hot); 3] = [("/v1/jobs", Hot::Submit), ("/v1/claim", Hot::Claim), ("/v1/leases", Hot::Leases)];

/// Where one is shown: what the router says for it, and how a path begins that is meant.
pub const SHOWN: (&str, &str) = ("/v1/jobs/{id}", "/v1/jobs/");

impl Hot {
    pub fn is_read(self) -> bool {
        matches!(self, Self::Show(_))
    }

    pub async fn answer(self, call: Call) -> Result<Reply, Failure> {
        match self {
            Self::Submit => submit::submit(call).await,
            Self::Claim => claim::claim(call).await,
            Self::Leases => leases::leases(call).await,
            Self::Show(id) => job::show_whole(id, call).await,
        }
    }
}
