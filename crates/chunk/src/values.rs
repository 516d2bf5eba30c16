//! Columns of doubles: whichever of five forms is shortest, bit-exact in each.
//!
//! Layout, for a count that the caller knows (0 writes nothing): a tag, then
//! - 0 equal bits: 8 bytes
//! - 1 equal integers: zigzag varint
//! - 2 decimals: exponent `u8`, exceptions, first mantissa (zigzag), divisor (varint), integer column of
//!   `(mantissa − first) / divisor`
//! - 3 near decimals: as 2, then an integer column of distances in units of the last place
//! - 4 XOR bit string to the end ([`crate::xor`])
//! - 5 raw: 8 bytes each
//!
//! Exceptions: count (varint); if any, whether all have the same bits (`u8`), the positions as distances
//! from the end of the previous one (varints), and 8 bytes once or for each.

use crate::bytes::{Reader, push_varint, push_zigzag};
use crate::decimal::{self, Decimals, EXPONENT_MAX, ULPS_MAX};
use crate::{CHUNK_SAMPLES_MAX, ChunkError, ints, xor};

const EQUAL_BITS: u8 = 0;
const EQUAL_INTEGERS: u8 = 1;
const DECIMALS: u8 = 2;
const NEAR_DECIMALS: u8 = 3;
const XOR: u8 = 4;
const RAW: u8 = 5;

/// No encoding of `count` values is longer.
#[must_use]
pub const fn worst_case_len(count: usize) -> usize {
    if count == 0 { 0 } else { 1 + 8 * count }
}

/// Appends an encoding of `values`, at most [`CHUNK_SAMPLES_MAX`] of them.
///
/// # Panics
/// If there are more.
pub fn encode(values: &[f64], out: &mut Vec<u8>) {
    assert!(values.len() <= CHUNK_SAMPLES_MAX, "a chunk holds at most {CHUNK_SAMPLES_MAX} samples");
    let Some(first) = values.first() else { return };
    if values.iter().all(|value| value.to_bits() == first.to_bits()) {
        return encode_equal(*first, out);
    }
    let start = out.len();
    let exact = Decimals::of(values, 0);
    let exceptions = exact.exceptions.len();
    if exceptions * 4 < values.len() * 3 {
        encode_decimals(values, &exact, DECIMALS, out);
    } else {
        out.push(XOR);
        xor::encode(values, out);
    }
    // Alternatives are tried only where the first form is dear.
    let dear = out.len() - start > values.len() * 2 + 8;
    if exceptions > 2 && (dear || exceptions * 16 > values.len()) {
        keep_shorter(start, out, |out| {
            let near = Decimals::of(values, ULPS_MAX);
            if near.exceptions.len() < exceptions {
                encode_decimals(values, &near, NEAR_DECIMALS, out);
            }
        });
    }
    if dear && out[start] != XOR {
        keep_shorter(start, out, |out| {
            out.push(XOR);
            xor::encode(values, out);
        });
    }
    if out.len() - start > worst_case_len(values.len()) {
        out.truncate(start);
        out.push(RAW);
        out.extend(values.iter().flat_map(|value| value.to_bits().to_le_bytes()));
    }
}

/// Appends `count` values to `out`, at most [`CHUNK_SAMPLES_MAX`].
///
/// # Errors
/// [`ChunkError`] for bytes that [`encode`] did not write; `out` may have grown by up to `count`.
pub fn decode(bytes: &[u8], count: usize, out: &mut Vec<f64>) -> Result<(), ChunkError> {
    if count > CHUNK_SAMPLES_MAX {
        return Err(ChunkError::OutOfBounds { what: "sample count" });
    }
    if count == 0 {
        return Ok(());
    }
    out.reserve(count);
    let mut reader = Reader::new(bytes);
    match reader.byte()? {
        EQUAL_BITS => {
            let value = f64::from_bits(reader.u64()?);
            out.resize(out.len() + count, value);
        }
        EQUAL_INTEGERS => {
            let value = reader.zigzag()? as f64;
            out.resize(out.len() + count, value);
        }
        tag @ (DECIMALS | NEAR_DECIMALS) => decode_decimals(&mut reader, tag, count, out)?,
        XOR => xor::decode(reader.rest(), count, out)?,
        RAW => {
            for _ in 0..count {
                out.push(f64::from_bits(reader.u64()?));
            }
        }
        found => return Err(ChunkError::Unknown { what: "value column tag", found }),
    }
    Ok(())
}

