//! Numbers in as few bytes as they need: one up to 250, else a byte that says how many follow, the lowest first.

pub(super) const ONE_BYTE_MAX: u8 = 250;
pub(super) const U16: u8 = 251;
pub(super) const U32: u8 = 252;
pub(super) const U64: u8 = 253;
pub(super) const U128: u8 = 254;

/// Small numbers of either sign as small numbers: 0, -1, 1, -2, ...
pub(super) fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)).cast_unsigned()
}

pub(super) fn unzigzag(value: u64) -> i64 {
    (value >> 1).cast_signed() ^ -(value & 1).cast_signed()
}
