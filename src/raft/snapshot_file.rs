//! The format of a snapshot: one framed, checksummed file.
//!
//! ```text
//! "RAFTQSNP" | frame(header) | frame(rows)* | frame() | frame(trailer)
//! frame   = u32 length | u32 crc32c of the content | content
//! rows    = ( u8 family | u32 key length | u32 value length | key | value )*      about a MiB a frame
//! trailer = rows written, and a hash over all of them
//! ```
//!
//! Numbers are little-endian. It is written from one pinned view of the state store, and the meta in its header is read
//! from that same view: a snapshot that says 1000 while its rows are at 1400 would make a follower apply 400 entries twice.
//! It is read to its end, and every sum compared, before it replaces anything.

use std::{
    fs::File,
    io::{self, BufReader, BufWriter, Read, Write},
    path::Path,
};

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::Xxh3;

use super::{
    replica::{Applied, AppliedV1},
    state_rows::{self, FAMILIES},
    types::SnapshotMeta,
};
use crate::{
    codec::{self, CodecError, Format},
    storage::{ClusterId, Family, Pinned},
};

const MAGIC: &[u8; 8] = b"RAFTQSNP";
const FRAME_BYTES: usize = 1 << 20;
/// A frame ends with the row that passes [`FRAME_BYTES`], and a row is at most this.
const FRAME_BYTES_MAX: usize = FRAME_BYTES + (64 << 20);
const BUFFER_BYTES: usize = 1 << 20;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    pub cluster: ClusterId,
    pub applied: Applied,
}

/// As it was written before there were feature levels.
#[derive(Deserialize)]
struct HeaderV1 {
    cluster: ClusterId,
    applied: AppliedV1,
}

