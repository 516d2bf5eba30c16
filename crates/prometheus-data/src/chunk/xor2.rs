//! Floats of the newer encoding: one prefix says how the instant's delta changed and whether the value did; start
//! timestamps follow. A staleness marker is one pattern and leaves the value that later ones are compared with.

use pharos_model::{is_stale_nan, stale_nan};

use super::start::Starts;
use super::xor::XorValue;
use crate::bits::{Bits, signed};
use crate::bytes::Cursor;
use crate::error::Malformed;
use crate::points::FloatPoint;

pub(super) fn decode(bytes: &[u8], out: &mut Vec<FloatPoint>) -> Result<(), Malformed> {
    let mut cursor = Cursor(bytes);
    let count = cursor.u16()?;
    let mut starts = Starts::new(cursor.u8()?);
    let mut bits = Bits::new(cursor.0);
    let mut clock = SampleClock::default();
    // What the next value is compared with; a staleness marker is not.
    let mut baseline = XorValue::default();
    for index in 0..usize::from(count) {
        let previous_ms = clock.timestamp_ms;
        let value = match index {
            0 => {
                clock.timestamp_ms = bits.varint()?;
                let value = XorValue::first(bits.bits(64)?);
                if !is_stale_nan(value.get()) {
                    baseline = value;
                }
                value.get()
            }
            1 => {
                clock.delta_ms = bits.uvarint()? as i64;
                clock.tick(0);
                changed_value(&mut bits, &mut baseline)?
            }
            _ => joint(&mut bits, &mut clock, &mut baseline)?,
        };
        let start_ms = starts.read(&mut bits, index, clock.timestamp_ms, previous_ms)?;
        out.push(FloatPoint { timestamp_ms: clock.timestamp_ms, start_ms, value });
    }
    Ok(())
}

#[derive(Debug, Default)]
struct SampleClock {
    timestamp_ms: i64,
    delta_ms: i64,
}

impl SampleClock {
    fn tick(&mut self, more_ms: i64) {
        self.delta_ms = self.delta_ms.wrapping_add(more_ms);
        self.timestamp_ms = self.timestamp_ms.wrapping_add(self.delta_ms);
    }
}

/// A sample after the second.
fn joint(bits: &mut Bits<'_>, clock: &mut SampleClock, baseline: &mut XorValue) -> Result<f64, Malformed> {
    let width = match bits.ones(5)? {
        0 => {
            clock.tick(0);
            return Ok(baseline.get());
        }
        1 => {
            clock.tick(0);
            if bits.bit()? {
                baseline.read_new_window(bits)?;
            } else {
                baseline.read_in_window(bits)?;
            }
            return Ok(baseline.get());
        }
        2 => 13,
        3 => 20,
        4 => 64,
        _ => {
            clock.tick(0);
            return Ok(stale_nan());
        }
    };
    clock.tick(signed(bits.bits(width)?, width));
    changed_value(bits, baseline)
}

fn changed_value(bits: &mut Bits<'_>, baseline: &mut XorValue) -> Result<f64, Malformed> {
    match bits.ones(3)? {
        0 => {}
        1 => baseline.read_in_window(bits)?,
        2 => baseline.read_new_window(bits)?,
        _ => return Ok(stale_nan()),
    }
    Ok(baseline.get())
}
