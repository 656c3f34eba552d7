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
    Refusal::invalid(field, in_our_words(&message))
}

const UNKNOWN: &str = "unknown field `";
const MISSING: &str = "missing field `";
const DUPLICATE: &str = "duplicate field `";

/// serde's words are of Rust (`expected u32`), and say what was wrong; ours are of JSON, and say what to do.
fn in_our_words(message: &str) -> String {
    // Without the list of forty known ones, which hides what matters.
    if message.starts_with(UNKNOWN) {
        return "there is no such field; look at the contract for its name".to_owned();
    }
    if message.starts_with(MISSING) {
        return "this field is needed".to_owned();
    }
    if message.starts_with(DUPLICATE) {
        return "this field stands here twice; say it once".to_owned();
    }
    let wrong = ["invalid type: ", "invalid value: ", "unknown variant "];
    let wrong = wrong.iter().find_map(|prefix| message.strip_prefix(prefix)?.split_once(", expected "));
    wrong.map_or_else(
        || message.to_owned(),
        |(found, expected)| format!("give {}, not {}", wanted(expected), given(found)),
    )
}

fn wanted(expected: &str) -> &str {
    match expected {
        "u8" | "u16" | "u64" | "usize" => "a whole number from 0",
        "u32" => "a whole number from 0 to 4294967295",
        "i32" => "a whole number from -2147483648 to 2147483647",
        "i64" => "a whole number",
        "f64" | "a JSON number" => "a number",
        "a boolean" => "true or false",
        "a sequence" => "a list",
        "a map" => "an object",
        "any valid JSON value" => "JSON",
        expected if expected.starts_with("struct ") => "an object",
        expected => expected,
    }
}

/// `integer `5``, `string "x"`: the value is enough.
fn given(found: &str) -> &str {
    match found {
        "map" => "an object",
        "sequence" => "a list",
        found => {
            let kinds = ["integer ", "floating point ", "boolean ", "string ", "character "];
            kinds.iter().find_map(|kind| found.strip_prefix(kind)).unwrap_or(found)
        }
    }
}

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
    let rest = [UNKNOWN, MISSING, DUPLICATE].iter().find_map(|prefix| message.strip_prefix(prefix))?;
    rest.split('`').next()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{BulkRequest, ClaimRequest, LeasesRequest, ScheduleRequest, Spec, SubmitRequest, WorkerRequest};

    fn refused<T: DeserializeOwned>(text: &str) -> String {
        decode::<T>(text.as_bytes()).err().map(|refusal| refusal.to_string()).unwrap_or_default()
    }

    #[test]
    fn mistakes_are_told_in_words_of_json() {
        for (text, message) in [
            (r#"{"retries": 1.5}"#, "retries: give a whole number from 0 to 4294967295, not `1.5`"),
            (r#"{"retries": -1}"#, "retries: give a whole number from 0 to 4294967295, not `-1`"),
            (r#"{"delay_ms": "5"}"#, "delay_ms: give a whole number from 0, not \"5\""),
            (r#"{"delay_ms": {}}"#, "delay_ms: give a whole number from 0, not an object"),
            (r#"{"argv": "ls"}"#, "argv: give a list, not \"ls\""),
            (r#"{"keep_output": 1}"#, "keep_output: give true or false, not `1`"),
            (r#"{"needs": 1}"#, "needs: give an object, not `1`"),
            (r#"{"sleep": "1"}"#, "sleep: give a number, not \"1\""),
            (r#"{"name": null, "name": "a"}"#, "name: this field stands here twice; say it once"),
            (r#"{"ops": [{"env": {"A": 1}}]}"#, "ops[0].env.A: give a string, not `1`"),
            (r#"{"colour": 1}"#, "colour: there is no such field; look at the contract for its name"),
            (r#"{"priority": "urgent"}"#, "priority: `urgent` is no priority; give a number or "),
        ] {
            let refusal = refused::<Spec>(text);
            assert!(refusal.starts_with(message), "{text}: {refusal}");
        }
        assert_eq!(refused::<ClaimRequest>(r#"{"worker": "w"}"#), "worker: give an object, not \"w\"");
        assert_eq!(refused::<ClaimRequest>("{}"), "worker: this field is needed");
    }

    #[test]
    fn claims_name_queues_that_there_may_be() {
        for queue in ["", "*", "two words", "-x"] {
            let text = serde_json::json!({ "worker": { "id": "w" }, "queues": ["etl", queue] }).to_string();
            let claim: ClaimRequest = decode(text.as_bytes()).expect("a claim");
            assert!(claim.into_queue().is_err_and(|refusal| refusal.to_string().starts_with("queues: ")), "{queue:?}");
        }
    }

    #[test]
    fn lists_are_no_objects() {
        for text in [r#"{"needs": []}"#, r#"{"backoff": [1, 2]}"#, r#"{"ops": [["x"]]}"#] {
            assert!(refused::<Spec>(text).ends_with("give an object, not a list"), "{text}");
        }
        for text in [r#"{"worker": ["w", "", 1]}"#, r#"{"worker": {"id": "w"}, "free": []}"#] {
            assert!(refused::<ClaimRequest>(text).ends_with("give an object, not a list"), "{text}");
        }
        for (text, refusal) in [
            (r#"{"items": [[1, 2, "start"]]}"#, "items[0]: give an object, not a list"),
            (
                r#"{"items": [{"job": 1, "lease": 2, "do": "touch", "log": [["a", "b"]]}]}"#,
                "items[0].log[0]: give an object, not a list",
            ),
            (r#"{"claim": [["w"]]}"#, "claim: give an object, not a list"),
            (r#"{"items": [{"job": 1, "lease": 2, "do": 5}]}"#, "items[0].do: give a string, not `5`"),
        ] {
            assert_eq!(refused::<LeasesRequest>(text), refusal);
        }
        assert_eq!(refused::<WorkerRequest>(r#"{"resources": []}"#), "resources: give an object, not a list");
        assert_eq!(refused::<ScheduleRequest>(r#"{"spec": []}"#), "spec: give an object, not a list");
        assert_eq!(refused::<SubmitRequest>(r#"{"jobs": [["q"]]}"#), "jobs[0]: give an object, not a list");
        assert!(refused::<BulkRequest>(r#"{"do": 5, "select": {}}"#).starts_with("do: name a verb, "));
    }
}
