//! How values become bytes in the log, in rows, in snapshots, between peers, and between a node and its supervisor.
//!
//! The layout is bincode's, which does not describe itself, so every encoded value begins with a format byte, and a value of a
//! format that this version does not know is refused instead of misread. Two rules keep old bytes readable: enum variants are only ever
//! appended, and a struct that changes gets a new format byte ([`Format::version`]) and a decoder for the old one.
//!
//! ```text
//! | format byte | bincode 2, standard configuration, serde mode |
//! ```
//!
//! What reads and writes it is ours ([`encoder`], [`decoder`]); bincode itself, which nobody maintains any more
//! (RUSTSEC-2025-0141), is what tests compare with. Half of what it did for a number was to count bytes against a limit and to
//! carry an error that never came, and an entry is decoded and its rows encoded on every node. Of serde's types those are missing
//! that no format has: numbers with a fraction, lone characters.

mod decoder;
mod encoder;
mod number;
#[cfg(test)]
mod tests;

use decoder::Decoder;
use encoder::Encoder;
use serde::{Serialize, de::DeserializeOwned};

/// No encoded value is larger: a request is at most 16 MiB, an entry takes at least one, a peer message a few entries.
const BYTES_MAX: usize = 64 << 20;

/// What kind of value, which version of its layout, and how large it may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Format {
    pub name: &'static str,
    pub version: u8,
    pub bytes_max: usize,
}

impl Format {
    pub const ENTRY: Self = Self { name: "entry", version: 1, bytes_max: BYTES_MAX };
    pub const LOG: Self = Self { name: "log record", version: 1, bytes_max: BYTES_MAX };
    pub const ROW: Self = Self { name: "row", version: 1, bytes_max: 32 << 20 };
    pub const META: Self = Self { name: "store record", version: 1, bytes_max: 1 << 20 };
    pub const PEER: Self = Self { name: "peer message", version: 1, bytes_max: BYTES_MAX };
    pub const POSITION: Self = Self { name: "position", version: 2, bytes_max: 1 << 20 };
    pub const SNAPSHOT: Self = Self { name: "snapshot header", version: 2, bytes_max: 1 << 20 };
    pub const TRAILER: Self = Self { name: "snapshot trailer", version: 1, bytes_max: 1 << 20 };
    pub const ANSWERS: Self = Self { name: "answers", version: 1, bytes_max: BYTES_MAX };
    pub const SUPERVISOR: Self = Self { name: "message of the supervisor", version: 1, bytes_max: BYTES_MAX };
}

#[derive(Debug, thiserror::Error)]
pub enum CodecError {
    #[error("the {what} is empty; its format byte is missing")]
    Empty { what: &'static str },
    #[error("the {what} has format {found}, this one reads up to {known}")]
    Newer { what: &'static str, found: u8, known: u8 },
    #[error("the {what} has {size} bytes, the limit is {limit}")]
    TooLarge { what: &'static str, size: usize, limit: usize },
    #[error("the {what} does not decode: {reason}")]
    Malformed { what: &'static str, reason: String },
}

/// The bytes of a value. It panics only where a type cannot be encoded at all, which no input can bring about.
pub fn encode<T: Serialize + ?Sized>(format: Format, value: &T) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(128);
    encode_into(format, value, &mut bytes);
    bytes
}

/// As [`encode`], behind what `bytes` already holds.
pub fn encode_into<T: Serialize + ?Sized>(format: Format, value: &T, bytes: &mut Vec<u8>) {
    bytes.push(format.version);
    append(value, bytes);
}

/// Room for a request with a small job, without growing.
const PART_BYTES: usize = 512;

/// The bytes of a value as it stands inside another: for [`encode_list`].
pub fn encode_part<T: Serialize + ?Sized>(value: &T) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(PART_BYTES);
    append(value, &mut bytes);
    bytes
}

fn append<T: Serialize + ?Sized>(value: &T, bytes: &mut Vec<u8>) {
    value.serialize(&mut Encoder(bytes)).expect("our own types are of what the layout has");
}

/// As [`encode`] of a value that is `head` followed by a list, whose members were encoded where they arose.
pub fn encode_list<T: Serialize>(format: Format, head: &T, members: &[Vec<u8>]) -> Vec<u8> {
    const HEAD_BYTES: usize = 64;
    let mut bytes = Vec::with_capacity(HEAD_BYTES + members.iter().map(Vec::len).sum::<usize>());
    encode_into(format, &(head, members.len() as u64), &mut bytes);
    for member in members {
        bytes.extend_from_slice(member);
    }
    bytes
}

/// The value of `bytes`, all of them.
///
/// # Errors
/// Another format, too many bytes, or bytes that are no such value.
pub fn decode<T: DeserializeOwned>(format: Format, bytes: &[u8]) -> Result<T, CodecError> {
    let what = format.name;
    if bytes.len() > format.bytes_max {
        return Err(CodecError::TooLarge { what, size: bytes.len(), limit: format.bytes_max });
    }
    let (&found, body) = bytes.split_first().ok_or(CodecError::Empty { what })?;
    if found != format.version {
        return Err(CodecError::Newer { what, found, known: format.version });
    }
    let mut decoder = Decoder::of(body);
    let value = T::deserialize(&mut decoder).map_err(|e| CodecError::Malformed { what, reason: e.to_string() })?;
    match decoder.left() {
        0 => Ok(value),
        left => Err(CodecError::Malformed { what, reason: format!("{left} bytes are left over") }),
    }
}

/// As [`decode`], of bytes that the version before this format's may have written, in its own layout `O`.
pub fn decode_or_older<T, O>(format: Format, bytes: &[u8]) -> Result<T, CodecError>
where
    T: DeserializeOwned,
    O: DeserializeOwned + Into<T>,
{
    let older = Format { version: format.version - 1, ..format };
    match bytes.first() {
        Some(&found) if found == older.version => decode::<O>(older, bytes).map(Into::into),
        _ => decode(format, bytes),
    }
}
