//! The types that openraft is built over here.

use std::{
    fmt,
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use openraft::{RaftTypeConfig, raft::responder::Responder};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::feature::FeatureLevel;
use crate::{
    codec::{self, CodecError, Format},
    queue::{applied::Answer, command::Entry},
    storage::DiskId,
};

/// openraft over our log entries, answers and members.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct TypeConfig;

impl RaftTypeConfig for TypeConfig {
    type D = Payload;
    type R = Answers;
    type NodeId = u64;
    type Node = Member;
    type Term = u64;
    type LeaderId = openraft::impls::leader_id_adv::LeaderId<u64, u64>;
    type Vote = openraft::impls::Vote<Self::LeaderId>;
    type Payload = openraft::EntryPayload<Payload, u64, Member>;
    type Entry = openraft::Entry<LeaderId, Self::Payload>;
    type AsyncRuntime = openraft::impls::TokioRuntime;
    type Responder<T>
        = Callback<T>
    where
        T: Send + 'static;
    type Batch<T>
        = openraft::impls::InlineBatch<T>
    where
        T: Send + 'static;
    type ErrorSource = openraft::impls::BoxedErrorSource;
}

/// Hands the outcome of a proposal straight to those who wait, on the thread that brought it about: one wake-up for each
/// caller, and none for a task in between. Dropped without a call, it lets its callers know by dropping what they wait on.
pub struct Callback<T>(Box<dyn FnOnce(T) + Send>);

impl<T> Callback<T> {
    pub fn new(call: impl FnOnce(T) + Send + 'static) -> Self {
        Self(Box::new(call))
    }
}

impl<T: Send + 'static> Responder<TypeConfig, T> for Callback<T> {
    fn on_complete(self, result: T) {
        (self.0)(result);
    }
}

pub type LogId = openraft::type_config::alias::LogIdOf<TypeConfig>;
pub type LeaderId = openraft::impls::leader_id_adv::LeaderId<u64, u64>;
pub type LogEntry = openraft::type_config::alias::EntryOf<TypeConfig>;
pub type Vote = openraft::type_config::alias::VoteOf<TypeConfig>;
pub type StoredMembership = openraft::type_config::alias::StoredMembershipOf<TypeConfig>;
pub type SnapshotMeta = openraft::type_config::alias::SnapshotMetaOf<TypeConfig>;
pub type Membership = openraft::Membership<u64, Member>;

/// A member as the replicated membership records it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Where clients reach it.
    pub api: String,
    /// Where Raft reaches it.
    pub peer: String,
    /// The disk that promised; another one under the same id is nobody.
    pub disk: DiskId,
}

/// What a log entry says. Encoded once, where it is proposed, and shared from there to the log, the peers and apply;
/// a follower decodes it once, when it applies it.
#[derive(Clone)]
pub struct Payload(Arc<Inner>);

struct Inner {
    bytes: Bytes,
    /// Only until it is applied: the newest entries stay in memory for followers, who want bytes.
    decoded: Mutex<Option<Body>>,
}

/// The content of a [`Payload`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Body {
    /// Work for the queue.
    Queue(Entry),
    /// Every node remembers its state hash as of this entry, to be compared (design 5, State hash).
    HashMark,
    /// What the members' hashes were at the entry of `mark`.
    HashVerdict { mark: u64, hashes: Vec<(u64, u128)> },
    /// The semantics of this level apply behind this entry (design 6).
    FeatureLevel(FeatureLevel),
}

impl Payload {
    pub fn new(body: Body) -> Self {
        let bytes = Bytes::from(codec::encode(Format::ENTRY, &body));
        Self(Arc::new(Inner { bytes, decoded: Mutex::new(Some(body)) }))
    }

    /// An entry of work for the queue, whose requests were encoded where they came in.
    pub fn of_requests(entry: Entry, requests: &[Vec<u8>]) -> Self {
        /// Which of [`Body`]'s variants `Queue` is.
        const QUEUE: u32 = 0;
        let bytes = codec::encode_list(Format::ENTRY, &(QUEUE, entry.clocks, entry.office), requests);
        Self(Arc::new(Inner { bytes: Bytes::from(bytes), decoded: Mutex::new(Some(Body::Queue(entry))) }))
    }

