//! Bits in bytes, least significant first.
//!
//! Fixed-width packing: value `i` occupies bits `i * width ..`. [`BitSink`] appends numbers of any widths;
//! [`load`] reads from any bit.

/// Bytes that `count` values of `width` bits take.
pub(crate) const fn packed_len(count: usize, width: u32) -> usize {
    (count * width as usize).div_ceil(8)
}

/// Appends numbers of up to 64 bits each.
pub(crate) struct BitSink<'a> {
    out: &'a mut Vec<u8>,
    pending: u64,
    /// Below 64.
    pending_bits: u32,
}

impl<'a> BitSink<'a> {
    pub(crate) const fn new(out: &'a mut Vec<u8>) -> Self {
        Self { out, pending: 0, pending_bits: 0 }
    }

    /// Appends the low `count` bits.
    #[inline]
    pub(crate) fn push(&mut self, bits: u64, count: u32) {
        let bits = bits & mask(count);
        let before = self.pending_bits;
        self.pending |= bits << before;
        self.pending_bits += count;
        if self.pending_bits >= 64 {
            self.out.extend_from_slice(&self.pending.to_le_bytes());
            self.pending_bits -= 64;
            // What did not fit any more; all of it did if nothing was pending.
            self.pending = bits.checked_shr(64 - before).unwrap_or(0);
        }
    }

    /// Ends at a whole byte.
    pub(crate) fn finish(self) {
        let last = self.pending_bits.div_ceil(8) as usize;
        self.out.extend_from_slice(&self.pending.to_le_bytes()[..last]);
    }
}

/// At least 57 bits from the one numbered `bit` on; zeros behind the end.
#[inline]
pub(crate) fn load(bytes: &[u8], bit: usize) -> u64 {
    let at = bit / 8;
    let word = match bytes.get(at..at + 8) {
        Some(word) => u64::from_le_bytes(word.try_into().expect("eight bytes")),
        None => load_end(bytes, at),
    };
    word >> (bit % 8)
}

#[cold]
fn load_end(bytes: &[u8], at: usize) -> u64 {
    let mut word = [0; 8];
    let rest = bytes.get(at..).unwrap_or_default();
    let length = rest.len().min(8);
    word[..length].copy_from_slice(&rest[..length]);
    u64::from_le_bytes(word)
}

/// Appends the low `width` bits of every value.
pub(crate) fn pack(values: impl Iterator<Item = u64>, width: u32, out: &mut Vec<u8>) {
    if width == 0 {
        return;
    }
    let mut sink = BitSink::new(out);
    values.for_each(|value| sink.push(value, width));
    sink.finish();
}

/// Fills `out`. `packed` holds at least [`packed_len`] bytes.
pub(crate) fn unpack(packed: &[u8], width: u32, out: &mut [i64]) {
    if width == 0 {
        out.fill(0);
        return;
    }
    let mask = mask(width);
    let width = width as usize;
    // A load of 8 bytes holds any value of up to 57 bits, whatever bit it starts at.
    let fast = if width <= 57 && packed.len() >= 8 { ((packed.len() - 8) * 8 / width + 1).min(out.len()) } else { 0 };
    for (index, slot) in out[..fast].iter_mut().enumerate() {
        let bit = index * width;
        let word: [u8; 8] = packed[bit / 8..bit / 8 + 8].try_into().expect("eight bytes");
        *slot = ((u64::from_le_bytes(word) >> (bit % 8)) & mask) as i64;
    }
    for (index, slot) in out.iter_mut().enumerate().skip(fast) {
        let bit = index * width;
        let tail = &packed[bit / 8..];
        let mut word = [0; 16];
        let length = tail.len().min(16);
        word[..length].copy_from_slice(&tail[..length]);
        *slot = ((u128::from_le_bytes(word) >> (bit % 8)) as u64 & mask) as i64;
    }
}

/// The low `width` bits, 0 to 64.
#[inline]
pub(crate) const fn mask(width: u32) -> u64 {
    if width == 0 { 0 } else { u64::MAX >> (64 - width) }
}

/// Bits that `value` needs.
#[inline]
pub(crate) const fn width_of(value: u64) -> u32 {
    64 - value.leading_zeros()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_width_and_odd_counts_round_trip() {
        for width in 0..=64 {
            for count in [1, 2, 7, 8, 9, 63, 130] {
                let values: Vec<i64> =
                    (0..count as u64).map(|i| (i.wrapping_mul(0x9e37_79b9_7f4a_7c15) & mask(width)) as i64).collect();
                let mut packed = Vec::new();
                pack(values.iter().map(|value| *value as u64), width, &mut packed);
                assert_eq!(packed.len(), packed_len(count, width), "{width} {count}");
                let mut found = vec![-1; count];
                unpack(&packed, width, &mut found);
                assert_eq!(found, values, "{width} {count}");
            }
        }
    }

    #[test]
    fn loads_end_in_zeros() {
        assert_eq!(load(&[0xff; 9], 12), u64::MAX >> 4);
        assert_eq!(load(&[0xff; 3], 12), 0xfff);
        assert_eq!(load(&[0xff; 3], 24), 0);
        assert_eq!(load(&[], 4000), 0);
    }
}