fn encode_equal(value: f64, out: &mut Vec<u8>) {
    let integer = value as i64;
    if (integer as f64).to_bits() == value.to_bits() && integer.unsigned_abs() < 1 << 48 {
        out.push(EQUAL_INTEGERS);
        push_zigzag(out, integer);
    } else {
        out.push(EQUAL_BITS);
        out.extend_from_slice(&value.to_bits().to_le_bytes());
    }
}

/// Replaces `out[start..]` by what `alternative` appends, if that is shorter and not nothing.
fn keep_shorter(start: usize, out: &mut Vec<u8>, alternative: impl FnOnce(&mut Vec<u8>)) {
    let middle = out.len();
    alternative(out);
    let length = out.len() - middle;
    if length > 0 && length < middle - start {
        out.drain(start..middle);
    } else {
        out.truncate(middle);
    }
}

fn encode_decimals(values: &[f64], decimals: &Decimals, tag: u8, out: &mut Vec<u8>) {
    out.push(tag);
    out.push(decimals.exponent as u8);
    encode_exceptions(values, &decimals.exceptions, out);
    let first = decimals.mantissas[0];
    // Mantissas are below 2^53, so no difference overflows.
    let divisor = decimals.mantissas.iter().fold(0, |divisor, mantissa| gcd(divisor, mantissa.abs_diff(first))).max(1);
    push_zigzag(out, first);
    push_varint(out, divisor);
    let signed_divisor = divisor as i64;
    let scaled: Vec<i64> = decimals.mantissas.iter().map(|mantissa| (mantissa - first) / signed_divisor).collect();
    ints::encode(&scaled, out);
    if tag == NEAR_DECIMALS {
        ints::encode(&decimals.ulps, out);
    }
}

fn decode_decimals(reader: &mut Reader<'_>, tag: u8, count: usize, out: &mut Vec<f64>) -> Result<(), ChunkError> {
    let exponent = usize::from(reader.byte()?);
    if exponent > EXPONENT_MAX {
        return Err(ChunkError::OutOfBounds { what: "decimal exponent" });
    }
    let exceptions = decode_exceptions(reader, count)?;
    let first = reader.zigzag()?;
    let divisor = reader.varint()? as i64;
    let mut mantissas = Vec::new();
    ints::decode(reader, count, &mut mantissas)?;
    for mantissa in &mut mantissas {
        *mantissa = first.wrapping_add(mantissa.wrapping_mul(divisor));
    }
    let start = out.len();
    if exponent == 0 {
        out.extend(mantissas.iter().map(|mantissa| *mantissa as f64));
    } else {
        out.extend(mantissas.iter().map(|mantissa| decimal::value_of(*mantissa, exponent)));
    }
    if tag == NEAR_DECIMALS {
        mantissas.clear();
        ints::decode(reader, count, &mut mantissas)?;
        for (value, ulps) in out[start..].iter_mut().zip(&mantissas) {
            *value = f64::from_bits((value.to_bits() as i64).wrapping_add(*ulps) as u64);
        }
    }
    for (position, bits) in exceptions {
        out[start + position] = f64::from_bits(bits);
    }
    Ok(())
}

fn encode_exceptions(values: &[f64], positions: &[usize], out: &mut Vec<u8>) {
    push_varint(out, positions.len() as u64);
    let Some(first) = positions.first() else { return };
    let first_bits = values[*first].to_bits();
    let same = positions.iter().all(|position| values[*position].to_bits() == first_bits);
    out.push(u8::from(same));
    let mut next = 0;
    for position in positions {
        push_varint(out, (position - next) as u64);
        next = position + 1;
    }
    for position in &positions[..if same { 1 } else { positions.len() }] {
        out.extend_from_slice(&values[*position].to_bits().to_le_bytes());
    }
}

/// Positions below `count` with their bits.
fn decode_exceptions(reader: &mut Reader<'_>, count: usize) -> Result<Vec<(usize, u64)>, ChunkError> {
    let length = reader.count("exception count", count)?;
    if length == 0 {
        return Ok(Vec::new());
    }
    let same = reader.byte()? != 0;
    let mut exceptions = Vec::with_capacity(length);
    let mut next = 0;
    for _ in 0..length {
        let position = next + reader.count("exception position", count)?;
        if position >= count {
            return Err(ChunkError::OutOfBounds { what: "exception position" });
        }
        exceptions.push((position, 0));
        next = position + 1;
    }
    let mut bits = 0;
    for (index, (_, slot)) in exceptions.iter_mut().enumerate() {
        if index == 0 || !same {
            bits = reader.u64()?;
        }
        *slot = bits;
    }
    Ok(exceptions)
}

fn gcd(mut a: u64, mut b: u64) -> u64 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

#[cfg(test)]
mod tests;