impl From<HeaderV1> for Header {
    fn from(old: HeaderV1) -> Self {
        Self { cluster: old.cluster, applied: old.applied.into() }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trailer {
    pub rows: u64,
    pub hash: u128,
}

#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    #[error("the snapshot is damaged: {0}")]
    Damaged(String),
    #[error("the snapshot was written by a newer version of raftq ({0}); use that version")]
    Newer(String),
    #[error("the snapshot is of cluster {found}, this is {wanted}")]
    OtherCluster { found: ClusterId, wanted: ClusterId },
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl Header {
    pub fn meta(&self) -> SnapshotMeta {
        self.applied.meta()
    }
}

/// Writes the pinned view to a file, which the caller syncs.
pub fn write(out: impl Write, cluster: ClusterId, pinned: &Pinned) -> Result<Header, SnapshotError> {
    let header = Header { cluster, applied: applied(pinned)? };
    let mut out = BufWriter::with_capacity(BUFFER_BYTES, out);
    out.write_all(MAGIC)?;
    write_frame(&mut out, &codec::encode(Format::SNAPSHOT, &header))?;
    let trailer = write_rows(&mut out, pinned)?;
    write_frame(&mut out, &[])?;
    write_frame(&mut out, &codec::encode(Format::TRAILER, &trailer))?;
    out.flush()?;
    Ok(header)
}

/// Only the header, of a file that was verified when it was made or received.
pub fn read_header(path: &Path) -> Result<Header, SnapshotError> {
    header(&mut BufReader::new(File::open(path)?))
}

/// Reads the whole file, and gives each row to `each`. The sums are known to be right only when this returns.
pub fn read(path: &Path, each: EachRow<'_>) -> Result<(Header, Trailer), SnapshotError> {
    let mut input = BufReader::with_capacity(BUFFER_BYTES, File::open(path)?);
    let header = header(&mut input)?;
    let (mut hasher, mut rows) = (Xxh3::new(), 0);
    loop {
        let frame = read_frame(&mut input)?;
        if frame.is_empty() {
            break;
        }
        rows += read_rows(&frame, &mut hasher, each)?;
    }
    let trailer: Trailer = codec::decode(Format::TRAILER, &read_frame(&mut input)?).map_err(undecodable)?;
    let found = Trailer { rows, hash: hasher.digest128() };
    if found != trailer {
        return Err(damaged(format!("it has {} rows, its trailer says {}", found.rows, trailer.rows)));
    }
    if input.read(&mut [0])? != 0 {
        return Err(damaged("bytes follow its end"));
    }
    Ok((header, trailer))
}

fn applied(pinned: &Pinned) -> Result<Applied, SnapshotError> {
    let bytes = pinned.get(state_rows::META, super::replica::APPLIED_KEY).map_err(io::Error::from)?;
    let applied = bytes.map(|bytes| Applied::decode(&bytes)).transpose();
    Ok(applied.map_err(io::Error::other)?.unwrap_or_default())
}

/// Which rows go along: all but the disk's own identity.
fn travels(family: Family, key: &[u8]) -> bool {
    family != state_rows::META || key == super::replica::APPLIED_KEY
}

fn write_rows(out: &mut impl Write, pinned: &Pinned) -> Result<Trailer, SnapshotError> {
    let (mut frame, mut hasher, mut rows) = (Vec::with_capacity(FRAME_BYTES * 2), Xxh3::new(), 0);
    for (number, &family) in FAMILIES.iter().enumerate() {
        let number = u8::try_from(number).expect("there are a handful of families");
        let mut failed = None;
        let walked = pinned.scan_all(family, &mut |key, value| {
            if travels(family, key) {
                put_row(&mut frame, number, key, value);
                rows += 1;
            }
            if frame.len() >= FRAME_BYTES {
                hasher.update(&frame);
                failed = write_frame(out, &frame).err();
                frame.clear();
            }
            failed.is_none()
        });
        walked.map_err(io::Error::from)?;
        if let Some(error) = failed {
            return Err(error.into());
        }
    }
    if !frame.is_empty() {
        hasher.update(&frame);
        write_frame(out, &frame)?;
    }
    Ok(Trailer { rows, hash: hasher.digest128() })
}

fn put_row(frame: &mut Vec<u8>, family: u8, key: &[u8], value: &[u8]) {
    let length = |bytes: &[u8]| u32::try_from(bytes.len()).expect("rows are far below 4 GiB").to_le_bytes();
    frame.push(family);
    frame.extend_from_slice(&length(key));
    frame.extend_from_slice(&length(value));
    frame.extend_from_slice(key);
    frame.extend_from_slice(value);
}

fn read_rows(mut frame: &[u8], hasher: &mut Xxh3, each: EachRow<'_>) -> Result<u64, SnapshotError> {
    hasher.update(frame);
    let mut rows = 0;
    while !frame.is_empty() {
        let ((family, key, value), rest) = take_row(frame).ok_or_else(|| damaged("a row is cut short"))?;
        let family = FAMILIES.get(usize::from(family)).ok_or_else(|| damaged("a row is of an unknown family"))?;
        each(*family, key, value)?;
        rows += 1;
        frame = rest;
    }
    Ok(rows)
}

type EachRow<'a> = &'a mut dyn FnMut(Family, &[u8], &[u8]) -> Result<(), SnapshotError>;
type Row<'a> = (u8, &'a [u8], &'a [u8]);

fn take_row(frame: &[u8]) -> Option<(Row<'_>, &[u8])> {
    let (&family, rest) = frame.split_first()?;
    let (key_length, rest) = rest.split_first_chunk::<4>()?;
    let (value_length, rest) = rest.split_first_chunk::<4>()?;
    let (key, rest) = rest.split_at_checked(u32::from_le_bytes(*key_length) as usize)?;
    let (value, rest) = rest.split_at_checked(u32::from_le_bytes(*value_length) as usize)?;
    Some(((family, key, value), rest))
}

fn header(input: &mut impl Read) -> Result<Header, SnapshotError> {
    let mut magic = [0; MAGIC.len()];
    input.read_exact(&mut magic).map_err(|_| damaged("it is shorter than its first line"))?;
    if &magic != MAGIC {
        return Err(damaged("it does not begin as one"));
    }
    codec::decode_or_older::<Header, HeaderV1>(Format::SNAPSHOT, &read_frame(input)?).map_err(undecodable)
}

fn write_frame(out: &mut impl Write, content: &[u8]) -> io::Result<()> {
    let length = u32::try_from(content.len()).expect("frames are far below 4 GiB");
    out.write_all(&length.to_le_bytes())?;
    out.write_all(&crc32c::crc32c(content).to_le_bytes())?;
    out.write_all(content)
}

fn read_frame(input: &mut impl Read) -> Result<Vec<u8>, SnapshotError> {
    let length = read_u32(input)? as usize;
    let sum = read_u32(input)?;
    if length > FRAME_BYTES_MAX {
        return Err(damaged(format!("a frame of {length} bytes")));
    }
    let mut content = vec![0; length];
    input.read_exact(&mut content).map_err(|_| damaged("it is cut short"))?;
    if crc32c::crc32c(&content) != sum {
        return Err(damaged("a checksum does not match"));
    }
    Ok(content)
}

fn read_u32(input: &mut impl Read) -> Result<u32, SnapshotError> {
    let mut bytes = [0; 4];
    input.read_exact(&mut bytes).map_err(|_| damaged("it is cut short"))?;
    Ok(u32::from_le_bytes(bytes))
}

fn undecodable(error: CodecError) -> SnapshotError {
    match error {
        CodecError::Newer { .. } => SnapshotError::Newer(error.to_string()),
        CodecError::Empty { .. } | CodecError::TooLarge { .. } | CodecError::Malformed { .. } => {
            damaged(error.to_string())
        }
    }
}

fn damaged(why: impl Into<String>) -> SnapshotError {
    SnapshotError::Damaged(why.into())
}
