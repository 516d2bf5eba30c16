//! Variable-length integers and a reader that cannot run past its end.

use crate::ChunkError;

/// Bytes of the longest varint.
pub const VARINT_BYTES_MAX: usize = 10;

/// Appends LEB128.
#[inline]
pub fn push_varint(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// Appends a signed number so that small magnitudes are short.
#[inline]
pub fn push_zigzag(out: &mut Vec<u8>, number: i64) {
    push_varint(out, zigzag(number));
}

/// Appends a length and the bytes.
#[inline]
pub fn push_slice(out: &mut Vec<u8>, slice: &[u8]) {
    push_varint(out, slice.len() as u64);
    out.extend_from_slice(slice);
}

/// Maps 0, −1, 1, −2, … to 0, 1, 2, 3, …
#[must_use]
pub const fn zigzag(number: i64) -> u64 {
    ((number << 1) ^ (number >> 63)) as u64
}

/// The inverse of [`zigzag`].
#[must_use]
pub const fn unzigzag(number: u64) -> i64 {
    (number >> 1) as i64 ^ -((number & 1) as i64)
}

/// Reads from the front of a slice.
#[derive(Debug, Clone, Copy)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Reads `bytes` from the start.
    #[must_use]
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// What is left.
    #[must_use]
    pub const fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// Whether nothing is left.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// The next `length` bytes.
    #[inline]
    pub fn take(&mut self, length: usize) -> Result<&'a [u8], ChunkError> {
        let (head, tail) = self.rest.split_at_checked(length).ok_or(ChunkError::Truncated)?;
        self.rest = tail;
        Ok(head)
    }

    /// The next byte.
    #[inline]
    pub fn byte(&mut self) -> Result<u8, ChunkError> {
        let (&byte, tail) = self.rest.split_first().ok_or(ChunkError::Truncated)?;
        self.rest = tail;
        Ok(byte)
    }

    /// Four bytes, little-endian.
    #[inline]
    pub fn u32(&mut self) -> Result<u32, ChunkError> {
        let (head, tail) = self.rest.split_first_chunk().ok_or(ChunkError::Truncated)?;
        self.rest = tail;
        Ok(u32::from_le_bytes(*head))
    }

    /// Eight bytes, little-endian.
    #[inline]
    pub fn u64(&mut self) -> Result<u64, ChunkError> {
        let (head, tail) = self.rest.split_first_chunk().ok_or(ChunkError::Truncated)?;
        self.rest = tail;
        Ok(u64::from_le_bytes(*head))
    }

    /// LEB128.
    #[inline]
    pub fn varint(&mut self) -> Result<u64, ChunkError> {
        // Most are one byte.
        if let [first @ ..0x80, rest @ ..] = self.rest {
            self.rest = rest;
            return Ok(u64::from(*first));
        }
        self.long_varint()
    }

    fn long_varint(&mut self) -> Result<u64, ChunkError> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            if shift == 63 && byte > 1 {
                break;
            }
            number |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(number);
            }
        }
        Err(ChunkError::OutOfBounds { what: "varint" })
    }

    /// A signed number as [`push_zigzag`] writes it.
    #[inline]
    pub fn zigzag(&mut self) -> Result<i64, ChunkError> {
        self.varint().map(unzigzag)
    }

    /// A count or length of at most `max`: safe to allocate for.
    #[inline]
    pub fn count(&mut self, what: &'static str, max: usize) -> Result<usize, ChunkError> {
        let number = self.varint()?;
        usize::try_from(number).ok().filter(|number| *number <= max).ok_or(ChunkError::OutOfBounds { what })
    }

    /// Bytes as [`push_slice`] writes them.
    #[inline]
    pub fn slice(&mut self) -> Result<&'a [u8], ChunkError> {
        let length = self.count("length", self.rest.len())?;
        self.take(length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn varints_round_trip_at_every_length() {
        for shift in 0..64 {
            for number in [1_u64 << shift, (1 << shift) - 1, u64::MAX >> shift] {
                let mut bytes = Vec::new();
                push_varint(&mut bytes, number);
                assert_eq!(Reader::new(&bytes).varint(), Ok(number));
                assert_eq!(zigzag(unzigzag(number)), number);
            }
        }
    }

    #[test]
    fn endless_and_overlong_varints_are_refused() {
        assert!(Reader::new(&[0xff; 20]).varint().is_err());
        assert!(Reader::new(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2]).varint().is_err());
        assert_eq!(Reader::new(&[0x80]).varint(), Err(ChunkError::Truncated));
    }
}
