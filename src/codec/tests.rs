//! What is written is what bincode writes, and what bincode reads is read.

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde::{Deserialize, Serialize};

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

/// As bincode does: a number has one form, and not one for each width.
#[test]
fn decode_of_a_number_wider_than_its_type_is_refused() {
    for wide in [&[1, 252, 44, 1, 0, 0][..], &[1, 253, 44, 1, 0, 0, 0, 0, 0, 0]] {
        assert!(decode::<u16>(Format::META, wide).is_err());
        assert!(decode::<i16>(Format::META, wide).is_err());
    }
    let wide = [1, 253, 44, 1, 0, 0, 0, 0, 0, 0];
    assert!(decode::<u32>(Format::META, &wide).is_err() && decode::<i32>(Format::META, &wide).is_err());
    assert_eq!(decode::<u64>(Format::META, &wide).unwrap(), 300);
    assert!(decode::<Choice>(Format::META, &[1, 253, 0, 0, 0, 0, 0, 0, 0, 0]).is_err());
}

/// One of everything that formats have.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Everything {
    truth: bool,
    unsigned: (u8, u16, u32, u64, u128),
    signed: (i8, i16, i32, i64),
    text: Box<str>,
    list: Vec<Choice>,
    pairs: BTreeMap<u32, Option<String>>,
    fixed: [u8; 3],
    newtype: Newtype,
    nothing: (),
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Newtype(u64);

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Choice {
    Unit,
    Newtype(Box<str>),
    Tuple(u64, bool),
    Struct { number: Option<i64>, bytes: bytes::Bytes },
    Result(Result<u32, String>),
}

fn choice() -> impl Strategy<Value = Choice> {
    prop_oneof![
        Just(Choice::Unit),
        ".*".prop_map(|text| Choice::Newtype(text.into())),
        any::<(u64, bool)>().prop_map(|(number, truth)| Choice::Tuple(number, truth)),
        any::<(Option<i64>, Vec<u8>)>().prop_map(|(number, bytes)| Choice::Struct { number, bytes: bytes.into() }),
        any::<Result<u32, String>>().prop_map(Choice::Result),
    ]
}

/// Numbers of every length.
fn number() -> impl Strategy<Value = u128> {
    (any::<u128>(), 0..128_u32).prop_map(|(number, bits)| number >> bits)
}

fn everything() -> impl Strategy<Value = Everything> {
    let numbers = [number(), number(), number(), number(), number()];
    let parts = (any::<bool>(), numbers, ".{0,300}", prop::collection::vec(choice(), 0..5), any::<[u8; 3]>());
    let pairs = prop::collection::btree_map(any::<u32>(), any::<Option<String>>(), 0..4);
    (parts, pairs).prop_map(|((truth, [a, b, c, d, e], text, list, fixed), pairs)| Everything {
        truth,
        unsigned: (a as u8, b as u16, c as u32, d as u64, e),
        signed: (a as i8, b as i16, c as i32, d as i64),
        text: text.into(),
        list,
        pairs,
        fixed,
        newtype: Newtype(e as u64),
        nothing: (),
    })
}

fn of_bincode<T: Serialize>(value: &T) -> Vec<u8> {
    bincode::serde::encode_to_vec(value, bincode::config::standard()).expect("it encodes")
}

proptest! {
    #[test]
    fn encode_writes_what_bincode_writes_and_decode_reads_it(value in everything()) {
        let bytes = encode(Format::META, &value);
        prop_assert_eq!(&bytes[1..], &of_bincode(&value)[..]);
        prop_assert_eq!(decode::<Everything>(Format::META, &bytes).expect("it decodes"), value);
    }

    /// Damaged bytes are told from sound ones as bincode does, and nothing of them panics.
    #[test]
    fn decode_of_damaged_bytes_gives_what_bincode_gives(value in everything(), at in any::<prop::sample::Index>(), byte in any::<u8>(), cut in any::<bool>()) {
        let mut bytes = encode(Format::META, &value);
        let at = 1 + at.index(bytes.len() - 1);
        bytes[at] = byte;
        if cut {
            bytes.truncate(at);
        }
        let theirs = bincode::serde::decode_from_slice::<Everything, _>(&bytes[1..], bincode::config::standard().with_limit::<{ 1 << 20 }>());
        let theirs = theirs.ok().filter(|(_, used)| used + 1 == bytes.len()).map(|(value, _)| value);
        prop_assert_eq!(decode(Format::META, &bytes).ok(), theirs);
    }
}
