//! Fields that are objects. serde would read a list as well, as a struct's fields in their order, which nobody means.

use std::{fmt, marker::PhantomData};

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor, value::MapAccessDeserializer},
};

/// For `deserialize_with`.
pub fn object<'de, T: Deserialize<'de>, D: Deserializer<'de>>(field: D) -> Result<T, D::Error> {
    Object::deserialize(field).map(|Object(value)| value)
}

pub fn optional<'de, T: Deserialize<'de>, D: Deserializer<'de>>(field: D) -> Result<Option<T>, D::Error> {
    let field: Option<Object<T>> = Deserialize::deserialize(field)?;
    Ok(field.map(|Object(value)| value))
}

pub fn list<'de, T: Deserialize<'de>, D: Deserializer<'de>>(field: D) -> Result<Vec<T>, D::Error> {
    let field: Vec<Object<T>> = Deserialize::deserialize(field)?;
    Ok(values(field))
}

pub fn optional_list<'de, T: Deserialize<'de>, D: Deserializer<'de>>(field: D) -> Result<Option<Vec<T>>, D::Error> {
    let field: Option<Vec<Object<T>>> = Deserialize::deserialize(field)?;
    Ok(field.map(values))
}

/// Stays where it is.
fn values<T>(objects: Vec<Object<T>>) -> Vec<T> {
    objects.into_iter().map(|Object(value)| value).collect()
}

struct Object<T>(T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(field: D) -> Result<Self, D::Error> {
        field.deserialize_map(OfMap(PhantomData)).map(Self)
    }
}

struct OfMap<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for OfMap<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, fields: A) -> Result<T, A::Error> {
        T::deserialize(MapAccessDeserializer::new(fields))
    }
}
