//! Native histograms of both versions: the messages differ only in the start timestamp.

use pharos_model::{BucketSide, BucketSpan, Histogram, ResetHint};

use crate::native::{SCHEMA_MAX, downscale};
use crate::wire::{Field, Reader, WireError, unzigzag};

/// Schemas that senders may use above what is stored; the resolution is lowered.
const FINE_SCHEMAS: std::ops::RangeInclusive<i32> = SCHEMA_MAX + 1..=52;

/// A histogram and its instants.
#[derive(Debug)]
pub(super) struct HistogramPoint {
    pub timestamp_ms: i64,
    /// 0 where unknown.
    pub start_ms: i64,
    pub histogram: Histogram,
}

#[derive(Debug, Default)]
struct Side {
    spans: Vec<BucketSpan>,
    deltas: Vec<i64>,
    counts: Vec<f64>,
}

/// Adds an element to a list of which `max` may be kept; one more is, so that its histogram is refused.
#[inline]
fn keep<T>(list: &mut Vec<T>, max: usize, element: T) {
    if list.len() <= max {
        list.push(element);
    }
}

/// Reads a histogram message. What it says is checked later; only damaged bytes are errors. Of buckets, spans and bounds no
/// more than one above `buckets_max` is kept, whatever the message has.
pub(super) fn decode(message: &[u8], buckets_max: usize) -> Result<HistogramPoint, WireError> {
    let mut histogram = Histogram { is_integer: true, ..Histogram::empty(0) };
    let (mut positive, mut negative) = (Side::default(), Side::default());
    let (mut timestamp_ms, mut start_ms) = (0, 0);
    let mut reader = Reader::new(message);
    while let Some(field) = reader.next()? {
        match field.number {
            1 => (histogram.is_integer, histogram.count) = (true, field.varint()? as f64),
            2 => (histogram.is_integer, histogram.count) = (false, field.double()?),
            3 => histogram.sum = field.double()?,
            4 => histogram.schema = field.zigzag()? as i32,
            5 => histogram.zero_threshold = field.double()?,
            6 => histogram.zero_count = field.varint()? as f64,
            7 => histogram.zero_count = field.double()?,
            8 => keep(&mut negative.spans, buckets_max, span(field)?),
            9 => field.each_varint(|delta| keep(&mut negative.deltas, buckets_max, unzigzag(delta)))?,
            10 => field.each_double(|count| keep(&mut negative.counts, buckets_max, count))?,
            11 => keep(&mut positive.spans, buckets_max, span(field)?),
            12 => field.each_varint(|delta| keep(&mut positive.deltas, buckets_max, unzigzag(delta)))?,
            13 => field.each_double(|count| keep(&mut positive.counts, buckets_max, count))?,
            14 => histogram.reset_hint = reset_hint(field.varint()?),
            15 => timestamp_ms = field.varint()? as i64,
            16 => field.each_double(|bound| keep(&mut histogram.custom_bounds, buckets_max, bound))?,
            17 => start_ms = field.varint()? as i64,
            _ => {}
        }
    }
    if histogram.is_stale() {
        let histogram = Histogram { is_integer: histogram.is_integer, ..Histogram::stale() };
        return Ok(HistogramPoint { timestamp_ms, start_ms, histogram });
    }
    histogram.positive = positive.absolute(histogram.is_integer);
    histogram.negative = negative.absolute(histogram.is_integer);
    lower(&mut histogram);
    Ok(HistogramPoint { timestamp_ms, start_ms, histogram })
}

/// Lowers a sound histogram of a fine schema; an unsound one is left as it is, to be refused.
fn lower(histogram: &mut Histogram) {
    if FINE_SCHEMAS.contains(&histogram.schema) {
        let fine = std::mem::replace(&mut histogram.schema, SCHEMA_MAX);
        if histogram.validate().is_ok() {
            histogram.schema = fine;
            downscale(histogram);
        }
    }
}

impl Side {
    /// Counts as they are: integer histograms send the difference to the previous bucket.
    fn absolute(self, is_integer: bool) -> BucketSide {
        let counts = if is_integer {
            let mut count = 0_i64;
            let step = |delta| {
                count = count.wrapping_add(delta);
                count as f64
            };
            self.deltas.into_iter().map(step).collect()
        } else {
            self.counts
        };
        BucketSide { spans: self.spans, counts }
    }
}

fn span(field: Field<'_>) -> Result<BucketSpan, WireError> {
    let mut span = BucketSpan { offset: 0, length: 0 };
    let mut reader = Reader::new(field.bytes()?);
    while let Some(field) = reader.next()? {
        match field.number {
            1 => span.offset = field.zigzag()? as i32,
            2 => span.length = field.varint()? as u32,
            _ => {}
        }
    }
    Ok(span)
}

fn reset_hint(number: u64) -> ResetHint {
    match number {
        1 => ResetHint::Reset,
        2 => ResetHint::NotReset,
        3 => ResetHint::Gauge,
        _ => ResetHint::Unknown,
    }
}
