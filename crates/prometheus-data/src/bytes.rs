//! Reading numbers and texts from the front of a slice; whatever the bytes say, nothing panics.

use crate::error::Malformed;

const CUT: Malformed = Malformed("ends early");

/// What is left of a unit.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cursor<'a>(pub(crate) &'a [u8]);

impl<'a> Cursor<'a> {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn take(&mut self, count: usize) -> Result<&'a [u8], Malformed> {
        let (front, rest) = self.0.split_at_checked(count).ok_or(CUT)?;
        self.0 = rest;
        Ok(front)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (front, rest) = self.0.split_first_chunk::<N>().ok_or(CUT)?;
        self.0 = rest;
        Ok(*front)
    }

    pub(crate) fn u8(&mut self) -> Result<u8, Malformed> {
        self.array::<1>().map(|[byte]| byte)
    }

    pub(crate) fn u16(&mut self) -> Result<u16, Malformed> {
        self.array().map(u16::from_be_bytes)
    }

    pub(crate) fn u32(&mut self) -> Result<u32, Malformed> {
        self.array().map(u32::from_be_bytes)
    }

    pub(crate) fn u64(&mut self) -> Result<u64, Malformed> {
        self.array().map(u64::from_be_bytes)
    }

    pub(crate) fn f64(&mut self) -> Result<f64, Malformed> {
        self.u64().map(f64::from_bits)
    }

    /// LEB128, at most ten bytes.
    pub(crate) fn uvarint(&mut self) -> Result<u64, Malformed> {
        let mut value = 0_u64;
        for shift in (0..70).step_by(7) {
            let byte = self.u8()?;
            value |= u64::from(byte & 0x7f).checked_shl(shift).unwrap_or(0);
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(Malformed("a number is longer than ten bytes"))
    }

    /// LEB128 of the zigzag form.
    pub(crate) fn varint(&mut self) -> Result<i64, Malformed> {
        self.uvarint().map(unzigzag)
    }

    /// A count of items that take at least `bytes_each`: never more than there are bytes for.
    pub(crate) fn count(&mut self, bytes_each: usize) -> Result<usize, Malformed> {
        let count = self.uvarint()?;
        let most = self.len() / bytes_each.max(1);
        usize::try_from(count).ok().filter(|count| *count <= most).ok_or(Malformed("a count exceeds its unit"))
    }

    /// A length and so many bytes of UTF-8.
    pub(crate) fn text(&mut self) -> Result<&'a str, Malformed> {
        let length = self.count(1)?;
        std::str::from_utf8(self.take(length)?).map_err(|_| Malformed("a text is not UTF-8"))
    }
}

pub(crate) fn unzigzag(value: u64) -> i64 {
    (value >> 1) as i64 ^ -((value & 1) as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_those_of_go() {
        // encoding/binary's PutVarint and PutUvarint.
        assert_eq!(Cursor(&[0xac, 0x02]).uvarint(), Ok(300));
        assert_eq!(Cursor(&[0x01]).varint(), Ok(-1));
        assert_eq!(Cursor(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01]).varint(), Ok(i64::MIN));
        assert!(Cursor(&[0x80; 11]).uvarint().is_err());
        assert!(Cursor(&[0x80]).uvarint().is_err());
    }

    #[test]
    fn counts_never_exceed_the_bytes() {
        assert_eq!(Cursor(&[3, 0, 0, 0]).count(1), Ok(3));
        assert!(Cursor(&[3, 0, 0, 0]).count(2).is_err());
        assert!(Cursor(&[4, b'a', b'b']).text().is_err());
        assert_eq!(Cursor(&[2, b'a', b'b']).text(), Ok("ab"));
    }
}
