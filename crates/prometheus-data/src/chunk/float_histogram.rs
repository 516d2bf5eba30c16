//! Native histograms with float counts: everything but the instant by XOR.

use pharos_model::{BucketSide, BucketSpan, Histogram, is_stale_nan};

use super::layout::{self, Layout};
use super::reset_hint;
use super::xor::XorValue;
use crate::error::Malformed;
use crate::points::HistogramPoint;

pub(super) fn decode(bytes: &[u8], has_starts: bool, out: &mut Vec<HistogramPoint>) -> Result<(), Malformed> {
    let (samples, flags, mut starts, mut bits) = layout::header(bytes, has_starts)?;
    if samples == 0 {
        return Ok(());
    }
    let bits = &mut bits;
    let layout = Layout::read(bits)?;
    let (positive_count, negative_count) = layout.bucket_counts(samples, bits)?;
    let mut positive = vec![XorValue::default(); positive_count];
    let mut negative = vec![XorValue::default(); negative_count];
    let (mut timestamp_ms, mut delta_ms) = (0_i64, 0_i64);
    let (mut count, mut zero_count, mut sum) = (XorValue::default(), XorValue::default(), XorValue::default());
    for index in 0..samples {
        let previous_ms = timestamp_ms;
        if index == 0 {
            timestamp_ms = bits.varbit_int()?;
            for value in [&mut count, &mut zero_count, &mut sum].into_iter().chain(&mut positive).chain(&mut negative) {
                *value = XorValue::first(bits.bits(64)?);
            }
        } else {
            delta_ms = delta_ms.wrapping_add(bits.varbit_int()?);
            timestamp_ms = timestamp_ms.wrapping_add(delta_ms);
            for value in [&mut count, &mut zero_count, &mut sum] {
                value.read(bits)?;
            }
            // A staleness marker has no buckets, and the next histogram is told by those before it.
            if !is_stale_nan(sum.get()) {
                for bucket in positive.iter_mut().chain(&mut negative) {
                    bucket.read(bits)?;
                }
            }
        }
        let start_ms = starts.read(bits, index, timestamp_ms, previous_ms)?;
        let histogram = if is_stale_nan(sum.get()) {
            Histogram::stale()
        } else {
            Histogram {
                is_integer: false,
                reset_hint: reset_hint(flags, index),
                schema: layout.schema,
                zero_threshold: layout.zero_threshold,
                zero_count: zero_count.get(),
                count: count.get(),
                sum: sum.get(),
                positive: side(&layout.positive, &positive),
                negative: side(&layout.negative, &negative),
                custom_bounds: layout.custom_bounds.clone(),
            }
        };
        out.push(HistogramPoint { timestamp_ms, start_ms, histogram });
    }
    Ok(())
}

fn side(spans: &[BucketSpan], buckets: &[XorValue]) -> BucketSide {
    BucketSide { spans: spans.to_vec(), counts: buckets.iter().map(XorValue::get).collect() }
}
