//! A stream of bits, most significant first, and the numbers that Prometheus' chunks write into it.
//!
//! Source: Prometheus' `chunks.md` and the bit patterns that `tsdb/chunkenc` documents there.

use crate::bytes::unzigzag;
use crate::error::Malformed;

const CUT: Malformed = Malformed("the chunk ends early");

/// Widths that the unary prefix of a `varbit` number selects; a prefix of eight ones stands for 64 bits.
const VARBIT_WIDTHS: [u32; 9] = [0, 3, 6, 9, 12, 18, 25, 56, 64];

/// Bits of a slice.
#[derive(Debug, Clone)]
pub(crate) struct Bits<'a> {
    bytes: &'a [u8],
    /// Bits read.
    at: usize,
}

impl<'a> Bits<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// Bits that are left.
    pub(crate) fn left(&self) -> usize {
        self.bytes.len() * 8 - self.at
    }

    pub(crate) fn bit(&mut self) -> Result<bool, Malformed> {
        let byte = self.bytes.get(self.at / 8).ok_or(CUT)?;
        let bit = byte >> (7 - self.at % 8) & 1;
        self.at += 1;
        Ok(bit == 1)
    }

    /// The next `width` bits, 0 to 64, as a number.
    pub(crate) fn bits(&mut self, width: u32) -> Result<u64, Malformed> {
        if width == 0 {
            return Ok(0);
        }
        if width > 64 || self.left() < width as usize {
            return Err(CUT);
        }
        let (byte, shift) = (self.at / 8, self.at % 8);
        self.at += width as usize;
        let tail = self.bytes.get(byte..).unwrap_or_default();
        let mut window = [0; 9];
        let length = tail.len().min(9);
        window[..length].copy_from_slice(&tail[..length]);
        let [front @ .., last] = window;
        let front = u64::from_be_bytes(front) << shift;
        let word = if shift == 0 { front } else { front | u64::from(last) >> (8 - shift) };
        Ok(word >> (64 - width))
    }

    pub(crate) fn f64(&mut self) -> Result<f64, Malformed> {
        self.bits(64).map(f64::from_bits)
    }

    /// How many ones precede the next zero, counted up to `most`; the zero after `most` ones is not written.
    pub(crate) fn ones(&mut self, most: usize) -> Result<usize, Malformed> {
        for count in 0..most {
            if !self.bit()? {
                return Ok(count);
            }
        }
        Ok(most)
    }

    /// LEB128 whose bytes need not begin at a byte's border.
    pub(crate) fn uvarint(&mut self) -> Result<u64, Malformed> {
        let mut value = 0_u64;
        for shift in (0..70).step_by(7) {
            let byte = self.bits(8)?;
            value |= (byte & 0x7f).checked_shl(shift).unwrap_or(0);
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(Malformed("a number is longer than ten bytes"))
    }

    pub(crate) fn varint(&mut self) -> Result<i64, Malformed> {
        self.uvarint().map(unzigzag)
    }

    pub(crate) fn varbit_uint(&mut self) -> Result<u64, Malformed> {
        let width = VARBIT_WIDTHS[self.ones(8)?];
        self.bits(width)
    }

    pub(crate) fn varbit_int(&mut self) -> Result<i64, Malformed> {
        let width = VARBIT_WIDTHS[self.ones(8)?];
        self.bits(width).map(|bits| lean_signed(bits, width))
    }
}

/// Of `width` bits: −(2^(width−1) − 1) to 2^(width−1), one more on the positive side than two's complement has.
pub(crate) fn lean_signed(bits: u64, width: u32) -> i64 {
    if (1..64).contains(&width) && bits > 1 << (width - 1) { bits.wrapping_sub(1 << width) as i64 } else { bits as i64 }
}

/// Two's complement of `width` bits.
pub(crate) fn signed(bits: u64, width: u32) -> i64 {
    if (1..64).contains(&width) && bits >= 1 << (width - 1) {
        bits.wrapping_sub(1 << width) as i64
    } else {
        bits as i64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_cross_bytes() {
        let bytes = [0b1010_0101, 0xff, 0, 0, 0, 0, 0, 0, 0b1000_0000, 1];
        let mut bits = Bits::new(&bytes);
        assert_eq!(bits.bits(3), Ok(0b101));
        assert_eq!(bits.bits(0), Ok(0));
        assert_eq!(bits.bits(64), Ok(0b0_0101_1111_1111 << 51 | 0b100));
        assert_eq!(bits.left(), 13);
        assert!(bits.bits(14).is_err());
        assert_eq!(bits.bits(13), Ok(1));
        assert!(bits.bit().is_err());
    }

    #[test]
    fn varbit_numbers_have_one_more_on_the_positive_side() {
        // "10" and three bits: −3 to 4.
        for (three, expected) in [(0b100, 4), (0b101, -3), (0b111, -1), (0b001, 1)] {
            assert_eq!(Bits::new(&[0b1000_0000 | three << 3]).varbit_int(), Ok(expected));
        }
        assert_eq!(Bits::new(&[0]).varbit_int(), Ok(0));
        assert_eq!(signed(0b100, 3), -4);
        let mut worst = vec![0xff];
        worst.extend(i64::MIN.to_be_bytes());
        assert_eq!(Bits::new(&worst).varbit_int(), Ok(i64::MIN));
    }
}
