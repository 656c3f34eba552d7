//! Strict decoding that names what it refuses.
//!
//! The happy path is one pass of serde_json straight into the type. Only when that fails is the text read once more with a
//! path tracker, so that good requests do not pay for the names in bad ones.

use serde::de::DeserializeOwned;

use crate::queue::refusal::Refusal;

/// Decode a whole request body. The refusal's field is the path to the value, `body` where the text is no JSON at all.
pub fn decode<T: DeserializeOwned>(body: &[u8]) -> Result<T, Refusal> {
    // serde would read a list as a struct's fields in their order, which nobody means.
    if !is_object(body) {
        return Err(Refusal::invalid("body", "send a JSON object"));
    }
    serde_json::from_slice(body).map_err(|_| explain::<T>(body))
}

pub(super) fn is_object(body: &[u8]) -> bool {
    body.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'{')
}

/// Read it again, to say where it went wrong.
fn explain<T: DeserializeOwned>(body: &[u8]) -> Refusal {
    let mut text = serde_json::Deserializer::from_slice(body);
    let Err(error) = serde_path_to_error::deserialize::<_, T>(&mut text) else {
        return Refusal::invalid("body", "there is something after the end of the JSON value; send one value");
    };
    let inner = error.inner();
    if inner.is_syntax() || inner.is_eof() {
        return Refusal::invalid("body", format!("this is not JSON: {inner}"));
    }
    let message = strip_position(&inner.to_string());
    let field = field_at(&error.path().to_string(), named_in(&message));
    match message.starts_with(UNKNOWN) {
        // Without the list of forty known ones, which hides what matters.
        true => Refusal::invalid(field, "there is no such field; look at the contract for its name"),
        false => Refusal::invalid(field, message),
    }
}

const UNKNOWN: &str = "unknown field `";
const MISSING: &str = "missing field `";

/// The path to the value, completed by the field that the message names: the tracker stops at its parent in some places.
fn field_at(path: &str, named: Option<&str>) -> String {
    match (path, named) {
        (".", None) => "body".to_owned(),
        (".", Some(name)) => name.to_owned(),
        (path, Some(name)) if path != name && !path.ends_with(&format!(".{name}")) => format!("{path}.{name}"),
        (path, _) => path.to_owned(),
    }
}

/// Without serde_json's ` at line 1 column 2`: the path says it better.
fn strip_position(message: &str) -> String {
    message.split(" at line ").next().unwrap_or(message).to_owned()
}

fn named_in(message: &str) -> Option<&str> {
    let rest = message.strip_prefix(UNKNOWN).or_else(|| message.strip_prefix(MISSING))?;
    rest.split('`').next()
}
