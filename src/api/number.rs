//! Numbers that JSON writes in more than one way: priorities with names, cores with decimals.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::queue::ids;

/// A priority as a number or one of five names (design 2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Priority(pub i64);

const PRIORITY_NAMES: [(&str, i64); 5] =
    [("very-high", -20), ("high", -10), ("normal", 0), ("low", 10), ("very-low", 20)];

/// A number or a name in any case, with `-` or `_`.
pub fn parse_priority(text: &str) -> Result<Priority, String> {
    if let Ok(number) = text.parse() {
        return Ok(Priority(number));
    }
    let name = text.to_ascii_lowercase().replace('_', "-");
    match PRIORITY_NAMES.iter().find(|(known, _)| *known == name) {
        Some((_, number)) => Ok(Priority(*number)),
        None => Err(format!("`{text}` is no priority; give a number or one of very-high, high, normal, low, very-low")),
    }
}

impl From<Priority> for ids::Priority {
    fn from(priority: Priority) -> Self {
        Self(priority.0)
    }
}

impl From<ids::Priority> for Priority {
    fn from(priority: ids::Priority) -> Self {
        Self(priority.0)
    }
}

impl Serialize for Priority {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_i64(self.0)
    }
}

impl<'de> Deserialize<'de> for Priority {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(PriorityVisitor)
    }
}

struct PriorityVisitor;

impl de::Visitor<'_> for PriorityVisitor {
    type Value = Priority;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a whole number or one of very-high, high, normal, low, very-low")
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<Priority, E> {
        Ok(Priority(number))
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<Priority, E> {
        i64::try_from(number).map(Priority).map_err(|_| E::custom("a priority is a signed number of 64 bits"))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Priority, E> {
        parse_priority(text).map_err(E::custom)
    }
}

/// Cores with up to three decimals, kept in thousandths: `1.5` is 1500.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cores {
    pub milli: u64,
}

/// So many that no machine has them, few enough that thousandths of them are exact in a double.
const CORES_MAX: f64 = 4_000_000.0;

impl Serialize for Cores {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.milli % 1000 {
            0 => serializer.serialize_u64(self.milli / 1000),
            // The shortest text that reads back as this double is the decimal that was meant.
            _ => serializer.serialize_f64(self.milli as f64 / 1000.0),
        }
    }
}

impl<'de> Deserialize<'de> for Cores {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let cores = f64::deserialize(deserializer)?;
        if !(0.0..=CORES_MAX).contains(&cores) {
            return Err(de::Error::custom("cores is a number from 0 to 4000000"));
        }
        let milli = (cores * 1000.0).round();
        if (cores * 1000.0 - milli).abs() > 1e-6 {
            return Err(de::Error::custom("cores has at most three decimals"));
        }
        Ok(Self { milli: milli as u64 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn priority_names_in_any_writing_are_numbers() {
        for (text, number) in [
            ("\"Very-High\"", -20),
            ("\"HIGH\"", -10),
            ("\"normal\"", 0),
            ("\"low\"", 10),
            ("\"very_low\"", 20),
            ("-7", -7),
        ] {
            assert_eq!(serde_json::from_str::<Priority>(text).unwrap(), Priority(number), "{text}");
        }
        assert!(
            serde_json::from_str::<Priority>("\"urgent\"").unwrap_err().to_string().contains("`urgent` is no priority")
        );
        assert!(serde_json::from_str::<Priority>("9223372036854775808").is_err());
        assert!(serde_json::from_str::<Priority>("1.5").is_err());
    }

    #[test]
    fn cores_keep_three_decimals_exactly() {
        for (text, milli) in [
            ("1.5", 1500),
            ("0.1", 100),
            ("0.001", 1),
            ("1.005", 1005),
            ("2", 2000),
            ("0", 0),
            ("4000000", 4_000_000_000),
        ] {
            let cores: Cores = serde_json::from_str(text).unwrap();
            assert_eq!(cores.milli, milli, "{text}");
            assert_eq!(serde_json::to_string(&cores).unwrap(), text);
        }
        for text in ["-1", "1.0005", "4000001", "\"1\""] {
            assert!(serde_json::from_str::<Cores>(text).is_err(), "{text}");
        }
    }
}
