//! Bytes to values. Whatever the bytes say, no more is reserved for it than they have: a text is taken from where it lies, and a
//! list has at most as many members as bytes are left.

use std::fmt;

use serde::de::{
    DeserializeSeed, Deserializer, EnumAccess, Error, IntoDeserializer, MapAccess, SeqAccess, VariantAccess, Visitor,
    value::U32Deserializer,
};

use super::number::{ONE_BYTE_MAX, U16, U32, U64, U128, unzigzag};

pub(super) struct Decoder<'de> {
    rest: &'de [u8],
}

/// Why bytes are no value of a type.
#[derive(Debug, thiserror::Error)]
pub(super) enum Malformed {
    #[error("they end too early")]
    Short,
    #[error("there is no such number, or it is too large")]
    Number,
    #[error("text is not UTF-8")]
    Text,
    #[error("a choice of two is neither 0 nor 1")]
    Choice,
    #[error("its type has no place here")]
    Type,
    #[error("{0}")]
    Other(Box<str>),
}

type Result<T> = std::result::Result<T, Malformed>;

impl<'de> Decoder<'de> {
    pub fn of(bytes: &'de [u8]) -> Self {
        Self { rest: bytes }
    }

    /// Bytes that are left.
    pub fn left(&self) -> usize {
        self.rest.len()
    }

    #[inline]
    fn byte(&mut self) -> Result<u8> {
        let (first, rest) = self.rest.split_first().ok_or(Malformed::Short)?;
        self.rest = rest;
        Ok(*first)
    }

    #[inline]
    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let (head, rest) = self.rest.split_first_chunk().ok_or(Malformed::Short)?;
        self.rest = rest;
        Ok(*head)
    }

    /// A number of at most so many bytes as `widest` says.
    #[inline]
    fn number_up_to(&mut self, widest: u8) -> Result<u64> {
        match self.byte()? {
            byte @ ..=ONE_BYTE_MAX => Ok(byte.into()),
            marker if marker > widest => Err(Malformed::Number),
            marker => self.wide(marker),
        }
    }

    fn wide(&mut self, marker: u8) -> Result<u64> {
        match marker {
            U16 => Ok(u16::from_le_bytes(self.array()?).into()),
            U32 => Ok(u32::from_le_bytes(self.array()?).into()),
            U64 => Ok(u64::from_le_bytes(self.array()?)),
            _ => Err(Malformed::Number),
        }
    }

    #[inline]
    fn number(&mut self) -> Result<u64> {
        self.number_up_to(U64)
    }

    #[inline]
    fn number32(&mut self) -> Result<u32> {
        self.number_up_to(U32)?.try_into().map_err(|_| Malformed::Number)
    }

    #[inline]
    fn number16(&mut self) -> Result<u16> {
        self.number_up_to(U16)?.try_into().map_err(|_| Malformed::Number)
    }

    fn choice(&mut self) -> Result<bool> {
        match self.byte()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(Malformed::Choice),
        }
    }

    /// How many bytes or members follow.
    fn length(&mut self) -> Result<usize> {
        let length = self.number()?.try_into().map_err(|_| Malformed::Number)?;
        if length > self.left() { Err(Malformed::Short) } else { Ok(length) }
    }

    fn bytes(&mut self) -> Result<&'de [u8]> {
        let length = self.length()?;
        let (head, rest) = self.rest.split_at_checked(length).ok_or(Malformed::Short)?;
        self.rest = rest;
        Ok(head)
    }

    fn text(&mut self) -> Result<&'de str> {
        str::from_utf8(self.bytes()?).map_err(|_| Malformed::Text)
    }
}

impl Error for Malformed {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::Other(message.to_string().into())
    }
}

/// Methods for types that are decoded by one call of ours and told by one of the visitor's.
macro_rules! plain {
    ($($method:ident: $value:ident => $visit:ident,)*) => {
        $(
            #[inline]
            fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
                visitor.$visit(self.$value()?)
            }
        )*
    };
}

/// Methods for types that no format has.
macro_rules! absent {
    ($($method:ident)*) => {
        $(
            fn $method<V: Visitor<'de>>(self, _: V) -> Result<V::Value> {
                Err(Malformed::Type)
            }
        )*
    };
}

