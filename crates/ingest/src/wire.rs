//! A borrowed reader of the protobuf wire format: fields come out in order, as slices of the input.
//!
//! It allocates nothing and trusts no length. What a known field means, and with which wire type, is
//! the caller's business; unknown fields are skipped by ignoring them.

/// Bytes that are no protobuf message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum WireError {
    #[error("truncated message")]
    Truncated,
    #[error("invalid varint")]
    Varint,
    #[error("invalid field key")]
    Key,
    #[error("unexpected wire type of field {field}")]
    WireType { field: u32 },
    #[error("text of field {field} is not UTF-8")]
    Utf8 { field: u32 },
    #[error("groups nested too deep")]
    Nesting,
    #[error("the first symbol is not the empty text, as the protocol demands")]
    Symbols,
}

/// A field's payload.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Payload<'a> {
    Varint(u64),
    Fixed64(u64),
    Fixed32(u32),
    Bytes(&'a [u8]),
    /// A group, already skipped; no message we know has one.
    Group,
}

/// One field.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Field<'a> {
    pub number: u32,
    pub payload: Payload<'a>,
}

/// Reads the fields of one message.
#[derive(Debug, Clone)]
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

const GROUP_DEPTH_MAX: u32 = 64;

impl<'a> Reader<'a> {
    pub(crate) fn new(message: &'a [u8]) -> Self {
        Self { rest: message }
    }

    /// The next field; `None` at the end.
    #[inline]
    pub(crate) fn next(&mut self) -> Result<Option<Field<'a>>, WireError> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let (number, wire_type) = self.key()?;
        let payload = self.payload(number, wire_type, 0)?;
        Ok(Some(Field { number, payload }))
    }

    /// What is not read yet.
    #[inline]
    pub(crate) fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// Passes over bytes of [`rest`](Self::rest) that the caller knows: whole fields, or nothing fits any more.
    #[inline]
    pub(crate) fn skip(&mut self, bytes: usize) {
        self.rest = self.rest.get(bytes..).unwrap_or_default();
    }

    /// The next of packed varints; `None` at the end and at damage.
    pub(crate) fn packed_varint(&mut self) -> Option<u64> {
        if self.rest.is_empty() { None } else { self.varint().ok() }
    }

    #[inline]
    fn key(&mut self) -> Result<(u32, u8), WireError> {
        let key = u32::try_from(self.varint()?).map_err(|_| WireError::Key)?;
        if key >> 3 == 0 {
            return Err(WireError::Key);
        }
        Ok((key >> 3, (key & 7) as u8))
    }

    #[inline]
    fn payload(&mut self, number: u32, wire_type: u8, depth: u32) -> Result<Payload<'a>, WireError> {
        Ok(match wire_type {
            0 => Payload::Varint(self.varint()?),
            1 => Payload::Fixed64(u64::from_le_bytes(self.array()?)),
            2 => Payload::Bytes(self.slice()?),
            3 => {
                self.skip_group(number, depth)?;
                Payload::Group
            }
            5 => Payload::Fixed32(u32::from_le_bytes(self.array()?)),
            _ => return Err(WireError::WireType { field: number }),
        })
    }

    fn skip_group(&mut self, group: u32, depth: u32) -> Result<(), WireError> {
        if depth == GROUP_DEPTH_MAX {
            return Err(WireError::Nesting);
        }
        loop {
            match self.key()? {
                (number, 4) if number == group => return Ok(()),
                (number, wire_type) => self.payload(number, wire_type, depth + 1)?,
            };
        }
    }

    #[inline]
    fn slice(&mut self) -> Result<&'a [u8], WireError> {
        let length = usize::try_from(self.varint()?).map_err(|_| WireError::Truncated)?;
        let (slice, rest) = self.rest.split_at_checked(length).ok_or(WireError::Truncated)?;
        self.rest = rest;
        Ok(slice)
    }

    #[inline]
    fn array<const N: usize>(&mut self) -> Result<[u8; N], WireError> {
        let (array, rest) = self.rest.split_first_chunk().ok_or(WireError::Truncated)?;
        self.rest = rest;
        Ok(*array)
    }

    /// A varint without a key, as packed fields have them.
    #[inline]
    pub(crate) fn varint(&mut self) -> Result<u64, WireError> {
        match self.rest {
            [first, rest @ ..] if *first < 0x80 => {
                self.rest = rest;
                Ok(u64::from(*first))
            }
            [first, second, rest @ ..] if *second < 0x80 => {
                self.rest = rest;
                Ok(u64::from(*first & 0x7f) | u64::from(*second) << 7)
            }
            _ => self.varint_slow(),
        }
    }

    fn varint_slow(&mut self) -> Result<u64, WireError> {
        let mut number = 0;
        for (index, &byte) in self.rest.iter().take(10).enumerate() {
            number |= u64::from(byte & 0x7f) << (7 * index);
            if byte < 0x80 {
                // The tenth byte holds one bit.
                if index == 9 && byte > 1 {
                    return Err(WireError::Varint);
                }
                self.rest = &self.rest[index + 1..];
                return Ok(number);
            }
        }
        Err(if self.rest.len() < 10 { WireError::Truncated } else { WireError::Varint })
    }
}

