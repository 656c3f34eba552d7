//! User JSON inside our own: text that is passed on, not read.

use serde::{Serialize, Serializer};
use serde_json::value::RawValue;

use crate::{json, queue::job::Json};

/// JSON text, written as it came. It was checked when it was taken in.
#[derive(Clone, Copy)]
pub struct Raw<'a>(pub &'a Json);

impl Serialize for Raw<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match serde_json::from_str::<&RawValue>(&self.0.0) {
            Ok(raw) => raw.serialize(serializer),
            // Another door let it in; as a string it is at least readable.
            Err(_) => serializer.serialize_str(&self.0.0),
        }
    }
}

/// Takes it in. The error says what no reader could read.
pub(super) fn take_in(raw: Box<RawValue>) -> Result<Json, String> {
    json::check(raw.get()).map_err(|error| format!("this is not JSON that can be kept: {error}"))?;
    Ok(Json(raw.into()))
}

/// An owned copy, for answers that are built before they are written.
pub fn raw_value(json: &Json) -> Option<Box<RawValue>> {
    RawValue::from_string(json.0.to_string()).ok()
}
