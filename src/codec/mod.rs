//! The only place that names bincode: how values become bytes in the log, in rows, in snapshots, between
//! peers, and between a node and its supervisor.
//!
//! bincode does not describe itself, so every encoded value begins with a format byte, and a value of a format that this
//! version does not know is refused instead of misread. Two rules keep old bytes readable: enum variants are only ever
//! appended, and a struct that changes gets a new format byte ([`Format::version`]) and a decoder for the old one.
//!
//! ```text
//! | format byte | bincode 2, standard configuration, serde mode |
//! ```
//!
//! bincode 2.0.1 is unmaintained but sound (RUSTSEC-2025-0141 is informational); behind these three functions another
//! encoding can take its place.

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
    bincode::serde::encode_into_std_write(value, bytes, bincode::config::standard())
        .expect("derived Serialize of our own types writes to memory");
}

/// Room for a request with a small job, without growing.
const PART_BYTES: usize = 512;

/// The bytes of a value as it stands inside another: for [`encode_list`].
pub fn encode_part<T: Serialize + ?Sized>(value: &T) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(PART_BYTES);
    bincode::serde::encode_into_std_write(value, &mut bytes, bincode::config::standard())
        .expect("derived Serialize of our own types writes to memory");
    bytes
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
    // The limit bounds what a forged length can make the decoder reserve.
    let configuration = bincode::config::standard().with_limit::<BYTES_MAX>();
    let (value, used) = bincode::serde::decode_from_slice(body, configuration)
        .map_err(|e| CodecError::Malformed { what, reason: e.to_string() })?;
    if used != body.len() {
        let reason = format!("{} bytes are left over", body.len() - used);
        return Err(CodecError::Malformed { what, reason });
    }
    Ok(value)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decode_round_trip_gives_the_value() {
        let value = (7u64, "text".to_owned(), vec![1u8, 2, 3]);
        let bytes = encode(Format::META, &value);
        assert_eq!(decode::<(u64, String, Vec<u8>)>(Format::META, &bytes).unwrap(), value);
    }

    #[test]
    fn encode_list_of_encoded_members_is_the_encoded_whole() {
        let whole = (7u64, vec!["a".to_owned(), "bc".to_owned()]);
        let members: Vec<Vec<u8>> = whole.1.iter().map(encode_part).collect();
        assert_eq!(encode_list(Format::META, &whole.0, &members), encode(Format::META, &whole));
    }

    #[test]
    fn decode_stored_old_bytes_still_reads() {
        let stored = [0x01, 0x07, 0x04, b't', b'e', b'x', b't', 0x03, 1, 2, 3];
        let value: (u64, String, Vec<u8>) = decode(Format::META, &stored).unwrap();
        assert_eq!(value, (7, "text".to_owned(), vec![1, 2, 3]));
    }

    #[test]
    fn decode_newer_format_is_refused() {
        let mut bytes = encode(Format::META, &7u64);
        bytes[0] = 9;
        let error = decode::<u64>(Format::META, &bytes).unwrap_err();
        assert!(matches!(error, CodecError::Newer { found: 9, known: 1, .. }), "{error}");
    }

    #[test]
    fn decode_trailing_or_missing_bytes_are_refused() {
        let mut bytes = encode(Format::META, &7u64);
        bytes.push(0);
        assert!(decode::<u64>(Format::META, &bytes).is_err());
        assert!(decode::<u64>(Format::META, &[]).is_err());
        assert!(decode::<u64>(Format::META, &[1]).is_err());
    }

    #[test]
    fn decode_forged_length_reserves_nothing() {
        // A vector that claims 2^63 elements.
        let bytes = [1, 253, 0, 0, 0, 0, 0, 0, 0, 128];
        assert!(decode::<Vec<u64>>(Format::META, &bytes).is_err());
    }
}
