//! Shared text, decoded with one allocation: by itself serde makes a text of its own first and copies that. An entry has four of
//! them for each submission.

use std::{fmt, sync::Arc};

use serde::{
    Deserializer,
    de::{Error, Visitor},
};

/// For `deserialize_with`: takes the text from where it lies.
pub fn shared<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Arc<str>, D::Error> {
    deserializer.deserialize_str(Shared)
}

struct Shared;

impl Visitor<'_> for Shared {
    type Value = Arc<str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("text")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Arc<str>, E> {
        Ok(text.into())
    }
}