impl<'de> Deserializer<'de> for &mut Decoder<'de> {
    type Error = Malformed;

    plain! {
        deserialize_bool: choice => visit_bool,
        deserialize_u8: byte => visit_u8,
        deserialize_u16: number16 => visit_u16,
        deserialize_u32: number32 => visit_u32,
        deserialize_u64: number => visit_u64,
        deserialize_str: text => visit_borrowed_str,
        deserialize_string: text => visit_borrowed_str,
        deserialize_bytes: bytes => visit_borrowed_bytes,
        deserialize_byte_buf: bytes => visit_borrowed_bytes,
    }

    absent! { deserialize_any deserialize_f32 deserialize_f64 deserialize_char deserialize_identifier deserialize_ignored_any }

    fn is_human_readable(&self) -> bool {
        false
    }

    fn deserialize_u128<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        visitor.visit_u128(match self.byte()? {
            byte @ ..=ONE_BYTE_MAX => byte.into(),
            U128 => u128::from_le_bytes(self.array()?),
            marker => self.wide(marker)?.into(),
        })
    }

    fn deserialize_i8<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        visitor.visit_i8(self.byte()?.cast_signed())
    }

    fn deserialize_i16<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        let number = unzigzag(self.number16()?.into());
        visitor.visit_i16(number.try_into().map_err(|_| Malformed::Number)?)
    }

    fn deserialize_i32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        let number = unzigzag(self.number32()?.into());
        visitor.visit_i32(number.try_into().map_err(|_| Malformed::Number)?)
    }

    fn deserialize_i64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        visitor.visit_i64(unzigzag(self.number()?))
    }

    #[inline]
    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        if self.choice()? { visitor.visit_some(self) } else { visitor.visit_none() }
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        visitor.visit_unit()
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value> {
        visitor.visit_unit()
    }

    #[inline]
    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value> {
        visitor.visit_newtype_struct(self)
    }

    #[inline]
    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        let left = self.length()?;
        visitor.visit_seq(Parts { decoder: self, left })
    }

    #[inline]
    fn deserialize_tuple<V: Visitor<'de>>(self, length: usize, visitor: V) -> Result<V::Value> {
        visitor.visit_seq(Parts { decoder: self, left: length })
    }

    #[inline]
    fn deserialize_tuple_struct<V: Visitor<'de>>(self, _: &'static str, length: usize, visitor: V) -> Result<V::Value> {
        self.deserialize_tuple(length, visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        let left = self.length()?;
        visitor.visit_map(Parts { decoder: self, left })
    }

    #[inline]
    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value> {
        self.deserialize_tuple(fields.len(), visitor)
    }

    #[inline]
    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value> {
        visitor.visit_enum(self)
    }
}

/// What consists of parts, one behind the other.
struct Parts<'a, 'de> {
    decoder: &'a mut Decoder<'de>,
    left: usize,
}

impl<'de> SeqAccess<'de> for Parts<'_, 'de> {
    type Error = Malformed;

    #[inline]
    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>> {
        if self.left == 0 {
            return Ok(None);
        }
        self.left -= 1;
        seed.deserialize(&mut *self.decoder).map(Some)
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.left)
    }
}

impl<'de> MapAccess<'de> for Parts<'_, 'de> {
    type Error = Malformed;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>> {
        self.next_element_seed(seed)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value> {
        seed.deserialize(&mut *self.decoder)
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.left)
    }
}

impl<'de> EnumAccess<'de> for &mut Decoder<'de> {
    type Error = Malformed;
    type Variant = Self;

    #[inline]
    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Self)> {
        let variant: U32Deserializer<Malformed> = self.number32()?.into_deserializer();
        Ok((seed.deserialize(variant)?, self))
    }
}

impl<'de> VariantAccess<'de> for &mut Decoder<'de> {
    type Error = Malformed;

    #[inline]
    fn unit_variant(self) -> Result<()> {
        Ok(())
    }

    #[inline]
    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value> {
        seed.deserialize(self)
    }

    #[inline]
    fn tuple_variant<V: Visitor<'de>>(self, length: usize, visitor: V) -> Result<V::Value> {
        self.deserialize_tuple(length, visitor)
    }

    #[inline]
    fn struct_variant<V: Visitor<'de>>(self, fields: &'static [&'static str], visitor: V) -> Result<V::Value> {
        self.deserialize_tuple(fields.len(), visitor)
    }
}
