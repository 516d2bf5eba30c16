//! Values that are no decimals: each is the bitwise difference to its predecessor.
//!
//! Bit string, most significant bit first: 64 bits of the first value, then for each value `0` (same
//! bits), or `10` and the bits inside the previous window, or `11`, 6 bits of leading zeros, 6 bits
//! of length − 1, and that many bits.
//!
//! Source: Pelkonen et al., "Gorilla: a fast, scalable, in-memory time series database", 2015, 4.1.2.

use crate::ChunkError;

struct BitWriter<'a> {
    out: &'a mut Vec<u8>,
    pending: u64,
    free: u32,
}

impl BitWriter<'_> {
    /// Appends the low `count` bits, 1 to 64.
    fn push(&mut self, bits: u64, count: u32) {
        let bits = bits & crate::bits::mask(count);
        if count < self.free {
            self.free -= count;
            self.pending |= bits << self.free;
            return;
        }
        let over = count - self.free;
        self.pending |= if over == 64 { 0 } else { bits >> over };
        self.out.extend_from_slice(&self.pending.to_be_bytes());
        self.free = 64 - over;
        self.pending = if over == 0 { 0 } else { bits << self.free };
    }

    fn finish(self) {
        let used = (64 - self.free).div_ceil(8) as usize;
        self.out.extend_from_slice(&self.pending.to_be_bytes()[..used]);
    }
}

struct BitReader<'a> {
    bytes: &'a [u8],
    bit: usize,
}

impl BitReader<'_> {
    fn take(&mut self, count: u32) -> Result<u64, ChunkError> {
        let end = self.bit + count as usize;
        if end > self.bytes.len() * 8 {
            return Err(ChunkError::Truncated);
        }
        let first = self.bit / 8;
        let shift = (self.bit % 8) as u32;
        let mut word = [0; 16];
        let available = (self.bytes.len() - first).min(16);
        word[..available].copy_from_slice(&self.bytes[first..first + available]);
        self.bit = end;
        if count == 0 {
            return Ok(0);
        }
        Ok((u128::from_be_bytes(word) << shift >> (128 - count)) as u64)
    }
}

/// Appends the bit string of `values`, at least one.
pub(crate) fn encode(values: &[f64], out: &mut Vec<u8>) {
    let mut writer = BitWriter { out, pending: 0, free: 64 };
    let mut previous = values[0].to_bits();
    writer.push(previous, 64);
    let (mut lead, mut length) = (0, 0);
    for value in &values[1..] {
        let bits = value.to_bits();
        let difference = bits ^ previous;
        previous = bits;
        if difference == 0 {
            writer.push(0, 1);
            continue;
        }
        let (new_lead, trail) = (difference.leading_zeros(), difference.trailing_zeros());
        let new_length = 64 - new_lead - trail;
        let fits = length > 0 && new_lead >= lead && trail >= 64 - lead - length;
        if fits && length < new_length + 12 {
            writer.push(0b10, 2);
        } else {
            (lead, length) = (new_lead, new_length);
            writer.push(0b11, 2);
            writer.push(u64::from(lead), 6);
            writer.push(u64::from(length - 1), 6);
        }
        writer.push(difference >> (64 - lead - length), length);
    }
    writer.finish();
}

/// Appends `count` values, at least one.
pub(crate) fn decode(bytes: &[u8], count: usize, out: &mut Vec<f64>) -> Result<(), ChunkError> {
    let mut reader = BitReader { bytes, bit: 0 };
    let mut bits = reader.take(64)?;
    out.push(f64::from_bits(bits));
    let (mut lead, mut length) = (0, 0);
    for _ in 1..count {
        if reader.take(1)? == 1 {
            if reader.take(1)? == 1 {
                lead = reader.take(6)? as u32;
                length = reader.take(6)? as u32 + 1;
            }
            if lead + length > 64 || length == 0 {
                return Err(ChunkError::OutOfBounds { what: "XOR window" });
            }
            bits ^= reader.take(length)? << (64 - lead - length);
        }
        out.push(f64::from_bits(bits));
    }
    Ok(())
}
