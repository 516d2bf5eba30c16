//! Native histograms with integer counts: everything but the sum as delta of deltas.

use pharos_model::{BucketSide, BucketSpan, Histogram, is_stale_nan};

use super::layout::{self, Layout};
use super::reset_hint;
use super::xor::XorValue;
use crate::bits::Bits;
use crate::error::Malformed;
use crate::points::HistogramPoint;

/// A number that is told by the change of its change.
#[derive(Debug, Clone, Copy, Default)]
struct Trend {
    value: i64,
    delta: i64,
}

impl Trend {
    fn read(&mut self, bits: &mut Bits<'_>) -> Result<(), Malformed> {
        self.delta = self.delta.wrapping_add(bits.varbit_int()?);
        self.value = self.value.wrapping_add(self.delta);
        Ok(())
    }
}

pub(super) fn decode(bytes: &[u8], has_starts: bool, out: &mut Vec<HistogramPoint>) -> Result<(), Malformed> {
    let (samples, flags, mut starts, mut bits) = layout::header(bytes, has_starts)?;
    if samples == 0 {
        return Ok(());
    }
    let bits = &mut bits;
    let layout = Layout::read(bits)?;
    let (positive_count, negative_count) = layout.bucket_counts(samples, bits)?;
    let mut positive = vec![Trend::default(); positive_count];
    let mut negative = vec![Trend::default(); negative_count];
    let (mut time, mut count, mut zero_count) = (Trend::default(), Trend::default(), Trend::default());
    let mut sum = XorValue::default();
    for index in 0..samples {
        let previous_ms = time.value;
        let buckets = positive.iter_mut().chain(&mut negative);
        if index == 0 {
            time.value = bits.varbit_int()?;
            count.value = bits.varbit_uint()? as i64;
            zero_count.value = bits.varbit_uint()? as i64;
            sum = XorValue::first(bits.bits(64)?);
            for bucket in buckets {
                bucket.value = bits.varbit_int()?;
            }
        } else {
            time.read(bits)?;
            count.read(bits)?;
            zero_count.read(bits)?;
            sum.read(bits)?;
            // A staleness marker has no buckets, and the next histogram is told by those before it.
            if !is_stale_nan(sum.get()) {
                for bucket in buckets {
                    bucket.read(bits)?;
                }
            }
        }
        let start_ms = starts.read(bits, index, time.value, previous_ms)?;
        let histogram = if is_stale_nan(sum.get()) {
            Histogram { is_integer: true, ..Histogram::stale() }
        } else {
            Histogram {
                is_integer: true,
                reset_hint: reset_hint(flags, index),
                schema: layout.schema,
                zero_threshold: layout.zero_threshold,
                zero_count: zero_count.value as u64 as f64,
                count: count.value as u64 as f64,
                sum: sum.get(),
                positive: side(&layout.positive, &positive),
                negative: side(&layout.negative, &negative),
                custom_bounds: layout.custom_bounds.clone(),
            }
        };
        out.push(HistogramPoint { timestamp_ms: time.value, start_ms, histogram });
    }
    Ok(())
}

/// Counts as they are: each bucket is stored as its difference to the one before.
fn side(spans: &[BucketSpan], buckets: &[Trend]) -> BucketSide {
    let mut count = 0_i64;
    let absolute = |bucket: &Trend| {
        count = count.wrapping_add(bucket.value);
        count as f64
    };
    BucketSide { spans: spans.to_vec(), counts: buckets.iter().map(absolute).collect() }
}