    /// The content, for the one who applies it: a second call decodes it once more.
    ///
    /// # Errors
    /// The bytes came from a newer version, or are no entry.
    pub fn take_body(&self) -> Result<Body, CodecError> {
        let decoded = self.0.decoded.lock().expect("no holder of this lock panics").take();
        decoded.map_or_else(|| codec::decode(Format::ENTRY, &self.0.bytes), Ok)
    }

    pub fn bytes(&self) -> &Bytes {
        &self.0.bytes
    }
}

impl PartialEq for Payload {
    fn eq(&self, other: &Self) -> bool {
        self.0.bytes == other.0.bytes
    }
}

impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Payload({} bytes)", self.0.bytes.len())
    }
}

impl fmt::Display for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0.bytes.len())
    }
}

impl Serialize for Payload {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0.bytes)
    }
}

impl<'de> Deserialize<'de> for Payload {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let bytes = Bytes::deserialize(deserializer)?;
        Ok(Self(Arc::new(Inner { bytes, decoded: Mutex::new(None) })))
    }
}

/// What applying an entry answered: one answer for each request in it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answers(pub Vec<Answer>);

impl fmt::Display for Answers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} answers", self.0.len())
    }
}

/// The bytes an entry takes in the log, about.
pub fn entry_bytes(entry: &LogEntry) -> usize {
    const OVERHEAD: usize = 64;
    match &entry.payload {
        openraft::EntryPayload::Normal(payload) => payload.bytes().len() + OVERHEAD,
        openraft::EntryPayload::Blank | openraft::EntryPayload::Membership(_) => OVERHEAD,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::queue::{
        command::{Clocks, Command, Request},
        ids::{ClusterMs, WallMs},
        job::Office,
    };

    fn entry() -> Body {
        let requests =
            vec![Request { principal: Arc::from("ann"), key: None, command: Command::Tick { hold_wall: true } }];
        let clocks = Clocks { cluster: ClusterMs(300), wall: WallMs(1_700_000_000_000) };
        Body::Queue(Entry { clocks, office: Office { term: 7, node: 2, incarnation: 9 }, requests })
    }

    /// An entry as version 1 wrote it. If this fails, logs on disk no longer read: give the new layout a new format byte.
    const STORED: &str = "0100fb2c01fd0068e5cf8b0100000702090103616e6e000001";

    #[test]
    fn body_of_stored_old_bytes_still_reads() {
        let hex: String = Payload::new(entry()).bytes().iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, STORED);
        let bytes: Vec<u8> =
            (0..STORED.len()).step_by(2).map(|at| u8::from_str_radix(&STORED[at..at + 2], 16).unwrap()).collect();
        assert_eq!(codec::decode::<Body>(Format::ENTRY, &bytes).unwrap(), entry());
    }

    #[test]
    fn payload_of_encoded_requests_is_the_encoded_body() {
        let Body::Queue(entry) = entry() else { panic!("an entry is work") };
        let requests: Vec<Vec<u8>> = entry.requests.iter().map(codec::encode_part).collect();
        assert_eq!(Payload::of_requests(entry.clone(), &requests), Payload::new(Body::Queue(entry)));
    }

    #[test]
    fn body_after_the_way_through_a_log_record_is_the_same() {
        let record = LogEntry {
            log_id: LogId { leader_id: LeaderId { term: 7, node_id: 2 }, index: 5 },
            payload: openraft::EntryPayload::Normal(Payload::new(entry())),
        };
        let back: LogEntry = codec::decode(Format::LOG, &codec::encode(Format::LOG, &record)).unwrap();
        let openraft::EntryPayload::Normal(payload) = &back.payload else { panic!("{back:?}") };
        assert_eq!((payload.take_body().unwrap(), back.log_id), (entry(), record.log_id));
    }
}
