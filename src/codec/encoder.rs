//! Values to bytes, behind whatever the buffer already holds.

use std::fmt;

use serde::{
    Serialize, Serializer,
    ser::{
        Error, SerializeMap, SerializeSeq, SerializeStruct, SerializeStructVariant, SerializeTuple,
        SerializeTupleStruct, SerializeTupleVariant,
    },
};

use super::number::{ONE_BYTE_MAX, U16, U32, U64, U128, zigzag};

pub(super) struct Encoder<'a>(pub &'a mut Vec<u8>);

/// A value of a type that has no place here.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct Unencodable(Box<str>);

type Result<T = ()> = std::result::Result<T, Unencodable>;

impl Encoder<'_> {
    #[inline]
    fn number(&mut self, value: u64) {
        match u8::try_from(value) {
            Ok(byte) if byte <= ONE_BYTE_MAX => self.0.push(byte),
            _ => self.wide(value),
        }
    }

    fn wide(&mut self, value: u64) {
        if let Ok(value) = u16::try_from(value) {
            self.marked(U16, &value.to_le_bytes());
        } else if let Ok(value) = u32::try_from(value) {
            self.marked(U32, &value.to_le_bytes());
        } else {
            self.marked(U64, &value.to_le_bytes());
        }
    }

    #[inline]
    fn marked(&mut self, marker: u8, bytes: &[u8]) {
        self.0.push(marker);
        self.0.extend_from_slice(bytes);
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.number(bytes.len() as u64);
        self.0.extend_from_slice(bytes);
    }
}

impl Error for Unencodable {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self(message.to_string().into())
    }
}

impl Serializer for &mut Encoder<'_> {
    type Ok = ();
    type Error = Unencodable;
    type SerializeSeq = Self;
    type SerializeTuple = Self;
    type SerializeTupleStruct = Self;
    type SerializeTupleVariant = Self;
    type SerializeMap = Self;
    type SerializeStruct = Self;
    type SerializeStructVariant = Self;

    fn is_human_readable(&self) -> bool {
        false
    }

    #[inline]
    fn serialize_bool(self, value: bool) -> Result {
        self.serialize_u8(value.into())
    }

    #[inline]
    fn serialize_u8(self, value: u8) -> Result {
        self.0.push(value);
        Ok(())
    }

    #[inline]
    fn serialize_u16(self, value: u16) -> Result {
        self.serialize_u64(value.into())
    }

    #[inline]
    fn serialize_u32(self, value: u32) -> Result {
        self.serialize_u64(value.into())
    }

    #[inline]
    fn serialize_u64(self, value: u64) -> Result {
        self.number(value);
        Ok(())
    }

    fn serialize_u128(self, value: u128) -> Result {
        match u64::try_from(value) {
            Ok(value) => self.number(value),
            Err(_) => self.marked(U128, &value.to_le_bytes()),
        }
        Ok(())
    }

    fn serialize_i8(self, value: i8) -> Result {
        self.serialize_u8(value.cast_unsigned())
    }

    fn serialize_i16(self, value: i16) -> Result {
        self.serialize_i64(value.into())
    }

    fn serialize_i32(self, value: i32) -> Result {
        self.serialize_i64(value.into())
    }

    fn serialize_i64(self, value: i64) -> Result {
        self.serialize_u64(zigzag(value))
    }

    fn serialize_f32(self, _: f32) -> Result {
        Err(Unencodable::custom("a number with a fraction"))
    }

    fn serialize_f64(self, _: f64) -> Result {
        Err(Unencodable::custom("a number with a fraction"))
    }

    fn serialize_char(self, _: char) -> Result {
        Err(Unencodable::custom("a lone character"))
    }

    #[inline]
    fn serialize_str(self, text: &str) -> Result {
        self.serialize_bytes(text.as_bytes())
    }

    #[inline]
    fn serialize_bytes(self, bytes: &[u8]) -> Result {
        self.bytes(bytes);
        Ok(())
    }

    #[inline]
    fn serialize_none(self) -> Result {
        self.serialize_u8(0)
    }

    #[inline]
    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result {
        self.0.push(1);
        value.serialize(self)
    }

    fn serialize_unit(self) -> Result {
        Ok(())
    }

    fn serialize_unit_struct(self, _: &'static str) -> Result {
        Ok(())
    }

    #[inline]
    fn serialize_unit_variant(self, _: &'static str, variant: u32, _: &'static str) -> Result {
        self.serialize_u32(variant)
    }

    #[inline]
    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, _: &'static str, value: &T) -> Result {
        value.serialize(self)
    }

    #[inline]
    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        variant: u32,
        _: &'static str,
        value: &T,
    ) -> Result {
        self.number(variant.into());
        value.serialize(self)
    }

    #[inline]
    fn serialize_seq(self, length: Option<usize>) -> Result<Self> {
        let length = length.ok_or_else(|| Unencodable::custom("a list that does not know its length"))?;
        self.number(length as u64);
        Ok(self)
    }

    #[inline]
    fn serialize_tuple(self, _: usize) -> Result<Self> {
        Ok(self)
    }

    #[inline]
    fn serialize_tuple_struct(self, _: &'static str, _: usize) -> Result<Self> {
        Ok(self)
    }

    #[inline]
    fn serialize_tuple_variant(self, _: &'static str, variant: u32, _: &'static str, _: usize) -> Result<Self> {
        self.number(variant.into());
        Ok(self)
    }

    #[inline]
    fn serialize_map(self, length: Option<usize>) -> Result<Self> {
        self.serialize_seq(length)
    }

    #[inline]
    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Self> {
        Ok(self)
    }

    #[inline]
    fn serialize_struct_variant(self, _: &'static str, variant: u32, _: &'static str, _: usize) -> Result<Self> {
        self.number(variant.into());
        Ok(self)
    }
}

/// What consists of parts is its parts, one behind the other.
macro_rules! parts {
    ($trait:ident, $method:ident $(, $name:ty)?) => {
        impl $trait for &mut Encoder<'_> {
            type Ok = ();
            type Error = Unencodable;

            #[inline]
            fn $method<T: Serialize + ?Sized>(&mut self, $(_: $name,)? part: &T) -> Result {
                part.serialize(&mut **self)
            }

            #[inline]
            fn end(self) -> Result {
                Ok(())
            }
        }
    };
}

parts!(SerializeSeq, serialize_element);
parts!(SerializeTuple, serialize_element);
parts!(SerializeTupleStruct, serialize_field);
parts!(SerializeTupleVariant, serialize_field);
parts!(SerializeStruct, serialize_field, &'static str);
parts!(SerializeStructVariant, serialize_field, &'static str);

impl SerializeMap for &mut Encoder<'_> {
    type Ok = ();
    type Error = Unencodable;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result {
        key.serialize(&mut **self)
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result {
        value.serialize(&mut **self)
    }

    fn end(self) -> Result {
        Ok(())
    }
}
