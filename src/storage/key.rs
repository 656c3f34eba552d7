//! Keys as bytes that sort as the values do.
//!
//! Numbers are big-endian. Text is escaped (`00` becomes `00 ff`) and ended by `00 00`, so that no text is the prefix of
//! another key part: `g1` never reads `g10`.

/// Room for most keys without growing.
const KEY_BYTES: usize = 64;

/// Builds a key part by part.
#[derive(Clone, Debug, Default)]
pub struct KeyBytes(Vec<u8>);

impl KeyBytes {
    pub fn new() -> Self {
        Self(Vec::with_capacity(KEY_BYTES))
    }

    pub fn byte(mut self, value: u8) -> Self {
        self.0.push(value);
        self
    }

    pub fn u32(mut self, value: u32) -> Self {
        self.0.extend_from_slice(&value.to_be_bytes());
        self
    }

    pub fn u64(mut self, value: u64) -> Self {
        self.0.extend_from_slice(&value.to_be_bytes());
        self
    }

    pub fn u128(mut self, value: u128) -> Self {
        self.0.extend_from_slice(&value.to_be_bytes());
        self
    }

    pub fn text(mut self, value: &str) -> Self {
        let mut rest = value.as_bytes();
        while let Some(at) = rest.iter().position(|&byte| byte == 0) {
            self.0.extend_from_slice(&rest[..at]);
            self.0.extend_from_slice(&[0, 0xff]);
            rest = &rest[at + 1..];
        }
        self.0.extend_from_slice(rest);
        self.0.extend_from_slice(&[0, 0]);
        self
    }

    pub fn finish(self) -> Vec<u8> {
        self.0
    }
}

/// Takes a key apart again; `None` where it is too short or malformed.
#[derive(Clone, Copy, Debug)]
pub struct KeyParts<'a>(pub &'a [u8]);

impl KeyParts<'_> {
    pub fn byte(&mut self) -> Option<u8> {
        self.take::<1>().map(|[byte]| byte)
    }

    pub fn u32(&mut self) -> Option<u32> {
        self.take().map(u32::from_be_bytes)
    }

    pub fn u64(&mut self) -> Option<u64> {
        self.take().map(u64::from_be_bytes)
    }

    pub fn u128(&mut self) -> Option<u128> {
        self.take().map(u128::from_be_bytes)
    }

    pub fn text(&mut self) -> Option<String> {
        let mut bytes = Vec::new();
        loop {
            match self.byte()? {
                0 => match self.byte()? {
                    0 => return String::from_utf8(bytes).ok(),
                    0xff => bytes.push(0),
                    _ => return None,
                },
                byte => bytes.push(byte),
            }
        }
    }

    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, tail) = self.0.split_first_chunk::<N>()?;
        self.0 = tail;
        Some(*head)
    }
}

/// The first key that does not begin with `prefix`; `None` where there is none.
pub fn after_prefix(prefix: &[u8]) -> Option<Vec<u8>> {
    let last = prefix.iter().rposition(|&byte| byte != 0xff)?;
    let mut end = prefix[..=last].to_vec();
    end[last] += 1;
    Some(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_sorts_as_text_and_reads_back() {
        let texts = ["", "\0", "\0a", "a", "a\0", "a\0b", "ab", "g1", "g10", "g2", "ÿ"];
        let keys: Vec<_> = texts.iter().map(|text| KeyBytes::new().text(text).u64(7).finish()).collect();
        assert!(keys.is_sorted());
        for (key, text) in keys.iter().zip(texts) {
            let mut parts = KeyParts(key);
            assert_eq!((parts.text().as_deref(), parts.u64()), (Some(text), Some(7)));
        }
    }

    #[test]
    fn after_prefix_bounds_a_scan() {
        assert_eq!(after_prefix(b"ab"), Some(b"ac".to_vec()));
        assert_eq!(after_prefix(&[1, 0xff]), Some(vec![2]));
        assert_eq!(after_prefix(&[0xff, 0xff]), None);
    }
}
