//! Columns of doubles: whichever form is shortest, bit-exact in each.
//!
//! Layout, for a count that the caller knows (0 writes nothing): a *head*, all of whose fields are varints
//! (a byte below 128 is one), so that heads of many columns can be stored field by field; then the *bulk*.
//!
//! | tag | | rest of the head | bulk |
//! |---|---|---|---|
//! | 1 | equal integers | value (zigzag) | |
//! | 4 | XOR ([`crate::xor`]) | | bit string to the end |
//! | 5 | raw | | 8 bytes each |
//! | 6 | equal decimals | exponent, mantissa (zigzag) | |
//! | 7 | equal bits | the bits, bytes swapped | |
//! | 8 | decimals | exponent, first mantissa (zigzag), divisor, head of the integer column of `(mantissa − first) / divisor` | that column's bulk |
//! | 9 | decimals with exceptions | as 8 | as 8, then exceptions |
//! | 10 | near decimals | as 8 | as 8, then an integer column of distances in units of the last place, then exceptions |
//!
//! Exceptions: count of runs (varint); if any, flags (bit 0: all have the same bits, bit 1: all runs have
//! length 1), for each run the distance from the end of the previous one (varint) and, without bit 1, its
//! length − 1 (varint); then 8 bytes once or for each run. A run has equal bits throughout.
//!
//! Read, no longer written: tag 0, equal bits in 8 bytes; tags 2 and 3, decimals and near decimals with
//! the exceptions in front of the first mantissa, these as: count, then if any whether all have the same
//! bits (`u8`), the positions as distances from the end of the previous one, and 8 bytes once or for each.

mod exceptions;

use crate::bytes::{Reader, push_varint, push_zigzag};
use crate::decimal::{self, Decimals, EXPONENT_MAX, ULPS_MAX};
use crate::{CHUNK_SAMPLES_MAX, ChunkError, Form, ints, xor};

const OLD_EQUAL_BITS: u8 = 0;
const EQUAL_INTEGERS: u8 = 1;
const OLD_DECIMALS: u8 = 2;
const OLD_NEAR_DECIMALS: u8 = 3;
const XOR: u8 = 4;
const RAW: u8 = 5;
const EQUAL_DECIMALS: u8 = 6;
const EQUAL_BITS: u8 = 7;
const DECIMALS: u8 = 8;
const DECIMALS_AND_EXCEPTIONS: u8 = 9;
const NEAR_DECIMALS: u8 = 10;

/// Varints in the longest head.
pub const HEAD_FIELDS_MAX: usize = 4 + ints::HEAD_FIELDS_MAX;

/// No encoding of `count` values is longer.
#[must_use]
pub const fn worst_case_len(count: usize) -> usize {
    // The longest head is that of equal bits.
    if count == 0 { 0 } else { 3 + 8 * count }
}

/// Appends an encoding of `values`, at most [`CHUNK_SAMPLES_MAX`] of them, and answers the length of its head.
///
/// # Panics
/// If there are more.
pub fn encode(values: &[f64], form: Form, out: &mut Vec<u8>) -> usize {
    assert!(values.len() <= CHUNK_SAMPLES_MAX, "a chunk holds at most {CHUNK_SAMPLES_MAX} samples");
    let Some(first) = values.first() else { return 0 };
    let start = out.len();
    if all_equal(values, *first) {
        encode_equal(*first, out);
        return out.len() - start;
    }
    let exact = Decimals::of(values, 0);
    let exceptions = exact.exceptions.len();
    let mut head_len = if exceptions * 4 < values.len() * 3 {
        encode_decimals(values, &exact, form, out)
    } else {
        encode_xor(values, out)
    };
    // Alternatives are tried only where the first form is dear.
    let dear = out.len() - start > values.len() * 2 + 8;
    if exceptions > 2 && (dear || exceptions * 16 > values.len()) {
        keep_shorter(start, &mut head_len, out, |out| {
            let near = Decimals::of(values, ULPS_MAX);
            (near.exceptions.len() < exceptions).then(|| encode_decimals(values, &near, form, out))
        });
    }
    if dear && out[start] != XOR {
        keep_shorter(start, &mut head_len, out, |out| Some(encode_xor(values, out)));
    }
    if out.len() - start > 1 + 8 * values.len() {
        out.truncate(start);
        out.push(RAW);
        out.extend(values.iter().flat_map(|value| value.to_bits().to_le_bytes()));
        head_len = 1;
    }
    head_len
}

