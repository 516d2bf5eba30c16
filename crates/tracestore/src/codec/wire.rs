//! Varints, byte strings and a cursor that never reads past its end.

/// The bytes are no valid encoding: damage that a checksum did not catch, or a bug.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum DecodeError {
    #[error("the bytes end before {0}")]
    Truncated(&'static str),
    #[error("{0} is out of range")]
    OutOfRange(&'static str),
    #[error("{0} is not UTF-8")]
    NotText(&'static str),
    #[error("{0} does not match its checksum")]
    Checksum(&'static str),
    #[error("unknown version {0}")]
    Version(u8),
}

/// Appends encodings to a buffer.
pub(crate) trait Writer {
    /// LEB128.
    fn put_varint(&mut self, value: u64);
    /// A difference as zigzag LEB128; wraps, so that any two `u64` have one.
    fn put_delta(&mut self, value: u64, base: u64);
    /// Length, then the bytes.
    fn put_bytes(&mut self, bytes: &[u8]);
}

impl Writer for Vec<u8> {
    fn put_varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.push(value as u8);
    }

    fn put_delta(&mut self, value: u64, base: u64) {
        let delta = value.wrapping_sub(base) as i64;
        self.put_varint(((delta << 1) ^ (delta >> 63)) as u64);
    }

    fn put_bytes(&mut self, bytes: &[u8]) {
        self.put_varint(bytes.len() as u64);
        self.extend_from_slice(bytes);
    }
}

/// Reads encodings from a slice.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn remaining(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn byte(&mut self, what: &'static str) -> Result<u8, DecodeError> {
        let (first, rest) = self.0.split_first().ok_or(DecodeError::Truncated(what))?;
        self.0 = rest;
        Ok(*first)
    }

    pub(crate) fn varint(&mut self, what: &'static str) -> Result<u64, DecodeError> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte(what)?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                return Err(DecodeError::OutOfRange(what));
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(DecodeError::OutOfRange(what))
    }

    pub(crate) fn varint_u32(&mut self, what: &'static str) -> Result<u32, DecodeError> {
        u32::try_from(self.varint(what)?).map_err(|_| DecodeError::OutOfRange(what))
    }

    pub(crate) fn delta(&mut self, base: u64, what: &'static str) -> Result<u64, DecodeError> {
        let zigzag = self.varint(what)?;
        let delta = (zigzag >> 1) as i64 ^ -((zigzag & 1) as i64);
        Ok(base.wrapping_add(delta as u64))
    }

    /// A count of things that take at least one byte each: never more than the bytes that are left.
    pub(crate) fn count(&mut self, what: &'static str) -> Result<usize, DecodeError> {
        let count = usize::try_from(self.varint(what)?).map_err(|_| DecodeError::OutOfRange(what))?;
        if count > self.remaining() {
            return Err(DecodeError::Truncated(what));
        }
        Ok(count)
    }

    pub(crate) fn take(&mut self, length: usize, what: &'static str) -> Result<&'a [u8], DecodeError> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(DecodeError::Truncated(what))?;
        self.0 = rest;
        Ok(taken)
    }

    pub(crate) fn array<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], DecodeError> {
        let (taken, rest) = self.0.split_first_chunk::<N>().ok_or(DecodeError::Truncated(what))?;
        self.0 = rest;
        Ok(*taken)
    }

    pub(crate) fn bytes(&mut self, what: &'static str) -> Result<&'a [u8], DecodeError> {
        let length = self.count(what)?;
        self.take(length, what)
    }

    pub(crate) fn text(&mut self, what: &'static str) -> Result<&'a str, DecodeError> {
        std::str::from_utf8(self.bytes(what)?).map_err(|_| DecodeError::NotText(what))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn varints_and_deltas_round_trip_at_the_edges() {
        for value in [0, 1, 127, 128, 300, u64::from(u32::MAX), u64::MAX - 1, u64::MAX] {
            for base in [0, 1, u64::MAX / 2, u64::MAX] {
                let mut bytes = Vec::new();
                bytes.put_varint(value);
                bytes.put_delta(value, base);
                let mut reader = Reader::new(&bytes);
                assert_eq!(reader.varint("v"), Ok(value));
                assert_eq!(reader.delta(base, "d"), Ok(value));
                assert!(reader.is_empty());
            }
        }
    }

    #[test]
    fn overlong_varints_and_lengths_are_errors() {
        assert_eq!(Reader::new(&[0xff; 11]).varint("v"), Err(DecodeError::OutOfRange("v")));
        assert_eq!(Reader::new(&[0x80]).varint("v"), Err(DecodeError::Truncated("v")));
        assert_eq!(Reader::new(&[5, 1]).bytes("b"), Err(DecodeError::Truncated("b")));
        assert_eq!(Reader::new(&[1, 0xff]).text("t"), Err(DecodeError::NotText("t")));
    }
}