impl<'a> Field<'a> {
    fn wrong<T>(&self) -> Result<T, WireError> {
        Err(WireError::WireType { field: self.number })
    }

    /// An embedded message or raw bytes.
    #[inline]
    pub(crate) fn bytes(&self) -> Result<&'a [u8], WireError> {
        if let Payload::Bytes(bytes) = self.payload { Ok(bytes) } else { self.wrong() }
    }

    /// Text.
    #[inline]
    pub(crate) fn text(&self) -> Result<&'a str, WireError> {
        std::str::from_utf8(self.bytes()?).map_err(|_| WireError::Utf8 { field: self.number })
    }

    /// `uint64`; cast it for `int64`, `int32`, `uint32` and enumerations, as protobuf does.
    #[inline]
    pub(crate) fn varint(&self) -> Result<u64, WireError> {
        if let Payload::Varint(number) = self.payload { Ok(number) } else { self.wrong() }
    }

    /// `sint32` and `sint64`.
    #[inline]
    pub(crate) fn zigzag(&self) -> Result<i64, WireError> {
        self.varint().map(unzigzag)
    }

    /// `double`.
    #[inline]
    pub(crate) fn double(&self) -> Result<f64, WireError> {
        if let Payload::Fixed64(bits) = self.payload { Ok(f64::from_bits(bits)) } else { self.wrong() }
    }

    /// Elements of a repeated varint field, packed or not.
    pub(crate) fn each_varint(&self, mut element: impl FnMut(u64)) -> Result<(), WireError> {
        match self.payload {
            Payload::Varint(number) => element(number),
            Payload::Bytes(bytes) => {
                let mut packed = Reader::new(bytes);
                while !packed.rest.is_empty() {
                    element(packed.varint()?);
                }
            }
            _ => return self.wrong(),
        }
        Ok(())
    }

    /// Elements of a repeated double field, packed or not.
    pub(crate) fn each_double(&self, mut element: impl FnMut(f64)) -> Result<(), WireError> {
        self.each_fixed64(|bits| element(f64::from_bits(bits)))
    }

    /// `fixed64`; cast it for `sfixed64`.
    #[inline]
    pub(crate) fn fixed64(&self) -> Result<u64, WireError> {
        if let Payload::Fixed64(bits) = self.payload { Ok(bits) } else { self.wrong() }
    }

    /// `fixed32`.
    #[inline]
    pub(crate) fn fixed32(&self) -> Result<u32, WireError> {
        if let Payload::Fixed32(bits) = self.payload { Ok(bits) } else { self.wrong() }
    }

    /// Elements of a repeated `fixed64` field, packed or not.
    pub(crate) fn each_fixed64(&self, mut element: impl FnMut(u64)) -> Result<(), WireError> {
        match self.payload {
            Payload::Fixed64(bits) => element(bits),
            Payload::Bytes(bytes) => {
                let (words, rest) = bytes.as_chunks();
                if !rest.is_empty() {
                    return Err(WireError::Truncated);
                }
                for word in words {
                    element(u64::from_le_bytes(*word));
                }
            }
            _ => return self.wrong(),
        }
        Ok(())
    }
}

/// The signed number behind a zigzag-coded one.
#[inline]
pub(crate) fn unzigzag(number: u64) -> i64 {
    ((number >> 1) as i64) ^ -((number & 1) as i64)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn fields_come_out_in_order() {
        let mut reader = Reader::new(&[0x08, 0x96, 0x01, 0x12, 0x02, b'h', b'i', 0x19, 0, 0, 0, 0, 0, 0, 0xf0, 0x3f]);
        assert_eq!(reader.next().unwrap().unwrap().varint(), Ok(150));
        assert_eq!(reader.next().unwrap().unwrap().text(), Ok("hi"));
        assert_eq!(reader.next().unwrap().unwrap().double(), Ok(1.0));
        assert_eq!(reader.next(), Ok(None));
    }

    #[test]
    fn damaged_fields_are_named() {
        let error = |bytes: &[u8]| Reader::new(bytes).next().unwrap_err();
        assert_eq!(error(&[0x0a, 0x05, b'a']), WireError::Truncated);
        assert_eq!(error(&[0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01]), WireError::Truncated);
        assert_eq!(error(&[0x08, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02]), WireError::Varint);
        assert_eq!(error(&[0x00]), WireError::Key);
        assert_eq!(error(&[0x0f]), WireError::WireType { field: 1 });
        assert_eq!(error(&[0x0b; 200]), WireError::Nesting);
    }

    #[test]
    fn unknown_groups_are_skipped() {
        let mut reader = Reader::new(&[0x0b, 0x10, 0x01, 0x0c, 0x10, 0x07]);
        assert_eq!(reader.next().unwrap().unwrap().payload, Payload::Group);
        assert_eq!(reader.next().unwrap().unwrap().varint(), Ok(7));
    }

    proptest! {
        #[test]
        fn hostile_bytes_end(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            let mut reader = Reader::new(&bytes);
            while let Ok(Some(_)) = reader.next() {}
        }

        #[test]
        fn zigzag_is_undone(number in any::<i64>()) {
            let coded = ((number << 1) ^ (number >> 63)) as u64;
            prop_assert_eq!(unzigzag(coded), number);
        }
    }
}
