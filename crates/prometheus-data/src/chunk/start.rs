//! Start timestamps, which follow each sample in the newer encodings: once they change, as delta of deltas to the
//! instant of the sample before.

use crate::bits::Bits;
use crate::error::Malformed;

#[derive(Debug)]
pub(super) struct Starts {
    /// Whether the first sample has one.
    first_known: bool,
    /// Index of the first sample from which on each has one; 0: none after the first.
    from: usize,
    start_ms: i64,
    difference_ms: i64,
}

impl Starts {
    /// Of the header's byte.
    pub(super) fn new(header: u8) -> Self {
        Self { first_known: header & 0x80 != 0, from: usize::from(header & 0x7f), start_ms: 0, difference_ms: 0 }
    }

    /// The start of sample `index`, which stands at the front of `bits` if it differs.
    pub(super) fn read(
        &mut self,
        bits: &mut Bits<'_>,
        index: usize,
        timestamp_ms: i64,
        previous_ms: i64,
    ) -> Result<i64, Malformed> {
        if index == 0 {
            if self.first_known {
                self.start_ms = timestamp_ms.wrapping_sub(bits.varint()?);
            }
        } else if self.from > 0 && index >= self.from {
            let read = bits.varbit_int()?;
            self.difference_ms = if index == self.from { read } else { self.difference_ms.wrapping_add(read) };
            self.start_ms = previous_ms.wrapping_sub(self.difference_ms);
        }
        Ok(self.start_ms)
    }
}
