//! What JSON of a user's own making must be: args, meta, results, checkpoints, progress.
//!
//! We keep such text and pass it on, unread, inside answers of our own. serde_json passes over what it need not read, so text
//! that only looks like JSON (a number beyond all floats, half a surrogate pair) would come out of one job's row and make a
//! whole listing, or a worker's whole claim, unreadable to those who asked. So it is read once, here, where it comes in.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{self, DeserializeSeed},
};

/// The deepest that it may nest. Answers put a few levels around it, and readers, serde_json among them, stop at 128.
pub const NESTING_MAX: usize = 100;

/// Whether every reader can read this text; else what is wrong with it.
pub fn check(text: &str) -> Result<(), String> {
    serde_json::from_str::<Sound>(text).map(drop).map_err(|error| error.to_string())
}

struct Sound;

impl<'de> Deserialize<'de> for Sound {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Inside { room: NESTING_MAX }.deserialize(deserializer).map(|()| Sound)
    }
}

/// A value that may hold values this many levels deep.
#[derive(Clone, Copy)]
struct Inside {
    room: usize,
}

impl Inside {
    fn deeper<E: de::Error>(self) -> Result<Self, E> {
        match self.room.checked_sub(1) {
            Some(room) => Ok(Self { room }),
            None => Err(E::custom(format!("lists and objects go at most {NESTING_MAX} deep"))),
        }
    }
}

impl<'de> DeserializeSeed<'de> for Inside {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> de::Visitor<'de> for Inside {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: de::SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        let inside = self.deeper()?;
        while list.next_element_seed(inside)?.is_some() {}
        Ok(())
    }

    fn visit_map<A: de::MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let inside = self.deeper()?;
        // A key is a string, which has no depth.
        while map.next_key_seed(inside)?.is_some() {
            map.next_value_seed(inside)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nested(levels: usize) -> String {
        format!("{}1{}", r#"{"a":["#.repeat(levels / 2), "]}".repeat(levels / 2))
    }

    #[test]
    fn check_takes_what_every_reader_reads() {
        for text in ["null", "-1.5e3", r#"{"a":[true,"\ud83d\ude00",{}],"a":""}"#, "123456789012345678901234567890"] {
            assert_eq!(check(text), Ok(()), "{text}");
        }
        assert_eq!(check(&nested(NESTING_MAX)), Ok(()));
    }

    #[test]
    fn check_refuses_what_only_looks_like_json() {
        for (text, because) in [
            ("1e400", "number out of range"),
            (r#"{"a":[1e400]}"#, "number out of range"),
            (r#""\ud800""#, "unexpected end of hex escape"),
            (r#"{"\udc00":1}"#, "lone leading surrogate"),
            ("", "EOF"),
            ("1 2", "trailing characters"),
        ] {
            let error = check(text).unwrap_err();
            assert!(error.contains(because), "{text}: {error}");
        }
        assert!(check(&nested(NESTING_MAX + 2)).unwrap_err().contains("at most 100 deep"));
        assert!(check(&"[".repeat(100_000)).is_err());
    }
}
