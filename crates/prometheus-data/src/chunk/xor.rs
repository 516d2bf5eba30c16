//! Floats as Gorilla has them: delta of deltas of instants, XOR of values.

use crate::bits::{Bits, lean_signed};
use crate::bytes::Cursor;
use crate::error::Malformed;
use crate::points::FloatPoint;

/// The widths that the prefix of an instant's delta of deltas selects.
const DOD_WIDTHS: [u32; 5] = [0, 14, 17, 20, 64];

pub(super) fn decode(bytes: &[u8], out: &mut Vec<FloatPoint>) -> Result<(), Malformed> {
    let mut cursor = Cursor(bytes);
    let count = cursor.u16()?;
    let mut bits = Bits::new(cursor.0);
    let (mut timestamp_ms, mut delta_ms) = (0_i64, 0_i64);
    let mut value = XorValue::default();
    for index in 0..count {
        match index {
            0 => {
                timestamp_ms = bits.varint()?;
                value = XorValue::first(bits.bits(64)?);
            }
            1 => {
                delta_ms = bits.uvarint()? as i64;
                timestamp_ms = timestamp_ms.wrapping_add(delta_ms);
                value.read(&mut bits)?;
            }
            _ => {
                let width = DOD_WIDTHS[bits.ones(4)?];
                delta_ms = delta_ms.wrapping_add(lean_signed(bits.bits(width)?, width));
                timestamp_ms = timestamp_ms.wrapping_add(delta_ms);
                value.read(&mut bits)?;
            }
        }
        out.push(FloatPoint { timestamp_ms, start_ms: 0, value: value.get() });
    }
    Ok(())
}

/// A value that each read changes by XOR.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct XorValue {
    bits: u64,
    leading: u32,
    trailing: u32,
}

impl XorValue {
    pub(super) fn first(bits: u64) -> Self {
        Self { bits, leading: 0, trailing: 0 }
    }

    pub(super) fn get(&self) -> f64 {
        f64::from_bits(self.bits)
    }

    pub(super) fn read(&mut self, bits: &mut Bits<'_>) -> Result<(), Malformed> {
        match bits.ones(2)? {
            0 => Ok(()),
            1 => self.read_in_window(bits),
            _ => self.read_new_window(bits),
        }
    }

    /// The difference lies between the leading and trailing zeros of the last one.
    pub(super) fn read_in_window(&mut self, bits: &mut Bits<'_>) -> Result<(), Malformed> {
        let difference = bits.bits(64 - self.leading - self.trailing)?;
        self.bits ^= difference << self.trailing;
        Ok(())
    }

    /// The difference brings its own count of leading zeros and of bits.
    pub(super) fn read_new_window(&mut self, bits: &mut Bits<'_>) -> Result<(), Malformed> {
        let leading = bits.bits(5)? as u32;
        let width = match bits.bits(6)? as u32 {
            // Six bits cannot say 64, and no difference has none.
            0 => 64,
            width => width,
        };
        let trailing = 64_u32.checked_sub(leading + width).ok_or(Malformed("a value of more than 64 bits"))?;
        (self.leading, self.trailing) = (leading, trailing);
        self.read_in_window(bits)
    }
}
