//! What a submitter writes: a spec and its ops (design 2, 2.4).
//!
//! Everything is optional here, and absent means the default. One flat type for both writings of an op (`args`, or the fields of
//! `exec` and `sleep` in the op or in the job itself), because serde's tagged and flattened forms would copy every value first.

use std::{collections::BTreeMap, fmt, sync::Arc};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de, ser::SerializeSeq};
use serde_json::{Number, value::RawValue};

use super::{
    number::{Cores, Priority},
    object,
};
use crate::queue::{
    ids::JobId,
    job::{FinalStatuses, JobRef, OnFailure},
};

/// A job to be.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Spec {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queue: Option<Arc<str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<Box<str>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<Arc<str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resource_group: Option<Arc<str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub priority: Option<Priority>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unique: Option<Arc<str>>,
    /// `"etl:5"` creates the group if it is absent.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub limits: Vec<Box<str>>,
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "object::optional")]
    pub needs: Option<NeedsSpec>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub needs_override: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lease_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none", with = "on_failure")]
    pub on_failure: Option<OnFailure>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rerun_on_loss: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retries: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lost_limit: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "object::optional")]
    pub backoff: Option<Backoff>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub no_retry_after_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delay_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run_at_ms: Option<u64>,
    /// A small JSON object.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub meta: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub comment: Option<Box<str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<Box<str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keep_output: Option<bool>,
    /// The submitter's, for commands to inherit; kept once for all jobs that have the same.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub environment: Option<BTreeMap<String, String>>,
    /// This member's name in its batch.
    #[serde(rename = "as", skip_serializing_if = "Option::is_none")]
    pub batch_name: Option<Box<str>>,
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "object::optional_list")]
    pub ops: Option<Vec<OpSpec>>,
    // From here on: a job of one op, written short.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub depends: Vec<Depends>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<Arc<str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub args: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body: Option<Body>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub argv: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shell: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cwd: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub env: Option<BTreeMap<String, String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stdin_file: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout_s: Option<Number>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_ram_mb: Option<u64>,
    /// Seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sleep: Option<Number>,
}

/// One op of a job: `kind` with `args` or `body`, or the fields of `exec` and `sleep` in place of `args`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct OpSpec {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<Arc<str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub priority: Option<Priority>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub depends: Vec<Depends>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub args: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body: Option<Body>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub argv: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shell: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cwd: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub env: Option<BTreeMap<String, String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stdin_file: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout_s: Option<Number>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_ram_mb: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none", alias = "seconds")]
    pub sleep: Option<Number>,
}

/// What a job needs of its machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct NeedsSpec {
    pub cores: Cores,
    pub ram_mb: u64,
    pub disk_mb: u64,
    pub time_s: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Backoff {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub base_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cap_ms: Option<u64>,
}

/// An opaque body: text, or `{"base64": "..."}`; it comes back as it was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    Text(Box<str>),
    Binary(Vec<u8>),
}

/// `[job, [statuses]]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Depends {
    pub on: JobRef,
    pub accept: FinalStatuses,
}

mod on_failure {
    use super::{Deserialize, Deserializer, OnFailure, Serializer, de};

    #[allow(clippy::ref_option, reason = "the signature is serde's")]
    pub fn serialize<S: Serializer>(value: &Option<OnFailure>, serializer: S) -> Result<S::Ok, S::Error> {
        match value {
            Some(OnFailure::Bury) => serializer.serialize_str("bury"),
            Some(OnFailure::Error) => serializer.serialize_str("error"),
            None => serializer.serialize_none(),
        }
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<OnFailure>, D::Error> {
        match Option::<Box<str>>::deserialize(deserializer)?.as_deref() {
            None => Ok(None),
            Some("bury") => Ok(Some(OnFailure::Bury)),
            Some("error") => Ok(Some(OnFailure::Error)),
            Some(other) => Err(de::Error::custom(format!("`{other}` is not one of bury, error"))),
        }
    }
}

impl Serialize for Body {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use base64::{Engine, engine::general_purpose::STANDARD};
        match self {
            Body::Text(text) => serializer.serialize_str(text),
            Body::Binary(bytes) => Base64 { base64: STANDARD.encode(bytes) }.serialize(serializer),
        }
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Base64 {
    base64: String,
}

impl<'de> Deserialize<'de> for Body {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(BodyVisitor)
    }
}

struct BodyVisitor;

impl<'de> de::Visitor<'de> for BodyVisitor {
    type Value = Body;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string, or {\"base64\": \"...\"}")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Body, E> {
        Ok(Body::Text(text.into()))
    }

    fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<Body, A::Error> {
        use base64::{Engine, engine::general_purpose::STANDARD};
        let Base64 { base64 } = Base64::deserialize(de::value::MapAccessDeserializer::new(map))?;
        STANDARD
            .decode(base64)
            .map(Body::Binary)
            .map_err(|error| de::Error::custom(format!("this is not base64: {error}")))
    }
}

impl Serialize for Depends {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut pair = serializer.serialize_seq(Some(2))?;
        match &self.on {
            JobRef::Id(id) => pair.serialize_element(id)?,
            JobRef::Back(back) => pair.serialize_element(&-i64::from(*back))?,
            JobRef::Named(name) => pair.serialize_element(&format!("@{name}"))?,
        }
        pair.serialize_element(&status_names(self.accept))?;
        pair.end()
    }
}

fn status_names(accept: FinalStatuses) -> Vec<&'static str> {
    [("success", accept.success), ("error", accept.error), ("canceled", accept.canceled)]
        .into_iter()
        .filter_map(|(name, listed)| listed.then_some(name))
        .collect()
}

impl<'de> Deserialize<'de> for Depends {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(DependsVisitor)
    }
}

struct DependsVisitor;

impl<'de> de::Visitor<'de> for DependsVisitor {
    type Value = Depends;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[job, [statuses]]")
    }

    fn visit_seq<A: de::SeqAccess<'de>>(self, mut pair: A) -> Result<Depends, A::Error> {
        let Some(On(on)) = pair.next_element()? else {
            return Err(de::Error::custom("a dependency is [job, [statuses]]"));
        };
        let accept = pair.next_element::<Vec<Box<str>>>()?.unwrap_or_default();
        if pair.next_element::<de::IgnoredAny>()?.is_some() {
            return Err(de::Error::custom("a dependency is [job, [statuses]], and no more"));
        }
        Ok(Depends { on, accept: accepted(&accept).map_err(de::Error::custom)? })
    }
}

fn accepted(names: &[Box<str>]) -> Result<FinalStatuses, String> {
    let mut accept = FinalStatuses::default();
    for name in names {
        match &**name {
            "success" => accept.success = true,
            "error" => accept.error = true,
            "canceled" => accept.canceled = true,
            other => return Err(format!("`{other}` is no final status; list success, error, canceled")),
        }
    }
    Ok(accept)
}

/// The first half of a dependency.
struct On(JobRef);

impl<'de> Deserialize<'de> for On {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(OnVisitor)
    }
}

struct OnVisitor;

impl de::Visitor<'_> for OnVisitor {
    type Value = On;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a job id, -k for the k-th job before in this batch, or \"@name\"")
    }

    fn visit_u64<E: de::Error>(self, id: u64) -> Result<On, E> {
        match id {
            0 => Err(E::custom("job ids begin at 1")),
            id => Ok(On(JobRef::Id(JobId(id)))),
        }
    }

    fn visit_i64<E: de::Error>(self, back: i64) -> Result<On, E> {
        match u32::try_from(back.unsigned_abs()) {
            Ok(back) => Ok(On(JobRef::Back(back))),
            Err(_) => Err(E::custom("no batch is that long")),
        }
    }

    fn visit_str<E: de::Error>(self, name: &str) -> Result<On, E> {
        match name.strip_prefix('@') {
            Some(name) if !name.is_empty() => Ok(On(JobRef::Named(name.into()))),
            _ => Err(E::custom("a job named in the same batch is written \"@name\"")),
        }
    }
}