/// Appends `count` values to `out`, at most [`CHUNK_SAMPLES_MAX`], from a head and a bulk. The bulk may be
/// apart, or be empty and follow in `head`: whatever was encoded is decoded as `decode(bytes, &[], …)` too.
///
/// # Errors
/// [`ChunkError`] for bytes that [`encode`] did not write; `out` may have grown by up to `count`.
pub fn decode(head: &[u8], bulk: &[u8], count: usize, out: &mut Vec<f64>) -> Result<(), ChunkError> {
    if count > CHUNK_SAMPLES_MAX {
        return Err(ChunkError::OutOfBounds { what: "sample count" });
    }
    if count == 0 {
        return Ok(());
    }
    out.reserve(count);
    let mut reader = Reader::new(head);
    let tag = reader.byte()?;
    let equal = match tag {
        EQUAL_INTEGERS => reader.zigzag()? as f64,
        EQUAL_DECIMALS => {
            let exponent = take_exponent(&mut reader)?;
            decimal::value_of(reader.zigzag()?, exponent)
        }
        EQUAL_BITS => f64::from_bits(reader.varint()?.swap_bytes()),
        OLD_EQUAL_BITS => f64::from_bits(reader.u64()?),
        OLD_DECIMALS | OLD_NEAR_DECIMALS | DECIMALS | DECIMALS_AND_EXCEPTIONS | NEAR_DECIMALS => {
            return decode_decimals(&mut reader, bulk, tag, count, out);
        }
        XOR | RAW => {
            let bulk = if bulk.is_empty() { reader.rest() } else { bulk };
            return if tag == XOR { xor::decode(bulk, count, out) } else { decode_raw(bulk, count, out) };
        }
        found => return Err(ChunkError::Unknown { what: "value column tag", found }),
    };
    out.resize(out.len() + count, equal);
    Ok(())
}

/// Whether the head of a column that is not empty says that all its values are decimals: finite, neither infinite nor
/// any NaN. False where only decoding tells.
#[must_use]
pub fn are_decimals(head: &[u8]) -> bool {
    matches!(head.first(), Some(&(EQUAL_INTEGERS | EQUAL_DECIMALS | DECIMALS)))
}

fn decode_raw(bulk: &[u8], count: usize, out: &mut Vec<f64>) -> Result<(), ChunkError> {
    let mut reader = Reader::new(bulk);
    for _ in 0..count {
        out.push(f64::from_bits(reader.u64()?));
    }
    Ok(())
}

fn all_equal(values: &[f64], first: f64) -> bool {
    // Eight at a time are compared without a branch for each; most columns end in the first eight.
    let (eights, rest) = values.as_chunks::<8>();
    let differ = |value: &f64| value.to_bits() ^ first.to_bits();
    eights.iter().all(|eight| eight.iter().fold(0, |all, value| all | differ(value)) == 0)
        && rest.iter().all(|value| differ(value) == 0)
}

fn encode_equal(value: f64, out: &mut Vec<u8>) {
    let decimal = Decimals::of(&[value], 0);
    match (decimal.exceptions.is_empty(), decimal.exponent) {
        (true, 0) => {
            out.push(EQUAL_INTEGERS);
            push_zigzag(out, decimal.mantissas[0]);
        }
        (true, exponent) => {
            out.extend([EQUAL_DECIMALS, exponent as u8]);
            push_zigzag(out, decimal.mantissas[0]);
        }
        _ => {
            out.push(EQUAL_BITS);
            // Short decimals of other bases and most special values end in zero bytes.
            push_varint(out, value.to_bits().swap_bytes());
        }
    }
}

fn encode_xor(values: &[f64], out: &mut Vec<u8>) -> usize {
    out.push(XOR);
    xor::encode(values, out);
    1
}

