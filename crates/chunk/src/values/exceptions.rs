//! Values that fit no form of their column: where they stand, and their bits.

use std::ops::Range;

use crate::ChunkError;
use crate::bytes::{Reader, push_varint};

/// All runs have the same bits.
const SAME: u8 = 1;
/// All runs have length 1.
const SINGLE: u8 = 2;

/// Positions with equal bits.
type Run = (Range<usize>, u64);

/// Appends the values at `positions`, which ascend.
pub(super) fn encode(values: &[f64], positions: &[usize], out: &mut Vec<u8>) {
    let mut runs: Vec<Run> = Vec::new();
    for position in positions {
        let bits = values[*position].to_bits();
        match runs.last_mut() {
            Some((range, of_run)) if range.end == *position && *of_run == bits => range.end += 1,
            _ => runs.push((*position..position + 1, bits)),
        }
    }
    push_varint(out, runs.len() as u64);
    let Some((_, first_bits)) = runs.first() else { return };
    let same = runs.iter().all(|(_, bits)| bits == first_bits);
    let single = runs.iter().all(|(range, _)| range.len() == 1);
    out.push(if same { SAME } else { 0 } | if single { SINGLE } else { 0 });
    let mut next = 0;
    for (range, _) in &runs {
        push_varint(out, (range.start - next) as u64);
        if !single {
            push_varint(out, range.len() as u64 - 1);
        }
        next = range.end;
    }
    for (_, bits) in &runs[..if same { 1 } else { runs.len() }] {
        out.extend_from_slice(&bits.to_le_bytes());
    }
}

/// Runs below `count` with their bits.
pub(super) fn decode(reader: &mut Reader<'_>, count: usize) -> Result<Vec<Run>, ChunkError> {
    let runs = reader.count("exception count", count)?;
    if runs == 0 {
        return Ok(Vec::new());
    }
    let flags = reader.byte()?;
    if flags > SAME | SINGLE {
        return Err(ChunkError::Unknown { what: "flags of exceptions", found: flags });
    }
    let ranges = take_ranges(reader, runs, count, flags & SINGLE != 0)?;
    take_bits(reader, ranges, flags & SAME != 0)
}

/// As tags 2 and 3 have them.
pub(super) fn decode_old(reader: &mut Reader<'_>, count: usize) -> Result<Vec<Run>, ChunkError> {
    let runs = reader.count("exception count", count)?;
    if runs == 0 {
        return Ok(Vec::new());
    }
    let same = reader.byte()? != 0;
    let ranges = take_ranges(reader, runs, count, true)?;
    take_bits(reader, ranges, same)
}

fn take_ranges(
    reader: &mut Reader<'_>,
    runs: usize,
    count: usize,
    single: bool,
) -> Result<Vec<Range<usize>>, ChunkError> {
    let mut ranges = Vec::with_capacity(runs);
    let mut next = 0;
    for _ in 0..runs {
        let start = next + reader.count("exception position", count)?;
        let end = start + 1 + if single { 0 } else { reader.count("exception run", count)? };
        if end > count {
            return Err(ChunkError::OutOfBounds { what: "exception position" });
        }
        ranges.push(start..end);
        next = end;
    }
    Ok(ranges)
}

fn take_bits(reader: &mut Reader<'_>, ranges: Vec<Range<usize>>, same: bool) -> Result<Vec<Run>, ChunkError> {
    let mut bits = 0;
    ranges
        .into_iter()
        .enumerate()
        .map(|(index, range)| {
            if index == 0 || !same {
                bits = reader.u64()?;
            }
            Ok((range, bits))
        })
        .collect()
}
