//! Fixed-width bit packing: value `i` occupies bits `i * width ..` of a little-endian bit string.

/// Bytes that `count` values of `width` bits take.
pub(crate) const fn packed_len(count: usize, width: u32) -> usize {
    (count * width as usize).div_ceil(8)
}

/// Appends the low `width` bits of every value.
pub(crate) fn pack(values: impl Iterator<Item = u64>, width: u32, out: &mut Vec<u8>) {
    if width == 0 {
        return;
    }
    let mask = mask(width);
    let (mut pending, mut pending_bits) = (0_u128, 0);
    for value in values {
        pending |= u128::from(value & mask) << pending_bits;
        pending_bits += width;
        if pending_bits >= 64 {
            out.extend_from_slice(&(pending as u64).to_le_bytes());
            pending >>= 64;
            pending_bits -= 64;
        }
    }
    let last = pending_bits.div_ceil(8) as usize;
    out.extend_from_slice(&pending.to_le_bytes()[..last]);
}

/// Appends `count` values to `out`. `packed` holds at least [`packed_len`] bytes.
pub(crate) fn unpack(packed: &[u8], count: usize, width: u32, out: &mut Vec<u64>) {
    let start = out.len();
    out.resize(start + count, 0);
    if width == 0 {
        return;
    }
    let out = &mut out[start..];
    let mask = mask(width);
    let width = width as usize;
    // A load of 8 bytes holds any value of up to 57 bits, whatever bit it starts at.
    let fast = if width <= 57 && packed.len() >= 8 { ((packed.len() - 8) * 8 / width + 1).min(count) } else { 0 };
    for (index, slot) in out[..fast].iter_mut().enumerate() {
        let bit = index * width;
        let word: [u8; 8] = packed[bit / 8..bit / 8 + 8].try_into().expect("eight bytes");
        *slot = (u64::from_le_bytes(word) >> (bit % 8)) & mask;
    }
    for (index, slot) in out.iter_mut().enumerate().skip(fast) {
        let bit = index * width;
        let tail = &packed[bit / 8..];
        let mut word = [0; 16];
        let length = tail.len().min(16);
        word[..length].copy_from_slice(&tail[..length]);
        *slot = (u128::from_le_bytes(word) >> (bit % 8)) as u64 & mask;
    }
}

/// The low `width` bits, 1 to 64.
pub(crate) const fn mask(width: u32) -> u64 {
    if width == 0 { 0 } else { u64::MAX >> (64 - width) }
}

/// Bits that `value` needs.
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
                let values: Vec<u64> =
                    (0..count as u64).map(|i| i.wrapping_mul(0x9e37_79b9_7f4a_7c15) & mask(width)).collect();
                let mut packed = Vec::new();
                pack(values.iter().copied(), width, &mut packed);
                assert_eq!(packed.len(), packed_len(count, width), "{width} {count}");
                let mut found = Vec::new();
                unpack(&packed, count, width, &mut found);
                assert_eq!(found, values, "{width} {count}");
            }
        }
    }
}