/// Replaces `out[start..]` by what `alternative` appends, if that is shorter.
fn keep_shorter(
    start: usize,
    head_len: &mut usize,
    out: &mut Vec<u8>,
    alternative: impl FnOnce(&mut Vec<u8>) -> Option<usize>,
) {
    let middle = out.len();
    let other = alternative(out);
    match other.filter(|_| out.len() - middle < middle - start) {
        Some(other) => {
            out.drain(start..middle);
            *head_len = other;
        }
        None => out.truncate(middle),
    }
}

fn encode_decimals(values: &[f64], decimals: &Decimals, form: Form, out: &mut Vec<u8>) -> usize {
    let start = out.len();
    let first = decimals.mantissas[0];
    let divisor = decimals.divisor();
    out.push(match (decimals.ulps.is_empty(), decimals.exceptions.is_empty()) {
        (false, _) => NEAR_DECIMALS,
        (true, true) => DECIMALS,
        (true, false) => DECIMALS_AND_EXCEPTIONS,
    });
    out.push(decimals.exponent as u8);
    push_zigzag(out, first);
    push_varint(out, divisor);
    let fields = out.len() - start;
    let signed_divisor = divisor as i64;
    let distances = decimals.mantissas.iter().map(|mantissa| mantissa - first);
    // Division is slow, and most columns have no common divisor.
    let scaled: Vec<i64> = match signed_divisor {
        1 => distances.collect(),
        // Exact divisions all: pages, sectors.
        _ if divisor.is_power_of_two() => distances.map(|distance| distance >> divisor.trailing_zeros()).collect(),
        _ => distances.map(|distance| distance / signed_divisor).collect(),
    };
    let head_len = fields + ints::encode(&scaled, form, out);
    if !decimals.ulps.is_empty() {
        ints::encode(&decimals.ulps, form, out);
    }
    if !decimals.ulps.is_empty() || !decimals.exceptions.is_empty() {
        exceptions::encode(values, &decimals.exceptions, out);
    }
    head_len
}

fn take_exponent(reader: &mut Reader<'_>) -> Result<usize, ChunkError> {
    let exponent = usize::from(reader.byte()?);
    if exponent > EXPONENT_MAX {
        return Err(ChunkError::OutOfBounds { what: "decimal exponent" });
    }
    Ok(exponent)
}

fn decode_decimals<'a>(
    reader: &mut Reader<'a>,
    bulk: &'a [u8],
    tag: u8,
    count: usize,
    out: &mut Vec<f64>,
) -> Result<(), ChunkError> {
    let exponent = take_exponent(reader)?;
    let mut odd = match tag {
        OLD_DECIMALS | OLD_NEAR_DECIMALS => exceptions::decode_old(reader, count)?,
        _ => Vec::new(),
    };
    let first = reader.zigzag()?;
    let divisor = reader.varint()? as i64;
    let mut mantissas = Vec::new();
    let column = ints::Head::read(reader)?;
    let reader = &mut if bulk.is_empty() { *reader } else { Reader::new(bulk) };
    column.decode_bulk(reader, count, &mut mantissas)?;
    let start = out.len();
    let restored = mantissas.iter().map(|mantissa| first.wrapping_add(mantissa.wrapping_mul(divisor)));
    if exponent == 0 {
        out.extend(restored.map(|mantissa| mantissa as f64));
    } else {
        out.extend(restored.map(|mantissa| decimal::value_of(mantissa, exponent)));
    }
    if matches!(tag, NEAR_DECIMALS | OLD_NEAR_DECIMALS) {
        mantissas.clear();
        ints::decode(reader, count, &mut mantissas)?;
        for (value, ulps) in out[start..].iter_mut().zip(&mantissas) {
            *value = f64::from_bits((value.to_bits() as i64).wrapping_add(*ulps) as u64);
        }
    }
    if matches!(tag, NEAR_DECIMALS | DECIMALS_AND_EXCEPTIONS) {
        odd = exceptions::decode(reader, count)?;
    }
    for (positions, bits) in odd {
        out[start..][positions].fill(f64::from_bits(bits));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
